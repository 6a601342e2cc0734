"""Centres of rotation of discs in closed form, of parallel rays and of fans, and of a scan of a synchrotron."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from restore.datasets.ct.rotation_axis.beam_centre import beam_about
from restore.datasets.ct.rotation_axis.centre import told_centre
from restore.datasets.ct.rotation_axis.centre_choice import centred
from restore.datasets.ct.rotation_axis.opposite_rays import told_by_opposite_rays
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam
from restore.operators.ct.geometry import ParallelBeam

BODY = ((3.0, -2.0, 40.0, 0.02), (15.0, 8.0, 6.0, 0.015), (-12.0, 14.0, 4.0, -0.01))
"""x, y, radius in mm and attenuation in 1/mm."""

NOISE = 0.01
QUARTER = 0.25
"""Of a bin: what a centre is asked for to. Errors seen: 0.13 (30 views, pictures), 0.03 (masses), 0.005 (rays)."""

TOOTH = Path(__file__).resolve().parents[5] / "shared" / "data" / "ct" / "tooth.h5"


def lines(theta: np.ndarray, s: np.ndarray, noise: float = NOISE) -> np.ndarray:
    """Line integrals along rays at angle theta that pass the axis at s, with noise."""
    y = np.zeros(np.broadcast_shapes(theta.shape, s.shape))
    for x0, y0, radius, mu in BODY:
        away = s - x0 * np.cos(theta) - y0 * np.sin(theta)
        y += 2 * mu * np.sqrt(np.clip(radius**2 - away**2, 0, None))
    return y + noise * np.random.default_rng(5).standard_normal(y.shape)


def angles(views: int, arc: float) -> np.ndarray:
    return np.radians(np.arange(views) * arc / views)


def fan_of(beam: FanBeam) -> np.ndarray:
    u = (np.arange(beam.n_det) - (beam.n_det - 1) / 2) * beam.det_spacing_mm + beam.det_offset_mm
    along = u / beam.source_detector_mm
    gamma = along if beam.detector_shape == "equiangular" else np.arctan(along)
    return lines(np.asarray(beam.angles)[:, None] - gamma, beam.source_object_mm * np.sin(gamma))


@pytest.mark.parametrize(
    ("views", "arc", "way"),
    [
        (90, 360.0, "opposite views"),
        (61, 360.0, "the centres of mass"),
        (60, 180.0, "the sharpest picture"),
        (30, 180.0, "the sharpest picture"),
        (46, 184.0, "opposite views"),
        (60, 120.0, "the centres of mass"),
    ],
)
def test_the_axis_of_parallel_rays_is_found_to_a_quarter_of_a_bin(views, arc, way):
    t = angles(views, arc)
    y = lines(t[:, None], np.arange(112) - 55.5 - 4.3)
    told = told_centre(y, ParallelBeam(t, 112, 1.0, (96, 96)))
    assert way in told.way
    assert told.offset_mm == pytest.approx(-4.3, abs=QUARTER)
    assert told.deviation_mm < QUARTER


@pytest.mark.parametrize(("last", "noted"), [(180.0 - 180 / 120, False), (180.0, True)])
def test_views_that_end_on_half_a_turn_are_known_whatever_their_angles_say(
    last: float, noted: bool
):
    """120 views up to `last`, in a file that says that they end a step short of 180 degrees."""
    t = np.radians(np.linspace(0.0, last, 120))
    body = lines(t[:, None], np.arange(112) - 55.5 - 4.3, noise=0.002)
    told = told_centre(body, ParallelBeam(angles(120, 180.0), 112, 1.0, (96, 96)))
    assert told.way.startswith("the seam of the half turn")
    assert ("the last view mirrors the first" in told.way) == noted
    assert told.offset_mm == pytest.approx(-4.3, abs=QUARTER)


def test_wide_sinograms_are_looked_at_with_bins_taken_together(monkeypatch):
    monkeypatch.setattr("restore.datasets.ct.rotation_axis.centre.MOST_BINS", 60)
    t = angles(45, 180.0)
    y = lines(t[:, None], np.arange(117) - 58.0 - 4.3)
    told = told_centre(y, ParallelBeam(t, 117, 1.0, (96, 96)))
    assert told.way == "the sharpest picture"
    assert told.offset_mm == pytest.approx(-4.3, abs=QUARTER)


def test_air_that_is_not_quite_dark_does_not_pull_the_centre():
    """A hundredth of a line integral in all 320 bins moves centres of mass over the whole detector by 1.6 bins."""
    t = angles(60, 120.0)
    y = lines(t[:, None], np.arange(320) - 159.5 - 40.0) + 0.01
    told = told_centre(y, ParallelBeam(t, 320, 1.0, (96, 96)))
    assert told.offset_mm == pytest.approx(-40.0, abs=QUARTER)


@pytest.mark.parametrize(
    ("views", "arc", "bins", "offset", "shape"),
    [
        (90, 360.0, 128, 3.3, "flat"),
        (61, 360.0, 128, -7.1, "equiangular"),
        (180, 360.0, 90, 38.0, "flat"),
        (90, 220.0, 128, 3.3, "flat"),
    ],
    ids=["full turn", "equiangular", "displaced", "short scan"],
)
def test_the_axis_of_a_fan_is_found_by_opposite_rays(views, arc, bins, offset, shape):
    beam = FanBeam(
        angles(views, arc), bins, 1.5, 300.0, 500.0, det_offset_mm=offset, detector_shape=shape
    )
    told = told_by_opposite_rays(fan_of(beam), dataclasses.replace(beam, det_offset_mm=0.0))
    assert told.offset_mm == pytest.approx(offset, abs=QUARTER * 1.5)


def test_an_arc_without_opposite_rays_tells_nothing():
    beam = FanBeam(angles(60, 170.0), 128, 1.5, 300.0, 500.0)
    assert math.isinf(told_by_opposite_rays(fan_of(beam), beam).deviation_mm)


def about(center: str, beam: Beam, stack: np.ndarray) -> tuple[Beam, str]:
    return beam_about(center, beam, LazyStack(stack.shape, lambda i: stack[i]), Path("scan.h5"))


def test_a_cone_is_centred_by_the_row_in_the_plane_of_its_source():
    fan = FanBeam(angles(60, 360.0), 128, 1.5, 300.0, 500.0, det_offset_mm=4.5)
    stack = np.repeat(fan_of(fan)[:, None], 5, axis=1)
    stack[:, 0] = stack[:, 4] = 0.0  # other rows are not asked
    cone = ConeBeam(fan.angles, (5, 128), 1.5, 300.0, 500.0, det_offset_mm=(0.7, 0.0))
    beam, sentence = about("auto", cone, stack)
    assert isinstance(beam, ConeBeam)
    assert beam.det_offset_mm == (0.7, pytest.approx(4.5, abs=QUARTER * 1.5))
    assert "opposite rays" in sentence
    beam, sentence = about("2.25", cone, stack)
    assert isinstance(beam, ConeBeam)
    assert beam.det_offset_mm == (0.7, 2.25)
    assert "as given" in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [({"pitch_mm": 20.0}, "pitch_mm"), ({"skew_deg": 3.0}, "skew_deg"), ({"det_offset_mm": (90.0, 0.0)}, "row in the")],
)  # fmt: skip
def test_a_cone_without_opposite_rays_is_refused(change, says):
    cone = ConeBeam(angles(8, 360.0), (5, 16), 1.5, 300.0, 500.0)
    with pytest.raises(ConfigError, match=says):
        about("auto", dataclasses.replace(cone, **change), np.zeros((8, 5, 16)))


def test_free_vectors_and_other_words_are_refused():
    vectors = ((300.0, 0, 0, -200.0, 0, 0, 0, 1, 0, 0, 0, 1),) * 2
    with pytest.raises(ConfigError, match="not for vectors"):
        about("1", FreeBeam(vectors, (5, 16)), np.zeros((2, 5, 16)))
    for word in ("middle", "nan", "1e999"):
        with pytest.raises(ConfigError, match="expected 'auto' or a number"):
            centred(word, 0.0, (1.0, 5), Path("scan.h5"), list)
    with pytest.raises(InputError, match="do not tell the centre"):
        centred("auto", 0.0, (1.0, 5), Path("scan.h5"), list)


@pytest.mark.slow
@pytest.mark.skipif(
    not TOOTH.exists(), reason="a scan of a synchrotron that lies beside the checkout"
)
@pytest.mark.parametrize("last_deg", [180.0, 180.0 * 180 / 181])
def test_the_tooth_turns_about_bin_295_6(last_deg: float):
    """View 180 mirrors view 0 at 295.59; the file's angles leave 180 out, and by them no views are opposite.

    The lags of views beside the two say the same; the sharpest picture by the file's angles lies at 295.9.
    """
    with h5py.File(TOOTH) as file:
        group = file["exchange"]
        counts, white, dark = (group[n][:, 0] for n in ("data", "data_white", "data_dark"))
    y = -np.log((counts - dark.mean(0)) / (white.mean(0) - dark.mean(0)))
    t = np.radians(np.linspace(0, last_deg, 181))
    told = told_centre(y, ParallelBeam(t, 640, 1.0, (640, 640)))
    assert 319.5 - told.offset_mm == pytest.approx(295.6, abs=QUARTER)
