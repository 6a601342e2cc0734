"""Counts with flat and dark frames in the place of line integrals, written by h5py, of both readers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.errors import InputError
from restore.noise import PostLogPoisson

VIEWS, BINS, DARK = 40, 64, 90.0
GAIN = 0.3
"""Counts of the detector a photon."""

PHOTONS = 2e4


def detected(slices: int = 2) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Line integrals of a disc (slices, views, bins), and counts, flats and darks of bins of unequal gain."""
    u = np.arange(BINS) - (BINS - 1) / 2
    y = np.tile(0.05 * np.sqrt(np.clip(22.0**2 - u**2, 0, None)), (slices, VIEWS, 1))
    draw = np.random.default_rng(4)
    light = PHOTONS * (1 + 0.2 * np.sin(np.arange(BINS)))
    counts = GAIN * draw.poisson(light * np.exp(-y)) + DARK
    flat = GAIN * draw.poisson(light, (50, slices, BINS)) + DARK
    return y, {"counts": counts, "flat": flat, "dark": np.full((3, slices, BINS), DARK)}


def written(path: Path, parts: dict[str, np.ndarray], kind: str = "parallel") -> Path:
    with h5py.File(path, "w") as file:
        for name, values in parts.items():
            file[name] = values
        file["geometry/angles_rad"] = np.linspace(
            0, np.pi * (1 + (kind == "fan")), VIEWS, endpoint=False
        )
        file["geometry"].attrs.update(kind=kind, det_spacing_mm=1.0, shape=(48, 48))
        if kind == "fan":
            file["geometry"].attrs.update(
                voxel_mm=(1.0, 1.0), source_object_mm=300.0, source_detector_mm=400.0
            )
        else:
            file["geometry"].attrs["pixel_mm"] = (1.0, 1.0)
        file.attrs["mu_water"] = 0.02
    return path


def lines_of(scan: object) -> np.ndarray:
    if isinstance(scan, CTScan):
        return scan.sinogram[:]
    assert isinstance(scan, BeamScan)
    return scan.projections[:]


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_counts_become_line_integrals_with_the_weights_of_what_comes_through(
    kind: str, tmp_path: Path
):
    y, parts = detected()
    scan = open_scan(written(tmp_path / "scan.h5", parts, kind))
    found = lines_of(scan)
    # Photons of the thickest ray: 2200, and of the mean of 50 flats, in five deviations.
    np.testing.assert_allclose(found, y, atol=5 * (2200**-0.5))
    noise = scan.setup().noise
    assert isinstance(noise, PostLogPoisson)
    # From 640 rays through air, of light that differs by a fifth between bins.
    assert noise.photons == pytest.approx(PHOTONS, rel=0.5)
    assert any("photons a ray, from rays through air" in note for note in scan.notes)


def test_light_that_fades_is_followed_by_flats_of_before_and_after(tmp_path: Path):
    y, parts = detected()
    light = np.linspace(1.0, 0.7, VIEWS)[:, None]
    fading = {**parts, "counts": (parts["counts"] - DARK) * light + DARK}
    after = {"flat_after": (parts["flat"] - DARK) * 0.7 + DARK}
    followed = lines_of(open_scan(written(tmp_path / "a.h5", fading | after)))
    steady = lines_of(open_scan(written(tmp_path / "b.h5", parts)))
    # The same numbers but for the order of products, in float32.
    np.testing.assert_allclose(followed, steady, atol=1e-5)
    assert np.abs(y).max() > 1
    with pytest.raises(InputError, match="'flat_after' has shape"):
        open_scan(written(tmp_path / "c.h5", fading | {"flat_after": np.ones((3, 5))}))


def test_rays_without_light_are_counted(tmp_path: Path):
    _, parts = detected()
    parts["counts"][0, 3, 20:24] = DARK
    parts["counts"][1, 5, 7] = 0.0
    scan = open_scan(written(tmp_path / "scan.h5", parts))
    lines = lines_of(scan)
    assert np.isfinite(lines).all()
    assert [
        n for n in scan.notes if n.startswith("5 ray(s) in 2 slice(s) have less than half a count")
    ]
    lines_of(scan)  # read again, counted once
    assert sum("have less than" in note for note in scan.notes) == 1


def test_counts_beside_a_sinogram_and_counts_without_flats_are_refused(tmp_path: Path):
    y, parts = detected()
    with pytest.raises(InputError, match="holds 'sinogram' and 'counts'"):
        open_scan(written(tmp_path / "a.h5", parts | {"sinogram": y}))
    with pytest.raises(InputError, match="without 'flat'"):
        open_scan(written(tmp_path / "b.h5", {"counts": parts["counts"]}))


def test_a_kind_may_be_bytes_or_left_out_of_a_parallel_beam(tmp_path: Path):
    _, parts = detected()
    for kind in (b"parallel", None):
        path = written(tmp_path / f"{kind}.h5", parts)
        with h5py.File(path, "a") as file:
            del file["geometry"].attrs["kind"]
            if kind:
                file["geometry"].attrs["kind"] = kind
        assert isinstance(open_scan(path), CTScan)


@pytest.mark.parametrize("repair", ["", "zero"])
def test_lost_rays_of_a_fan_are_named_or_bridged(repair: str, tmp_path: Path):
    y, _ = detected()
    y[1, 7, 30] = np.nan
    path = written(tmp_path / "fan.h5", {"projections": y}, "fan")
    if not repair:
        with pytest.raises(InputError, match=r"\(slice 1, view 7\)"):
            lines_of(open_scan(path))
        return
    scan = open_scan(path, repair=repair)
    np.testing.assert_allclose(lines_of(scan)[1, 7], y[1, 6], atol=2e-3)  # the disc bends by that
    assert any("bridged" in note for note in scan.notes)


def test_a_fan_and_a_parallel_beam_are_centred_and_mended_when_they_are_made_ready(tmp_path: Path):
    """The same options for both readers; what was done stands in the notes and in the record of the set-up."""
    y, _ = detected()
    spoilt = np.roll(y, 3, axis=2)  # the axis three bins to the right
    spoilt[:, 10:12, 30] += 2.0
    spoilt[:, 20, 40] -= 0.7
    spoilt[:, :, 25] = 0.1
    asked = SetupOptions(center="auto", outliers="bridge", rings="sorting", beam_hardening="1,0.01")
    for kind, name in (("parallel", "sinogram"), ("fan", "projections")):
        scan = open_scan(written(tmp_path / f"{kind}.h5", {name: spoilt}, kind))
        scan.setup(SetupOptions())
        assert any("bin(s) 25 read otherwise" in note for note in scan.notes)
        setup = scan.setup(asked)
        assert setup.record["det_offset_mm"] == pytest.approx(-3.0, abs=0.25)
        said = " ".join(scan.notes)
        assert "centre of rotation found by" in said
        assert "1 odd bin(s) bridged" in said
        assert "zinger(s) bridged" in said
        assert setup.problem(range(1), torch.device("cpu")).y.max() < 2.4 + 0.01 * 2.4**2
