"""fastMRI files as published and as others write them: optional parts may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from restore.datasets.mri.fastmri_files.fastmri import read_fastmri
from restore.datasets.mri.fastmri_files.fastmri_header import format_header, parse_header
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan

ESTIMATED = 0.15  # a median over some hundred samples: 5 %
SHARE = 1e-3  # the share is printed with three digits

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>32</x><y>20</y><z>1</z></matrixSize>
<fieldOfView_mm><x>440</x><y>275</y><z>7.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>16</x><y>16</y><z>1</z></matrixSize>
<fieldOfView_mm><x>220</x><y>176</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>15</maximum>
<center>8</center></kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>"""


def kspace(slices: int = 3, coils: int = 4, height: int = 32, width: int = 20) -> np.ndarray:
    parts = np.random.default_rng(0).normal(size=(2, slices, coils, height, width))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def write(path: Path, **items: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in items.items():
            file[name] = value
    return path


def test_multicoil_with_everything(tmp_path: Path) -> None:
    data = kspace() * ((np.arange(20) >= 2) & (np.arange(20) < 18))
    mask = np.arange(20) % 3 == 1
    rss = np.ones((3, 16, 16), np.float32)
    path = write(
        tmp_path / "a.h5",
        kspace=data * mask,
        mask=mask,
        ismrmrd_header=HEADER.encode(),
        reconstruction_rss=rss,
    )
    scan = open_scan(path)
    assert isinstance(scan, MRIScan)
    assert scan.shape == (3, 4, 32, 20)
    assert scan.recon_shape == (16, 16)
    inside = mask & (np.arange(20) >= 2) & (np.arange(20) < 18)
    assert (scan.mask == inside).all()
    np.testing.assert_array_equal(scan.kspace[1], data[1] * inside)
    np.testing.assert_array_equal(scan.kspace[1:3], data[1:] * inside)
    assert scan.kspace[0].dtype == np.complex64
    assert scan.affine is not None
    np.testing.assert_allclose(np.diag(scan.affine), [13.75, 13.75, 5, 1])
    np.testing.assert_allclose(scan.affine @ [7.5, 7.5, 0, 1], [0, 0, 0, 1])
    assert scan.maps is None
    assert any("lie on lines of zeros" in note for note in scan.notes)


def test_noise_is_estimated_unless_the_file_knows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", kspace=kspace(2, 4, 96, 64))
    scan = read_fastmri(path)
    assert scan.noise_std == pytest.approx(1, rel=ESTIMATED)
    assert any("noise_std" in note and "estimated" in note for note in scan.notes)
    with h5py.File(path, "a") as file:
        file.attrs["noise_std"] = 0.25
    assert read_fastmri(path).noise_std == 0.25


def test_single_coil(tmp_path: Path) -> None:
    data = kspace()[:, 0]
    esc = np.ones((3, 16, 16), np.float32)
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=data, reconstruction_esc=esc))
    assert scan.shape == (3, 1, 32, 20)
    assert scan.kspace[2].shape == (1, 32, 20)
    assert scan.maps is not None
    assert (scan.maps[0] == 1).all()
    assert scan.mask.all()
    assert scan.reference is not None
    assert scan.recon_shape == (16, 16)


def test_bare_kspace_is_enough(tmp_path: Path) -> None:
    mask = np.arange(20) % 4 == 2
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace() * mask))
    assert (scan.mask == mask).all()
    assert scan.recon_shape == (32, 20)
    assert scan.affine is None
    assert any("no mask" in note for note in scan.notes)
    assert any("no ismrmrd_header" in note for note in scan.notes)


def test_mask_over_the_plane_is_derived(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((32, 20)) < 0.3
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace() * mask))
    assert (scan.mask == mask).all()


@pytest.mark.parametrize("shape", [(20,), (1, 20), (1, 1, 20, 1), (32, 20)])
def test_shapes_of_a_stored_mask(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = np.broadcast_to(np.arange(20) % 2 == 0, (32, 20)) if shape == (32, 20) else None
    row = (np.arange(20) % 2 == 0).reshape(shape) if mask is None else mask
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace(), mask=row.astype(np.float32)))
    assert scan.mask.shape == (20,)
    assert not scan.kspace[0][..., ~scan.mask].any()
    assert any("outside 'mask'" in note for note in scan.notes)


def test_an_image_matrix_of_finer_pixels_is_left_on_the_grid_of_kspace(tmp_path: Path) -> None:
    header = HEADER.replace("<x>16</x><y>16</y>", "<x>203</x><y>203</y>")
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace(), ismrmrd_header=header))
    # 220 x 176 mm of 13.75 mm pixels
    assert scan.recon_shape == (16, 13)
    assert scan.affine is not None
    np.testing.assert_allclose(np.diag(scan.affine), [13.75, 13.75, 5, 1])
    assert any("left on the grid of k-space" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><x/>', "refused"),
        ("<ismrmrdHeader", "malformed XML"),
        ("<ismrmrdHeader/>", "missing"),
        (HEADER.replace("<x>220</x>", "<x>0</x>"), "must be positive"),
        (HEADER.replace("<x>220</x>", "<x>nan</x>"), "is nan"),
        (HEADER.replace("<x>220</x>", "<x>wide</x>"), "wide"),
    ],
)
def test_unusable_header_is_left_out_and_noted(tmp_path: Path, header: str, why: str) -> None:
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace(), ismrmrd_header=header))
    assert scan.affine is None
    assert any("left out" in note and why in note for note in scan.notes)


def test_external_entity_is_never_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOPSECRET")
    text = f'<!DOCTYPE x [<!ENTITY a SYSTEM "{secret.as_uri()}">]><x>&a;</x>'
    with pytest.raises(ValueError, match="refused"):
        parse_header(text)


def test_written_header_is_read_back() -> None:
    header = parse_header(format_header((30, 41), (0.7, 0.8, 3.5)))
    assert header.recon == (30, 41, 1)
    assert header.columns == (0, 41)
    np.testing.assert_allclose(np.diag(header.affine((30, 41), (30, 41))), [0.7, 0.8, 3.5, 1])


def test_slices_sampled_differently_have_masks_of_their_own(tmp_path: Path) -> None:
    data = kspace(slices=4)
    data[..., 1::2] = 0
    data[1, :, :, 3] = 1
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=data))
    assert scan.mask.shape == (4, 1, 20)
    assert scan.mask[:, 0, 3].tolist() == [False, True, False, False]
    np.testing.assert_array_equal(scan.kspace[1], data[1])


def test_stack_indexing(tmp_path: Path) -> None:
    scan = read_fastmri(write(tmp_path / "a.h5", kspace=kspace()))
    assert len(scan.kspace) == scan.n_slices == 3
    np.testing.assert_array_equal(scan.kspace[-1], scan.kspace[2])
    assert scan.kspace[0:0].shape == (0, 4, 32, 20)
    assert np.asarray(scan.kspace).shape == scan.shape
    with pytest.raises(IndexError):
        scan.kspace[3]


def test_measured_array(samples: Path, tmp_path: Path) -> None:
    kspace, file = np.load(samples / "brain_8ch_kspace.npz")["kspace"], tmp_path / "brain.npy"
    np.save(file, kspace)
    scan = open_scan(file)
    assert isinstance(scan, MRIScan)
    assert scan.shape == (1, 8, 230, 180)
    assert scan.mask.shape == (230, 180)
    assert scan.mask.mean() == pytest.approx(0.124, abs=SHARE)
    assert scan.noise_std is not None
    assert 0.001 < scan.noise_std < 0.1
    np.testing.assert_array_equal(scan.kspace[0], kspace)
