"""NIfTI headers whose qform and sform differ: nibabel's choice is read, both are kept, a note says so."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.volume import nifti, nifti_write
from restore.datasets.volume.identity import header_of_source
from restore.datasets.volume.volume import GeometryError

SFORM = np.array([[-2, 0, 0, 40], [0, 2, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1.0]])
TURN = np.array([[0.8, 0.6, 0, 7], [-0.6, 0.8, 0, -9], [0, 0, 1, 11], [0, 0, 0, 1.0]])
QFORM = TURN @ SFORM


def file(path, qform=QFORM, unit="mm", codes=(4, 1)):
    """codes: of sform (4: an atlas) and qform (1: the scanner)."""
    scale = {"mm": 1, "meter": 1e-3}[unit]
    small = np.diag([scale] * 3 + [1])
    image = nibabel.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4) * 10, None)
    image.header.set_xyzt_units(unit)
    image.header.set_sform(small @ SFORM, code=codes[0])
    image.header.set_qform(small @ qform, code=codes[1])
    image.to_filename(path)
    return path


@pytest.mark.parametrize("unit", ["mm", "meter"])
def test_the_sform_is_read_and_said(tmp_path, unit):
    path = file(tmp_path / "two.nii", unit=unit)
    volume = nifti.read(path)
    np.testing.assert_allclose(volume.affine, SFORM, atol=1e-5)
    if unit == "mm":
        np.testing.assert_allclose(volume.affine, nibabel.load(path).affine, atol=1e-5)
    corners = np.array([[i, j, k, 1] for i in (0, 3) for j in (0, 3) for k in (0, 3)]).T
    apart = np.linalg.norm((QFORM @ corners - SFORM @ corners)[:3], axis=0).max()
    assert any(f"up to {apart:.3g} mm apart: the sform was used" in n for n in volume.notes)


def test_equal_ones_are_not_mentioned(tmp_path):
    assert not nifti.read(file(tmp_path / "same.nii", SFORM)).notes
    assert not nifti.read(file(tmp_path / "sform.nii", codes=(1, 0))).notes
    only = nifti.read(file(tmp_path / "qform.nii", codes=(0, 1)))
    np.testing.assert_allclose(only.affine, QFORM, atol=1e-5)


def test_voxel_sizes_that_the_sform_contradicts_are_said(tmp_path):
    """A volume that was resampled, its sform updated, its voxel sizes not."""
    stale = np.diag([1, 2, 3, 1.0])
    volume = nifti.read(file(tmp_path / "stale.nii", stale, codes=(1, 0)))
    np.testing.assert_allclose(volume.affine, SFORM, atol=1e-5)
    (note,) = volume.notes
    assert "in the header are 1 x 2 x 3, by the sform 2 x 2 x 3" in note


def test_both_are_written(tmp_path):
    volume = nifti.read(file(tmp_path / "two.nii"))
    part = volume.select([1, 3])
    move = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 1]])
    for made, step in ((volume, np.eye(4)), (part, move)):
        header = nibabel.load(nifti_write.write(made, tmp_path / f"{made.n_slices}.nii")).header
        np.testing.assert_allclose(header.get_sform(), SFORM @ step, atol=1e-4)
        np.testing.assert_allclose(header.get_qform(), QFORM @ step, atol=1e-4)
        assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1)


def test_both_go_through_a_scan(tmp_path):
    volume = nifti.read(file(tmp_path / "two.nii"))
    scan = simulate_ct(volume, views=4, slices=slice(1, 3))
    result = scan.volume(np.zeros((2, 4, 4), np.float32))
    out = nifti_write.write(result, tmp_path / "out.nii")
    header = nibabel.load(out).header
    start = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_allclose(header.get_sform(), SFORM @ start, atol=1e-4)
    np.testing.assert_allclose(header.get_qform(), QFORM @ start, atol=1e-4)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1)
    assert any("up to" in note for note in scan.notes)


@pytest.mark.parametrize(
    "matrix", [[[1, 2], [3, 4]], "text", np.zeros((4, 4)).tolist(), [[1], [2, 3]]]
)
def test_a_damaged_record(matrix):
    record = {"kind": "nifti", "sform_code": 1, "qform_code": 1, "qform_from_sform": matrix}
    with pytest.raises(GeometryError, match="qform_from_sform"):
        header_of_source(record, np.eye(4))
