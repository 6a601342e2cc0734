"""LoDoPaB-CT files, made here in the set's own conventions from line integrals in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.ct.files.lodopab import ground_truth_path, read_lodopab
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.errors import InputError, NotFoundError
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import hu_to_mu
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.projection import matrix_bytes

DOUBLE = 1e-12  # float64: one quotient
SINGLE = 1e-6  # stored in float32, 6e-8
HU = 5e-3  # float32 of up to 1,750 HU: 1e-4 a rounding; 2.4e-4 seen
PROJECTORS = (
    3e-3  # another projector made the observation; the two differ by 2e-3 wherever they run
)
COARSE = 0.05  # what filtered back-projection is off on few views

MU_MAX = 81.35858  # 1/m
HALF = 0.13  # m
BLOBS = ((0.03, 0.055, 0.012, 20.0), (-0.05, 0.01, 0.015, 55.0))
"""x and y in m along the first and the second axis of an image, width in m, height in 1/m."""


def image(n: int) -> np.ndarray:
    """f[i, j] at x_i, y_j, both growing, over mu_max."""
    centres = -HALF + (np.arange(n) + 0.5) * 2 * HALF / n
    x, y = np.meshgrid(centres, centres, indexing="ij")
    blobs = (h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * w**2)) for a, b, w, h in BLOBS)
    return (sum(blobs) / MU_MAX).astype(np.float32)


def sinogram(views: int, bins: int) -> np.ndarray:
    """Integrals over s (cos, sin) + t (-sin, cos), over mu_max: midpoints of [0, pi] and of the diagonal."""
    theta = (np.arange(views) + 0.5)[:, None] * np.pi / views
    reach = HALF * 2**0.5
    s = -reach + (np.arange(bins) + 0.5) * 2 * reach / bins
    lines = (
        h * w * (2 * np.pi) ** 0.5
        * np.exp(-((s - a * np.cos(theta) - b * np.sin(theta)) ** 2) / (2 * w**2))
        for a, b, w, h in BLOBS
    )  # fmt: skip
    return (sum(lines) / MU_MAX).astype(np.float32)


def write(folder: Path, observation: np.ndarray, truth: np.ndarray | None, **options: Any) -> Path:
    path = folder / "observation_test_000.hdf5"
    for file, values in ((path, observation), (folder / "ground_truth_test_000.hdf5", truth)):
        if values is not None:
            with h5py.File(file, "w") as out:
                out.create_dataset("data", data=values.astype(np.float32), **options)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two slices of 96 x 96, the second half as bright."""
    y, x = sinogram(40, 137), image(96)
    return write(tmp_path, np.stack([y, y / 2]), np.stack([x, x / 2]))


def test_geometry_and_units(path: Path) -> None:
    scan = open_scan(path)
    assert isinstance(scan, CTScan)
    assert scan.shape == (2, 40, 137)
    assert scan.geometry.shape == (96, 96)
    assert scan.geometry.pixel_mm == pytest.approx((260 / 96, 260 / 96), rel=DOUBLE)
    assert scan.geometry.det_spacing_mm * 137 == pytest.approx(260 * 2**0.5, rel=DOUBLE)
    assert scan.photons == 4096
    assert scan.noise_std == pytest.approx(1 / 64)
    assert scan.mu_water == 0.02
    np.testing.assert_allclose(scan.sinogram[0], sinogram(40, 137) * MU_MAX, rtol=SINGLE)
    assert scan.reference is not None
    # Row 0 is the smallest y, column 0 the smallest x: the DICOM image.
    wanted = 1000 * (image(96).T * MU_MAX / 20 - 1)
    np.testing.assert_allclose(scan.reference[0], wanted, atol=HU)
    assert scan.reference[0].max() > 1000  # not clipped


def test_operator_maps_the_image_to_the_observation(path: Path) -> None:
    scan = read_lodopab(path)
    assert scan.reference is not None
    mu = torch.from_numpy(hu_to_mu(scan.reference[0].astype(np.float64), scan.mu_water))
    measured = torch.from_numpy(scan.sinogram[0].astype(np.float64))
    projected = ParallelBeamCT(scan.geometry, dtype=torch.float64)(mu)
    assert float((projected - measured).norm() / measured.norm()) < PROJECTORS
    wrong = measured.flip(0), measured.flip(1)
    assert min(float((projected - w).norm() / w.norm()) for w in wrong) > 0.5


def test_backprojection_lies_on_the_reference(path: Path) -> None:
    scan = read_lodopab(path)
    found = fbp(torch.from_numpy(scan.sinogram[1]), scan.geometry).numpy()
    truth = hu_to_mu(scan.reference[1], 0.02)
    assert np.linalg.norm(found - truth) < COARSE * np.linalg.norm(truth)


