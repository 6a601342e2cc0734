"""Named arrays in .npz and MATLAB's files: the same scan by every way, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy import io

from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.receivers.noise_covariance import samples_of
from restore.datasets.open import open_scan
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError
from restore.operators.mri.fourier import fft2c
from restore.operators.mri.trajectories import Trajectory, radial

SLICES, COILS, ROWS, COLUMNS = 2, 3, 24, 20
MAPS = birdcage((ROWS, COLUMNS), COILS)
MASK = (np.arange(COLUMNS) % 2 == 0) | (abs(np.arange(COLUMNS) - COLUMNS // 2) < 5)


def kspace() -> np.ndarray:
    """(slices, coils, rows, columns), undersampled."""
    image = torch.from_numpy(head_phantom((SLICES, ROWS, COLUMNS)).data).to(torch.complex64)
    return fft2c(image[:, None] * torch.from_numpy(MAPS)).numpy() * MASK


COVARIANCE = np.array([[2, 0.5j, 0], [-0.5j, 1, 0.1], [0, 0.1, 1]])

ARRAYS = {
    "kspace": kspace(), "maps": MAPS, "mask": np.broadcast_to(MASK, (ROWS, COLUMNS)).astype(np.uint8),
    "noise_cov": COVARIANCE, "voxel_mm": np.array([4.0, 1.0, 2.0]),
}  # fmt: skip
"""As NumPy's programs order them."""


