"""Line integrals whose photons nobody stated: weights of what comes through, as `restore.solve` has them.

The sinograms are of a disc in closed form, counted by numpy.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.ct.detector.noise_estimation import photons_of_air
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.noise import Gaussian, PostLogPoisson
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.pipelines.alarm import misfit_notes
from restore.problem import Problem
from restore.scaling import Scaling
from restore.unexplained import doubt_of_one_level
from restore.unknown_noise import contradictions, estimated_noise

VIEWS, BINS, PHOTONS = 60, 96, 2e4
ANGLES = np.linspace(0, np.pi, VIEWS, endpoint=False)
ESTIMATED = 0.4
"""Of the photons, from 360 rays through air: three times the 6 % of a deviation by the median, squared."""


def disc(radius: float = 40.0) -> np.ndarray:
    """Line integrals (views, bins), 4 in the middle: a sixtieth of the light comes through."""
    u = np.arange(BINS) - (BINS - 1) / 2
    return np.tile(4 / radius * np.sqrt(np.maximum(0, radius**2 - u**2)), (VIEWS, 1))


def counted(lines: np.ndarray, photons: float = PHOTONS) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(photons * np.exp(-lines))
    return -np.log(np.maximum(counts, 0.5) / photons).astype(np.float32)


def written(path: Path, sinogram: np.ndarray, kind: str, **attributes: float) -> Path:
    with h5py.File(path, "w") as file:
        file["sinogram" if kind == "parallel" else "projections"] = sinogram[None]
        file["geometry/angles_rad"] = ANGLES * (1 if kind == "parallel" else 2)
        geometry = file["geometry"].attrs
        geometry.update(kind=kind, det_spacing_mm=1.0, shape=(96, 96))
        if kind == "parallel":
            geometry["pixel_mm"] = (1.0, 1.0)
        else:
            geometry.update(voxel_mm=(1.0, 1.0), source_object_mm=300.0, source_detector_mm=400.0)
        file.attrs.update(mu_water=0.02, **attributes)
    return path


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_a_file_without_photons_is_weighted_as_by_solve(kind: str, tmp_path: Path):
    true, y = disc(), counted(disc())
    scan = open_scan(written(tmp_path / "scan.h5", y, kind))
    setup = scan.setup()
    noise = setup.noise
    assert isinstance(noise, PostLogPoisson)
    assert noise.photons == pytest.approx(PHOTONS, rel=ESTIMATED)
    assert setup.record["noise_std"] == pytest.approx(noise.photons**-0.5)
    said = [n for n in scan.notes if f"estimated as {noise.photons:.3g} photons a ray" in n]
    assert len(said) == 1
    assert "weighted by what comes through" in said[0]
    # What the noise is: in units of it the thick rays err no more than those through air.
    err = (noise.precision(torch.from_numpy(y)).sqrt().numpy() * (y - true)) ** 2
    for rays in (true > 3, true == 0):
        assert np.sqrt(err[rays].mean()) == pytest.approx(1, rel=ESTIMATED / 2)

    problem = scan.problem(range(1), torch.device("cpu"))
    assert estimated_noise(problem.y, problem.operator).noise == noise


def test_a_scan_of_a_script_too_by_all_of_its_slices():
    y = np.stack([counted(disc())] * 2)
    geometry = ParallelBeam(ANGLES, BINS, 1.0, (64, 64), 1.0)
    scan = CTScan(
        path=Path("script"), sinogram=LazyStack(y.shape, lambda i: y[i]), geometry=geometry, mu_water=0.02,
        slice_indices=(0, 1),
    )  # fmt: skip
    found = estimated_noise(torch.from_numpy(y), ParallelBeamCT(geometry))
    assert scan.setup().noise == found.noise
    assert found.note in scan.notes


def test_what_is_stated_stays(tmp_path: Path):
    y = counted(disc())
    stated = open_scan(written(tmp_path / "a.h5", y, "parallel", noise_std=0.01))
    assert stated.setup().noise == PostLogPoisson(0.01**-2)
    assert any("1e+04 photons a ray: rays are weighted" in n for n in stated.notes)
    silent = open_scan(written(tmp_path / "b.h5", y, "parallel"))
    assert silent.setup(SetupOptions(noise_std=0.01)).noise == Gaussian(0.01)
    photons = open_scan(written(tmp_path / "c.h5", y, "parallel", photons=PHOTONS))
    assert photons.setup().noise == PostLogPoisson(PHOTONS)


def test_the_level_of_air_for_all_rays_is_doubted_however_little_is_left_over():
    """The misfit of the truth itself, of one level: exp(y / 2) in the mean square. 2e5 photons leave 0.6 %."""
    many = 2e5
    y = torch.from_numpy(counted(disc(), many))[None]
    A = ParallelBeamCT(ParallelBeam(ANGLES, BINS, 1.0, (96, 96), 1.0))
    u = np.arange(BINS) - (BINS - 1) / 2
    x = torch.from_numpy((u**2 + u[:, None] ** 2 < 40.0**2) * 0.05).float()[None]
    for noise, words in ((many**-0.5, "one level of noise"), (0.1, "")):
        problem = Problem(y, A, Gaussian(noise), Scaling())
        left = float((y - A(x)).square().mean().sqrt()) / noise
        said = [n for n in contradictions(problem, x, left, fits=True) if "all rays" in n]
        assert len(said) == bool(words)
        assert all(words in n for n in said)
    photons = Problem(y, A, PostLogPoisson(many), Scaling())
    assert not any("all rays" in n for n in contradictions(photons, x, 5.0, fits=True))


def test_recon_says_so(tmp_path: Path):
    scan = open_scan(written(tmp_path / "scan.h5", counted(disc()), "parallel"))
    chunk = {"slices": ["slice 0"], "misfit": 5.0}
    problem = scan.setup(SetupOptions(noise_std=0.01)).problem(range(1), torch.device("cpu"))
    doubt = doubt_of_one_level(problem, 5.0)
    assert "one level of noise (0.01) was taken for all rays" in doubt
    assert misfit_notes(scan, "dds", [chunk, {**chunk, "doubt": doubt}]) == [doubt]
    assert misfit_notes(scan, "dds", [chunk]) == []
    assert doubt_of_one_level(problem, 1.2) == ""
    weighted = scan.problem(range(1), torch.device("cpu"))
    assert doubt_of_one_level(weighted, 5.0) == ""


def test_a_body_that_reaches_the_ends_in_some_views_takes_nothing_off():
    """An ellipse with half axes of 60 and 20 bins, 4 along the longer one. In 29 of 60 views it reaches both ends."""
    u = np.arange(BINS) - (BINS - 1) / 2
    width = np.hypot(60 * np.cos(ANGLES), 20 * np.sin(ANGLES))[:, None]
    lines = 4 * 20 / width**2 * np.sqrt(np.maximum(0, width**2 - u**2))
    reached = (lines[:, [2, -3]] > 0).all(axis=1)
    assert reached.sum() == 29
    found = photons_of_air([counted(lines)])
    assert found == pytest.approx(PHOTONS, rel=ESTIMATED)
    everywhere = counted(np.maximum(lines, 0.2))
    assert photons_of_air([everywhere]) is None


def test_without_air_one_level_is_told_from_neighbouring_bins(tmp_path: Path):
    y = counted(disc(radius=70.0))
    scan = open_scan(written(tmp_path / "cut.h5", y, "parallel"))
    assert scan.setup().noise is not None
    assert not isinstance(scan.setup().noise, PostLogPoisson)
    assert any("no ray shows air" in n for n in scan.notes)
    assert not any("photons a ray" in n for n in scan.notes)