def chest(views: int, bins: int, photons: float, sub: int = 3) -> np.ndarray:
    """Body, lungs and spine as ellipses, x, y, half axes in m and 1/m, with Poisson noise, over mu_max."""
    theta = (np.arange(views) + 0.5)[:, None] * np.pi / views
    reach = HALF * 2**0.5
    s = (2 * (np.arange(bins * sub) + 0.5) / (bins * sub) - 1) * reach
    y = np.zeros((views, bins * sub))
    for x0, y0, a, b, mu in (
        (0, 0.01, 0.129, 0.115, 20), (-0.055, 0, 0.035, 0.06, -15), (0.055, 0, 0.035, 0.055, -15),
        (0, 0.06, 0.012, 0.014, 12),
    ):  # fmt: skip
        width2 = (a * np.cos(theta)) ** 2 + (b * np.sin(theta)) ** 2
        inside = np.clip(width2 - (s - x0 * np.cos(theta) - y0 * np.sin(theta)) ** 2, 0, None)
        y += 2 * mu * a * b / width2 * np.sqrt(inside)
    seen = np.exp(-y).reshape(views, bins, sub).mean(2)
    counts = np.random.default_rng(4).poisson(photons * seen)
    return -np.log(np.maximum(counts, 0.1) / photons) / MU_MAX


def test_published_size_and_dose_raise_no_alarm(tmp_path: Path) -> None:
    """An almost empty slice and one that fills the square, as the set has them: 1000 views of 513 bins."""
    whole = chest(1000, 513, 4096)
    scan = open_scan(write(tmp_path, np.stack([whole, whole * 0]), None))
    scan.check()
    (note,) = scan.notes
    assert note.startswith("LoDoPaB-CT: slices of several patients")


def test_negative_line_integrals_stay(tmp_path: Path) -> None:
    values = np.full((1, 4, 9), -0.001)
    scan = read_lodopab(write(tmp_path, values, None))
    np.testing.assert_allclose(scan.sinogram[0], -0.001 * MU_MAX, rtol=SINGLE)


def test_without_ground_truth_the_size_follows_the_bins(tmp_path: Path) -> None:
    """ODL's rule for the bins of n pixels, 2 ceil(n / sqrt 2) + 1, turned round; 513 bins go with 362 pixels."""
    for n in (32, 96, 362):
        bins = 2 * math.ceil(n / 2**0.5) + 1
        scan = read_lodopab(write(tmp_path, np.zeros((1, 3, bins)), None))
        assert scan.reference is None
        assert 2 * math.ceil(scan.geometry.shape[0] / 2**0.5) + 1 == bins
    assert bins == 513
    assert scan.geometry.shape == (362, 362)


def test_published_size_is_projected_without_a_stored_matrix(tmp_path: Path) -> None:
    """1000 views of 362^2 are beyond the operator's memory budget; 200 views are within it."""
    scan = read_lodopab(write(tmp_path, np.zeros((1, 1000, 513), np.float32), None))
    assert scan.geometry.angles[999] == pytest.approx(-np.pi + np.pi / 2000, rel=DOUBLE)
    operator = ParallelBeamCT(scan.geometry, rays_per_bin=2)
    assert matrix_bytes(operator._rays, torch.float32) > operator.memory_budget
    few = ParallelBeamCT(
        type(scan.geometry).from_dict(
            {**scan.geometry.to_dict(), "angles": scan.geometry.angles[2::5]}
        ),
        rays_per_bin=2,
    )
    assert matrix_bytes(few._rays, torch.float32) < few.memory_budget


def test_empty_images_at_the_end_of_the_last_file_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, np.stack([sinogram(8, 47)] * 2), None)
    with h5py.File(ground_truth_path(path), "w") as file:
        truth = file.create_dataset("data", (128, 32, 32), np.float32, chunks=(1, 32, 32))
        truth[:2] = image(32)
    scan = read_lodopab(path)
    assert scan.reference is not None
    assert scan.reference.shape == (2, 32, 32)
    np.testing.assert_array_equal(scan.reference[0], scan.reference[1])


def test_fewer_images_than_measurements(tmp_path: Path) -> None:
    path = write(tmp_path, np.stack([sinogram(8, 47)] * 2), image(32)[None])
    with pytest.raises(InputError, match=r"ground_truth_test_000.*at least 2 square images"):
        read_lodopab(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 9), np.float32), "shape"),
        (np.zeros((2, 4, 9), np.int32), "type int32"),
        (np.zeros((0, 4, 9), np.float32), "shape"),
        (np.zeros((2, 4, 2), np.float32), "2 detector bins"),
    ],
)
def test_unusable_observations(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = tmp_path / "observation_train_003.hdf5"
    with h5py.File(path, "w") as file:
        file["data"] = values
    with pytest.raises(InputError, match=message) as caught:
        open_scan(path)
    assert caught.value.path == path


def test_not_finite(path: Path) -> None:
    for file in (path, ground_truth_path(path)):
        with h5py.File(file, "a") as out:
            out["data"][1, 3, 4] = np.nan
    scan = open_scan(path)
    with pytest.raises(InputError, match="slice 1, view 3"):
        scan.sinogram[1]
    with pytest.raises(InputError, match=r"ground_truth_test_000.*slice 1"):
        scan.reference[1]
    repaired = open_scan(path, repair="zero")
    ray = repaired.sinogram[1][3]
    # A mean of two float32 numbers, rounded once.
    np.testing.assert_allclose(ray[4], (ray[3] + ray[5]) / 2, rtol=1e-6)
    assert any("bridged" in note for note in repaired.notes)


def test_truncated_and_missing(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="observation_test_000"):
        open_scan(path)
    with pytest.raises(NotFoundError):
        read_lodopab(path.with_name("observation_test_001.hdf5"))


def test_other_names_are_not_taken_for_it(path: Path) -> None:
    with pytest.raises(InputError, match="an HDF5 file that holds data, not a scan"):
        open_scan(ground_truth_path(path))