def in_matlab(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As MATLAB's do: (rows, columns, coils, slices), voxels (rows, columns, slices)."""
    turned = {
        "kspace": lambda a: a.transpose(2, 3, 1, 0), "maps": lambda a: a.transpose(1, 2, 0),
        "voxel_mm": lambda a: a[[1, 2, 0]],
    }  # fmt: skip
    return {name: turned.get(name, lambda a: a)(values) for name, values in arrays.items()}


def save_7_3(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As MATLAB does: a block of 512 bytes, axes reversed, complex numbers as pairs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            stored = np.ascontiguousarray(np.atleast_2d(values).T)
            if stored.dtype.kind == "c":
                kind = np.dtype([("real", "<f8"), ("imag", "<f8")])
                stored = stored.astype(np.complex128).view(kind)
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        file.create_group("#refs#")
        file.create_group("settings").attrs["MATLAB_class"] = np.bytes_("struct")
    content = bytearray(path.read_bytes())
    mark = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sun Nov 29 2026 HDF5 schema 1.00 ."
    content[:128] = mark.ljust(124) + b"\x00\x02IM"
    path.write_bytes(content)
    return path


def save_5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    io.savemat(path, {**arrays, "settings": {"a": 1.0}}, do_compression=True)
    return path


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


WAYS = {"npz": save_npz, "7.3": save_7_3, "5": save_5}


def saved(tmp_path: Path, way: str, arrays: dict[str, np.ndarray]) -> Path:
    name = "a.npz" if way == "npz" else "a.mat"
    return WAYS[way](tmp_path / name, arrays if way == "npz" else in_matlab(arrays))


@pytest.mark.parametrize("way", WAYS)
def test_the_same_scan_by_every_way(tmp_path: Path, way: str):
    path = saved(tmp_path, way, ARRAYS)
    scan = open_scan(path)
    np.testing.assert_array_equal(np.asarray(scan.kspace), ARRAYS["kspace"])
    np.testing.assert_array_equal(scan.mask, MASK)
    np.testing.assert_allclose(scan.maps[1], MAPS, atol=1e-6)  # in single precision
    np.testing.assert_array_equal(np.diag(scan.affine), [2, 1, 4, 1])
    found = scan.noise_scan @ scan.noise_scan.conj().T / scan.noise_scan.shape[1]
    np.testing.assert_allclose(found, COVARIANCE, atol=1e-12)  # rounding of a dozen terms
    assert scan.noise_std == pytest.approx(np.sqrt((2 + 1 + 1) / 3 / 2))
    said = " ".join(scan.notes)
    order = "slices, coils, rows, columns" if way == "npz" else "rows, columns, coils, slices"
    assert f"read as ({order}); --axes says otherwise" in said
    assert ("not used of a.mat: settings" in said) == (way != "npz")
    np.save(tmp_path / "k.npy", ARRAYS["kspace"])
    other = with_maps(open_scan(tmp_path / "k.npy"), path)
    np.testing.assert_allclose(other.maps[0], MAPS, atol=1e-6)


def test_axes_that_are_told(tmp_path: Path):
    turned = ARRAYS["kspace"].transpose(1, 3, 2, 0)
    mask = np.broadcast_to(MASK, (ROWS, COLUMNS)).T
    np.savez(tmp_path / "a.npz", kdata=turned, mask=mask, csm=MAPS.transpose(0, 2, 1))
    scan = open_scan(tmp_path / "a.npz", axes="coils,columns,rows,slices")
    np.testing.assert_array_equal(np.asarray(scan.kspace), ARRAYS["kspace"])
    np.testing.assert_array_equal(scan.maps[0], MAPS)
    np.testing.assert_array_equal(scan.mask, MASK)
    assert not any("--axes" in note for note in scan.notes)
    for wrong in ("coils,columns,rows,times", "rows,rows,columns", "slices,coils,rows"):
        with pytest.raises(ConfigError, match="expected slices, coils, rows, columns, each once"):
            open_scan(tmp_path / "a.npz", axes=wrong)
    with pytest.raises(InputError, match="say --axes"):
        open_scan(tmp_path / "a.npz", axes="rows,columns")


def test_axes_that_energy_contradicts_are_refused(tmp_path: Path):
    """MATLAB's order in an archive of NumPy."""
    np.savez(tmp_path / "a.npz", kspace=ARRAYS["kspace"].transpose(2, 3, 1, 0))
    with pytest.raises(InputError, match="axes"):
        open_scan(tmp_path / "a.npz")


@pytest.mark.parametrize("way", WAYS)
def test_spokes(tmp_path: Path, way: str):
    pytest.importorskip("finufft")
    from restore.operators.mri.nonuniform import nufft

    points = radial(30, 48, (ROWS, COLUMNS), full=True)
    image = torch.from_numpy(head_phantom((1, ROWS, COLUMNS)).data[0] * MAPS)
    samples = nufft(image.to(torch.complex64), Trajectory(points), 2).numpy()[None]
    arrays = {
        "kspace": samples,
        "traj": points,
        "matrix": np.array([ROWS, COLUMNS]),
        "dcf": np.ones((30, 48)),
    }
    if way == "npz":
        path = save_npz(tmp_path / "a.npz", arrays)
    else:
        arrays |= {"kspace": samples[0].transpose(2, 1, 0), "traj": points.transpose(2, 1, 0)}
        path = WAYS[way](tmp_path / "a.mat", arrays)
    scan = open_scan(path)
    assert isinstance(scan, NonCartesianScan)
    assert (scan.shape, scan.matrix) == ((1, COILS, 30, 48), (ROWS, COLUMNS))
    np.testing.assert_array_equal(scan.kspace[0], samples[0])
    np.testing.assert_allclose(scan.points, points, rtol=1e-15)
    assert any("density in the file is not used" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"kspace": None}, "holds no k-space but maps"),
        ({"ksp": ARRAYS["kspace"]}, "both 'kspace' and 'ksp' are kspace"),
        ({"kspace": abs(ARRAYS["kspace"])}, "'kspace' must be complex"),
        ({"kspace": ARRAYS["kspace"][None]}, "choose one repetition"),
        ({"maps": MAPS[:2]}, "does not fit the measurement of 2 slices and 3 coils"),
        ({"maps": abs(MAPS)}, "expected complex maps"),
        ({"mask": np.ones((3, 3))}, "does not fit k-space"),
        ({"noise_cov": np.eye(2)}, r"expected \(3, 3\)"),
        ({"noise_cov": np.array([[1, 5, 0], [0, 1, 0], [0, 0, 1]])}, "or not Hermitian"),
        ({"noise_std": np.array(-1.0)}, "expected a number >= 0"),
        ({"voxel_mm": np.array([1.0, 2])}, r"expected three sizes in mm \(slices, rows, columns\)"),
        ({"traj": np.ones((30, 48), complex)}, "expected real coordinates"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], found: str):
    arrays = {k: v for k, v in (ARRAYS | change).items() if v is not None}
    with pytest.raises(InputError, match=found):
        open_scan(save_npz(tmp_path / "a.npz", arrays))


def test_objects_are_not_unpickled(tmp_path: Path):
    np.savez(tmp_path / "a.npz", kspace=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="one of objects"):
        open_scan(tmp_path / "a.npz")


def test_a_covariance_and_its_samples():
    samples = samples_of(COVARIANCE, 3, Path("a"))
    assert samples.shape == (3, 12)
    np.testing.assert_allclose(samples @ samples.conj().T / 12, COVARIANCE, atol=1e-12)
