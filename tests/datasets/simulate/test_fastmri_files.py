"""Stand-in files follow the model, and every variant is read back as what it is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import sigpy

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri import read_fastmri
from restore.datasets.mri.fastmri_files.fastmri_check import check_file
from restore.datasets.mri.fastmri_files.fastmri_header import parse_header
from restore.datasets.mri.fastmri_files.fastmri_masks import fastmri_mask
from restore.datasets.mri.fastmri_files.fastmri_write import (
    Undersampling,
    target_image,
    write_fastmri_file,
)
from restore.datasets.mri.oversampling import remove_readout_oversampling
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, OutputError

SINGLE = 5e-3  # float32 of up to 1,900: 1e-4 a rounding; 4e-4 seen
ROOTS = 1e-5  # float32: a root of a sum of squares; 1e-7 of it seen
SAMPLED = 0.01  # deviations over 40,000 samples and more: 0.35 %
DOUBLE = 1e-9  # float64: sums over some thousand pixels; 1e-14 of them seen

AFFINE = np.array([[-1.5, 0, 0, 30], [0, 0.8, 0.6, -20], [0, -0.6, 0.8, 5], [0, 0, 0, 1.0]])
SLICES = slice(1, 4, 2)


def volume(shape: tuple[int, int] = (36, 45)) -> Volume:
    z, y, x = np.mgrid[-1:1:5j, -1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    data = 800 * np.exp(-3 * (x**2 + y**2 + z**2)) + 300 * (x**2 + (y / 0.7) ** 2 < 0.5)
    return Volume(data.astype(np.float32), AFFINE, "MR", "arbitrary")


def written(path: Path, test: Undersampling | None = None, **settings: Any) -> Path:
    source = volume(settings.pop("shape", (36, 45)))
    scan = simulate_fastmri(source, slices=SLICES, coils=settings.pop("coils", 4), **settings)
    write_fastmri_file(scan, path, test)
    return path


def test_without_oversampling_it_is_the_fully_sampled_scan() -> None:
    ours = simulate_fastmri(volume(), slices=SLICES)
    full = simulate_mri(volume(), slices=SLICES, acceleration=1)
    np.testing.assert_array_equal(ours.kspace[:], full.kspace[:])
    assert (ours.noise_std, ours.slice_indices) == (full.noise_std, (1, 3))


@pytest.mark.parametrize("shape", [(36, 45), (35, 44)])
@pytest.mark.parametrize("oversampling", [1, 2, 3])
def test_oversampling_surrounds_the_object_with_air(shape, oversampling: int) -> None:
    plain = simulate_fastmri(volume(shape), noise=0, slices=SLICES)
    tall = simulate_fastmri(volume(shape), noise=0, slices=SLICES, oversampling=oversampling)
    assert tall.shape == (2, 8, shape[0] * oversampling, shape[1])
    cut = remove_readout_oversampling(tall.kspace[0], shape[0])
    np.testing.assert_allclose(cut, plain.kspace[0], atol=SINGLE)
    images = np.abs(sigpy.ifft(tall.kspace[0], axes=(-2, -1)))
    total = np.sum(images.astype(float) ** 2)
    inside = np.sum(center_crop(images, shape).astype(float) ** 2)
    assert inside == pytest.approx(total, rel=DOUBLE)
    assert tall.reference is not None
    np.testing.assert_allclose(tall.reference[0], volume(shape).data[1], atol=SINGLE)


def test_target_is_the_root_sum_of_squares_of_the_noisy_kspace(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "a.h5", noise=0.05, oversampling=2)) as file:
        images = sigpy.ifft(file["kspace"][()].astype(complex), axes=(-2, -1))
        expected = center_crop(np.sqrt(np.sum(np.abs(images) ** 2, axis=1)), (36, 45))
        target = file["reconstruction_rss"]
        np.testing.assert_allclose(target[()], expected, rtol=ROOTS)
        assert target.dtype == np.float32
        assert file.attrs["max"] == target[()].max()
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(target[()].astype(float)))
        assert set(file) == {"kspace", "reconstruction_rss", "ismrmrd_header", "restore"}
        assert set(file.attrs) == {"max", "norm", "acquisition", "patient_id"}
        assert file.attrs["patient_id"] == "SIMULATED"
    noise = simulate_fastmri(volume(), noise=0.05, oversampling=2, columns=30)
    clean = simulate_fastmri(volume(), noise=0, oversampling=2, columns=30)
    rest = (noise.kspace[:] - clean.kspace[:])[..., clean.mask]
    assert noise.noise_std is not None
    assert rest.real.std() == pytest.approx(noise.noise_std, rel=SAMPLED)
    assert rest.imag.std() == pytest.approx(noise.noise_std, rel=SAMPLED)


VARIANTS = list(
    itertools.product([(36, 45), (35, 44)], [1, 3], [1, 2], [None, 30], [None, 4])
)  # plane, coils, oversampling, columns, acceleration of a test file


@pytest.mark.parametrize(("shape", "coils", "oversampling", "columns", "test"), VARIANTS)
def test_every_variant_is_read_back(tmp_path, shape, coils, oversampling, columns, test) -> None:
    settings = {"shape": shape, "coils": coils, "oversampling": oversampling, "columns": columns}
    under = None if test is None else Undersampling(test, 0.16)
    path = written(tmp_path / "file1000001.h5", under, **settings)
    scan = read_fastmri(path)
    height, width = shape[0] * oversampling, shape[1]
    assert scan.shape == (2, coils, height, width)
    assert scan.recon_shape == shape
    first = (width - (columns or width) + 1) // 2
    inside = (np.arange(width) >= first) & (np.arange(width) < first + (columns or width))
    with h5py.File(path) as file:
        header = parse_header(file["ismrmrd_header"][()].decode())
        assert file["kspace"].ndim == (3 if coils == 1 else 4)
        kspace = file["kspace"][()].reshape(scan.shape)
        assert ("mask" in file) == (test is not None)
    assert header.encoded == (height, width, 1)
    assert header.recon == (*shape, 1)
    assert header.columns == (first, first + int(inside.sum()))
    full = simulate_fastmri(volume(shape), coils=coils, slices=SLICES, oversampling=oversampling)
    sampled = inside
    if test is not None:
        drawn, low = fastmri_mask("random", width, test, 0.16, path.name)
        sampled = inside & drawn
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["mask"][()], drawn)
            assert dict(file.attrs)["acceleration"] == test
            assert dict(file.attrs)["num_low_frequency"] == low
            assert not {"max", "norm"} & set(file.attrs)
    np.testing.assert_array_equal(scan.mask, sampled)
    np.testing.assert_array_equal(kspace, full.kspace[:] * sampled)
    np.testing.assert_array_equal(scan.kspace[:], kspace)
    assert not np.signbit(kspace.real[kspace == 0]).any()
    assert (scan.reference is None) == (test is not None)
    if scan.reference is not None:
        expected = target_image(kspace[1], shape)
        np.testing.assert_array_equal(scan.reference[1], expected)
    np.testing.assert_allclose(scan.affine @ [3, 4, 1, 1], AFFINE @ [3, 4, 3, 1], atol=DOUBLE)
    report = check_file(path)
    assert report.ok, report.problems
    padded = f"{width - 30} zero-padded columns"
    assert report.notes == ([padded] if columns else [])


def test_pixels_have_their_size_without_our_group(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", oversampling=2)
    with h5py.File(path, "a") as file:
        del file["restore"]
    spacing = np.linalg.norm(read_fastmri(path).affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, [1.5, 1, 2])  # the slices lie two apart


def test_single_coil_target_is_preferred_in_single_coil_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", coils=1)
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"] = 2 * file["reconstruction_esc"][()]
        expected = file["reconstruction_esc"][0]
    scan = read_fastmri(path)
    assert scan.reference is not None
    np.testing.assert_array_equal(scan.reference[0], expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise": -1}, "noise"),
        ({"oversampling": 0}, "oversampling"),
        ({"columns": 46}, "the 45 of a slice"),
        ({"columns": 0}, "the 45 of a slice"),
        ({"coils": 0}, "coil"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulate_fastmri(volume(), **settings)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be simulated"):
        simulate_fastmri(Volume(np.zeros((2, 8, 8), np.float32), AFFINE))
    with pytest.raises(ConfigError, match="one run of columns"):
        write_fastmri_file(simulate_mri(volume(), mask="equispaced"), tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="unknown fastMRI mask"):
        written(tmp_path / "a.h5", Undersampling(4, 0.08, "spiral"))
    with pytest.raises(OutputError, match="no such folder"):
        written(tmp_path / "none" / "a.h5")
    assert not list(tmp_path.iterdir())
