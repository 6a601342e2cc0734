"""Outliers, stripes and beam hardening planted by numpy into line integrals of discs in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.datasets.ct.detector.beam_hardening import (
    coefficients_of,
    fit_beam_hardening,
    read_coefficients,
)
from restore.datasets.ct.detector.conditioning import conditioned, conditioning_of
from restore.datasets.ct.detector.rogue_rays import rogue_rays_found, rogue_rays_of
from restore.datasets.ct.detector.stripes import without_stripes
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import ParallelBeam, equispaced

VIEWS, BINS, MU = 90, 128, 0.02
NOISE = 0.01
BODY = (
    (3.0, -2.0, 50.0, 1.0),
    (15.0, 8.0, 6.0, 0.8),
    (-12.0, 14.0, 4.0, -0.6),
    (-20.0, -22.0, 8.0, 0.3),
)
"""x, y, radius in mm and attenuation in that of water."""  # fmt: skip

HERE = Path("scan.h5")
U = np.arange(BINS) - (BINS - 1) / 2
T = np.asarray(equispaced(VIEWS))[:, None]


def ways(x: float, y: float, radius: float) -> np.ndarray:
    """Lengths in mm that rays (views, bins) go through a disc, bins averaged."""
    found = np.zeros((VIEWS, BINS))
    for part in (-0.375, -0.125, 0.125, 0.375):
        away = U + part - x * np.cos(T) - y * np.sin(T)
        found += 2 * np.sqrt(np.clip(radius**2 - away**2, 0, None)) / 4
    return found


def clean(noise: float = NOISE, seed: int = 0) -> np.ndarray:
    y = sum(MU * share * ways(x0, y0, r) for x0, y0, r, share in BODY)
    return y + noise * np.random.default_rng(seed).standard_normal((VIEWS, BINS))


def picture(y: np.ndarray) -> np.ndarray:
    geometry = ParallelBeam(equispaced(VIEWS), BINS, 1.0, (112, 112))
    return fbp(torch.from_numpy(y.astype(np.float32)), geometry).numpy()


def apart_hu(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square distance of the pictures in HU."""
    return float(np.sqrt(np.mean((picture(first) - picture(second)) ** 2))) / MU * 1000


def run(y: np.ndarray, **options: str) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    stack = LazyStack((1, *y.shape), lambda i: y)
    return conditioned(stack, True, conditioning_of(SetupOptions(**options)), HERE, notes)[0], notes


@pytest.mark.parametrize("noise", [0.0, NOISE, 0.05])
def test_clean_data_hold_no_outliers(noise: float):
    y = clean(noise)
    bins, zingers = rogue_rays_of(y)
    assert not bins.size
    assert not zingers.any()
    assert rogue_rays_found(y) == []


def test_a_small_bright_object_is_no_zinger():
    """A bead one bin wide is an outlier in every view, beside one in the next."""
    bead = clean() + 1.0 * ways(30.0, -10.0, 0.5)
    assert not rogue_rays_of(bead)[1].any()


def test_planted_outliers_are_found_noted_and_bridged():
    y = clean()
    spoilt = y.copy()
    at = np.random.default_rng(1)
    views, bins = at.permutation(np.arange(2, VIEWS - 2, 2))[:25], at.integers(20, 108, 25)
    spoilt[views, bins] += np.where(np.arange(25) % 2, 1.5, -0.8)
    spoilt[:, 40] += 0.6  # a dead one
    spoilt[:, 77] = 1.0  # one that says the same whatever comes
    odd, zingers = rogue_rays_of(spoilt)
    np.testing.assert_array_equal(odd, [40, 77])
    planted = np.zeros(y.shape, bool)
    planted[views, bins] = True
    planted[:, [40, 77]] = False
    assert zingers[planted].mean() > 0.9
    assert zingers[~planted].sum() == 0
    said = " ".join(f.sentence for f in rogue_rays_found(spoilt))
    assert "bin(s) 40, 77" in said
    assert "--outliers bridge" in said
    mended, notes = run(spoilt, outliers="bridge")
    assert f"{int(zingers.sum())} zinger(s) bridged" in notes[0]
    assert "2 odd bin(s) bridged" in notes[0]
    # What is left is the few that were not found, and the noise that two bins and 25 rays lost.
    assert apart_hu(mended, y) < 0.2 * apart_hu(spoilt, y)
    np.testing.assert_array_equal(run(y, outliers="bridge")[0], y)


