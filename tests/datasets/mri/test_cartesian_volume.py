"""K-space of volumes undersampled along both phase encodings: what is told of a file, and what is made of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.fastmri_files.fastmri import read_fastmri, read_slices, write_fastmri
from restore.datasets.mri.fastmri_files.fastmri_header import format_header
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError

SHAPE = DEPTH, ROWS, COLUMNS = 8, 16, 12
COILS = 2
CPU = torch.device("cpu")
SINGLE = 1e-5  # single precision, relative to the largest: transforms of 2^11 samples, 3e-7 seen


def coil_maps() -> np.ndarray:
    """(D, coils, H, W), sum of squares one."""
    z, y, _ = np.meshgrid(*(np.linspace(0.3, 1.2, n) for n in SHAPE), indexing="ij")
    return np.stack([np.cos(z * y), 1j * np.sin(z * y)], axis=1).astype(np.complex64)


def image() -> np.ndarray:
    x = np.zeros(SHAPE)
    x[2:6, 4:13, 3:8] = 1 + np.arange(4)[:, None, None] / 4
    return x


def kspace(mask: np.ndarray | None = None) -> np.ndarray:
    """Partitions (D, coils, H, W), by numpy's transforms and matrices of waves."""
    x = coil_maps() * image()[:, None]
    for axis, n in ((0, DEPTH), (2, ROWS), (3, COLUMNS)):
        k = np.arange(n) - n // 2
        waves = np.exp(-2j * np.pi * np.outer(k, k) / n) / n**0.5
        x = np.moveaxis(np.tensordot(waves, x, (1, axis)), 0, axis)
    return x.astype(np.complex64) * (1 if mask is None else mask[:, None])


def checkerboard() -> np.ndarray:
    """(D, 1, W): half of the plane of phase encodings, the middle of it whole."""
    mask = np.indices((DEPTH, COLUMNS)).sum(0) % 2 == 0
    mask[2:6, 4:9] = True
    return mask[:, None, :]


def write(path: Path, values: np.ndarray, declared: str | None = "3d", **parts: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = values
        for name, value in parts.items():
            file[name] = value
        if declared is not None:
            file.attrs["encoding"] = declared
    return path


def header(depth: int = DEPTH) -> str:
    return format_header((ROWS, COLUMNS), (2.0, 3.0, 4.0), partitions=depth)


@pytest.mark.parametrize("stored", [None, checkerboard()[:, 0], checkerboard(), "full"])
def test_a_declared_volume_is_one_item_whose_model_is_the_transform_of_three_axes(
    tmp_path: Path, stored: Any
) -> None:
    mask = checkerboard()
    full = np.broadcast_to(mask, SHAPE)
    parts = {} if stored is None else {"mask": full if isinstance(stored, str) else stored}
    path = write(tmp_path / "a.h5", kspace(full), sensitivity_maps=coil_maps(), **parts)
    scan = open_scan(path)
    assert isinstance(scan, CartesianVolumeScan)
    assert (scan.whole, scan.n_slices, scan.shape) == (True, DEPTH, (1, COILS, *SHAPE))
    np.testing.assert_array_equal(scan.sampled, full)
    problem = scan.setup(SetupOptions(noise_std=0, remove_phase=False)).problem(range(DEPTH), CPU)
    seen = problem.operator(torch.from_numpy(image()).to(torch.complex64))
    torch.testing.assert_close(seen, problem.y, rtol=0, atol=SINGLE * float(problem.y.abs().max()))
    np.testing.assert_array_equal(problem.y.movedim(1, 0).numpy(), kspace(full))


def test_the_header_and_the_energy_tell_without_the_word(tmp_path: Path) -> None:
    mask = np.broadcast_to(checkerboard(), SHAPE)
    scan = open_scan(write(tmp_path / "a.h5", kspace(mask), None, ismrmrd_header=header()))
    assert isinstance(scan, CartesianVolumeScan)
    assert scan.affine is not None
    np.testing.assert_allclose(np.diag(scan.affine), [2, 3, 4, 1])
    with pytest.raises(InputError, match="undersampled along kz: a volume"):
        read_slices(tmp_path / "a.h5")
    assert isinstance(
        read_fastmri(write(tmp_path / "b.h5", kspace(mask), "2d", ismrmrd_header=header())), MRIScan
    )


def test_complete_partitions_become_slices_and_gaps_do_not(tmp_path: Path) -> None:
    lines = np.zeros(SHAPE, bool)
    lines[..., ::2] = lines[..., 4:9] = True
    scan = open_scan(write(tmp_path / "a.h5", kspace(lines)))
    assert isinstance(scan, MRIScan)
    expected = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(kspace(lines), axes=0), axis=0, norm="ortho"), axes=0
    )
    np.testing.assert_allclose(scan.kspace[3], expected[3], atol=SINGLE * np.abs(expected).max())
    for name, left_out in (("gaps", [1, 3, 5, 7]), ("one end", [0, 1, 2])):
        lines[left_out] = False
        volume = open_scan(write(tmp_path / "b.h5", kspace(lines)))
        assert isinstance(volume, CartesianVolumeScan), name
        assert not volume.sampled[left_out].any()
        lines[..., ::2] = lines[..., 4:9] = True
    ends = lines.copy()
    ends[[0, 7]] = (
        False  # zeros at both ends: an interpolation, as fastMRI files have along columns
    )
    assert isinstance(open_scan(write(tmp_path / "c.h5", kspace(ends))), MRIScan)


@pytest.mark.parametrize(
    ("values", "declared", "parts", "match"),
    [
        (kspace(), "cone", {}, "attribute 'encoding' is 'cone'"),
        (np.fft.ifftshift(kspace(), axes=0), "3d", {}, "energy lies in partition 0: the zero frequency of kz"),
        (kspace(), "3d", {"ismrmrd_header": header(6)}, "6 partitions along kz, the file holds 8"),
        (kspace(), "3d", {"mask": np.ones((DEPTH, 5))}, r"'mask' has shape \(8, 5\)"),
        (kspace()[None], "3d", {}, r"'kspace' has shape \(1, 8, 2, 16, 12\)"),
        (kspace(), "3d", {"sensitivity_maps": coil_maps()[:6]}, "'sensitivity_maps' has shape"),
        (kspace() * np.nan, "3d", {}, "every k-space sample is zero|NaN or infinite"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(
    tmp_path: Path, values: np.ndarray, declared: str, parts: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        open_scan(write(tmp_path / "a.h5", values, declared, **parts)).setup()


def test_maps_by_espirit_follow_the_coils_along_z_and_the_phase_goes_into_them() -> None:
    scan = simulate_mri_volume(head_phantom((16, 24, 24)), center_fraction=0.5, noise=1e-3)
    true = torch.from_numpy(scan.maps[0])
    inside = torch.from_numpy(np.asarray(scan.reference)) > 0.2 * float(np.max(scan.reference))
    found = scan.setup(SetupOptions(maps="espirit")).problem(range(16), CPU).operator.maps
    overlap = (found.conj() * true).sum(0).abs()[inside]
    assert float(overlap.mean()) > 0.998  # 0.9995 seen, of eight lines along z
    kept, moved = (
        scan.setup(SetupOptions(remove_phase=away)).problem(range(16), CPU)
        for away in (False, True)
    )
    angles = [
        problem.operator.pinv(problem.y).angle()[inside].abs().mean() for problem in (kept, moved)
    ]
    assert angles[1] < 0.15 < angles[0]
    loud = simulate_mri_volume(head_phantom((16, 24, 24)), noise=0.1)
    seen = dataclasses.replace(loud, noise_std=None).setup().record["noise_std"]
    assert seen == pytest.approx(
        loud.noise_std, rel=0.3
    )  # of 8 coils and 46 samples, with some signal


def test_without_calibration_lines_maps_are_needed(tmp_path: Path) -> None:
    scan = simulate_mri_volume(head_phantom((8, 12, 12)), mask="caipi:2x2", center_fraction=0)
    write_fastmri(scan, tmp_path / "a.h5")
    read = open_scan(tmp_path / "a.h5")
    problem = read.setup().problem(range(8), CPU)
    assert any("it stays in the image" in note for note in read.notes)
    assert problem.scaling.scale == pytest.approx(float(np.max(scan.reference)), rel=0.3)
    with pytest.raises(InputError, match="fully sampled middle of k-space is 1 x 12 x 1"):
        read.setup(SetupOptions(maps="espirit"))
    with pytest.raises(ConfigError, match="caipi:9x2 of 8 columns"):
        simulate_mri_volume(head_phantom((8, 8, 8)), mask="caipi:9x2")
    with pytest.raises(ConfigError, match="is none of a volume"):
        simulate_mri_volume(head_phantom((8, 8, 8)), mask="random")


def test_a_scan_there_and_back(tmp_path: Path) -> None:
    scan = simulate_mri_volume(head_phantom((6, 16, 12)), coils=3, slices=slice(1, 5), noise=0.01)
    write_fastmri(scan, tmp_path / "a.h5")
    read = open_scan(tmp_path / "a.h5")
    assert isinstance(read, CartesianVolumeScan)
    for name in ("partitions", "slice_maps", "reference"):
        np.testing.assert_array_equal(
            np.asarray(getattr(read, name)), np.asarray(getattr(scan, name))
        )
    np.testing.assert_array_equal(read.affine, scan.affine)
    assert (read.slice_indices, read.sampling) == ((1, 2, 3, 4), scan.sampling)
    assert read.setup().record["noise_std"] == pytest.approx(scan.noise_std)