def test_stripes_are_taken_out_and_clean_data_left():
    at = np.random.default_rng(2)
    stripes = np.zeros(BINS)
    stripes[at.permutation(np.arange(24, 104, 4))[:9]] = at.uniform(0.05, 0.12, 9) * at.choice(
        [-1, 1], 9
    )
    y = clean()
    striped = y + stripes * (0.7 + 0.3 * y / y.max())  # a gain that is not the same for all light
    mended, notes = run(striped, rings="sorting")
    assert "bin(s) without their stripe" in notes[0]
    assert apart_hu(mended, y) < 0.5 * apart_hu(striped, y)
    # The stripes are 30 HU; clean noise differs by 0.6 HU where a bin passes for a stripe by chance.
    for noise in (0.0, NOISE):
        assert apart_hu(without_stripes(clean(noise))[0], clean(noise)) < 3.0
    assert striped.shape == mended.shape


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rings": "median"}, "expected sorting"),
        ({"rings": "sorting:6"}, "N odd"),
        ({"rings": "sorting:"}, "N odd"),
        ({"beam_hardening": "1,x"}, "expected numbers"),
        ({"beam_hardening": "-1,0.1"}, "the first above 0"),
        ({"beam_hardening": "1,nan"}, "finite"),
        ({"outliers": "zero"}, "must be one of"),
    ],
)
def test_words_that_mean_nothing_are_refused(options: dict[str, str], says: str):
    with pytest.raises(ConfigError, match=says):
        conditioning_of(SetupOptions(**options))  # type: ignore[arg-type]


def test_rows_of_a_panel_are_sinograms():
    y = clean()
    y[:, 40] += 0.6
    panel = np.repeat(y[:, None], 3, axis=1)
    notes: list[str] = []
    steps = conditioning_of(SetupOptions(outliers="bridge"))
    stack = conditioned(LazyStack(panel.shape, lambda k: panel[k]), False, steps, HERE, notes)
    np.testing.assert_array_equal(stack[:][:, 1], run(y, outliers="bridge")[0])
    assert notes == ["3 rows of the detector: 3 odd bin(s) bridged"]


KEV = np.array([30.0, 40.0, 50.0, 60.0, 80.0, 100.0])
WATER_PER_MM = np.array([0.03756, 0.02683, 0.02269, 0.02059, 0.01837, 0.01707])
"""Mass attenuation of liquid water at KEV, NIST's tables (XCOM, Hubbell and Seltzer), at 1 g/cm^3."""

SPECTRUM = np.array([0.10, 0.22, 0.25, 0.22, 0.14, 0.07])
"""Photons at KEV that a detector sees of a tube, roughly."""


def polychromatic(way_mm: np.ndarray) -> np.ndarray:
    """-log of what of the spectrum comes through so much water."""
    return -np.log(np.exp(-way_mm[..., None] * WATER_PER_MM) @ SPECTRUM)


def test_beam_hardening_of_water_is_undone(tmp_path: Path):
    """Fitted on one cylinder, tried on another: cupping of 20 HU becomes less than 3."""
    phantom = ways(0.0, 0.0, 52.0)
    found = fit_beam_hardening(polychromatic(phantom), phantom, MU, order=4)
    words = ",".join(map(str, found))
    file = tmp_path / "water.txt"
    file.write_text(words.replace(",", "\n"))
    assert coefficients_of(read_coefficients(str(file))) == found
    way = ways(4.0, -3.0, 42.0)
    hard = polychromatic(way)
    mended, _ = run(hard, beam_hardening=words)
    # A fit of order 4 to a smooth curve leaves 1e-3 of it.
    np.testing.assert_allclose(mended, MU * way, atol=5e-3)
    x, y = np.meshgrid(np.arange(112) - 55.5, 55.5 - np.arange(112))
    r = np.hypot(x - 4, y + 3)
    cupping = [
        p[r < 8].mean() - p[(r > 30) & (r < 36)].mean() for p in (picture(hard), picture(mended))
    ]
    assert cupping[0] / MU * 1000 < -15
    assert abs(cupping[1]) / MU * 1000 < 3


def test_a_polynomial_that_falls_and_fits_of_nothing_are_refused():
    with pytest.raises(InputError, match="falls between"):
        run(clean(), beam_hardening="1,-0.4")
    with pytest.raises(ConfigError, match="as many ways"):
        fit_beam_hardening(np.ones(5), np.ones(5), MU)
    with pytest.raises(ConfigError, match="NaN among"):
        fit_beam_hardening(np.full(5, np.nan), np.ones(5), MU)


def test_few_views_may_see_something_flat_edge_on():
    """One ray that stands out is a zinger where views are many; where they are few it may be a table."""
    for step, doubt in ((1, False), (12, True)):
        y = clean()[::step].copy()
        y[4, BINS // 2] += 3.0
        (found,) = rogue_rays_found(y)
        assert "zingers" in str(found)
        assert ("edge-on" in str(found)) == doubt
