"""Frames of tiles: equal to dcm2niix's volume of the same file, and refused where a place cannot be told."""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage

from restore.datasets.volume import dicom, dicom_write
from restore.datasets.volume.volume import align_to
from restore.errors import InputError


@pytest.fixture
def mosaic(samples):
    """A real file: five slices of 72 x 72 in 3 x 3 tiles."""
    return pydicom.dcmread(samples / "dicom_mosaic" / "epi_pe_ap-00001.dcm")


def equal_in_the_patient(volume, file):
    """Voxel by voxel, at the positions that nibabel gives."""
    image = nibabel.load(file)
    expected = np.asarray(image.dataobj)
    assert volume.data.size == expected.size
    z, y, x = np.indices(volume.data.shape)
    points = volume.affine @ np.stack([x.ravel(), y.ravel(), z.ravel(), np.ones(x.size)])
    i, j, k = np.rint((np.linalg.inv(image.affine) @ points)[:3]).astype(int)
    np.testing.assert_array_equal(volume.data.ravel(), expected[i, j, k])
    # The file holds its matrix in single precision, of values up to 108 mm.
    np.testing.assert_allclose((image.affine @ [i[0], j[0], k[0], 1])[:3], points[:3, 0], atol=1e-4)


def test_a_mosaic_is_the_volume_of_its_tiles(samples):
    volume = dicom.read(samples / "dicom_mosaic")
    assert volume.data.shape == (5, 72, 72)
    np.testing.assert_allclose(volume.spacing_mm, (3, 3, 12))
    equal_in_the_patient(volume, samples / "dicom_mosaic_expected.nii.gz")


def test_slices_against_the_normal(mosaic, samples, tmp_path):
    """The other sign of SliceNormalVector: the tiles go downwards from the same first slice."""
    raw = mosaic[0x0029, 0x1010].value
    at = raw.index(b"SliceNormalVector")
    third = raw.index(b"1.00000000", at)
    mosaic[0x0029, 0x1010].value = raw[:third] + b"-1.0000000" + raw[third + 10 :]
    mosaic.save_as(tmp_path / "down.dcm")
    up, down = dicom.read(samples / "dicom_mosaic"), dicom.read(tmp_path / "down.dcm")
    np.testing.assert_array_equal(down.data, up.data[::-1])
    np.testing.assert_allclose((down.affine @ [0, 0, 4, 1])[:3], (up.affine @ [0, 0, 0, 1])[:3])


def test_derived_series_of_a_mosaic(samples, tmp_path):
    volume = dicom.read(samples / "dicom_mosaic")
    back = dicom.read(dicom_write.write(volume, tmp_path / "out"))
    np.testing.assert_array_equal(align_to(volume, back).data, volume.data)
    first = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert (first.Rows, first.Columns) == (72, 72)
    assert "MOSAIC" not in first.ImageType
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID == (
        volume.header.slices[0].SOPInstanceUID
    )


def test_without_private_tags(mosaic, tmp_path):
    mosaic.remove_private_tags()
    mosaic.save_as(tmp_path / "anonymous.dcm")
    with pytest.raises(InputError, match=r"Siemens mosaic without the private tags.*dcm2niix"):
        dicom.read(tmp_path / "anonymous.dcm")


def test_mosaic_that_its_type_does_not_name(mosaic, tmp_path):
    mosaic.ImageType = ["DERIVED", "PRIMARY", "M"]
    mosaic.save_as(tmp_path / "silent.dcm")
    with pytest.raises(InputError, match="mosaic of 5 slices, its ImageType does not"):
        dicom.read(tmp_path / "silent.dcm")


def test_tiles_that_do_not_fit_and_damaged_private_header(mosaic, tmp_path):
    whole = mosaic[0x0029, 0x1010].value
    mosaic[0x0029, 0x1010].value = whole[:300]
    mosaic.save_as(tmp_path / "cut.dcm")
    with pytest.raises(InputError, match=r"CSA header is damaged|without the private tags"):
        dicom.read(tmp_path / "cut.dcm")
    mosaic[0x0029, 0x1010].value = whole
    mosaic.Rows, mosaic.PixelData = 215, mosaic.PixelData[: 215 * 216 * 2]
    mosaic.save_as(tmp_path / "odd.dcm")
    with pytest.raises(InputError, match=r"5 slices in 3 x 3 tiles"):
        dicom.read(tmp_path / "odd.dcm")


def test_two_numbers_of_slices(mosaic, tmp_path):
    mosaic[0x0019, 0x100A].value = 7
    mosaic.save_as(tmp_path / "two.dcm")
    with pytest.raises(InputError, match="of 5 slices by one private tag and of 7 by another"):
        dicom.read(tmp_path / "two.dcm")


def test_several_mosaics_are_a_time_series(mosaic, tmp_path):
    for k in range(3):
        mosaic.SOPInstanceUID = mosaic.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
        mosaic.save_as(tmp_path / f"{k}.dcm")
    with pytest.raises(InputError, match=r"3 Siemens mosaics.*time series.*give one of the files"):
        dicom.read(tmp_path)
    assert dicom.read(tmp_path / "1.dcm").data.shape == (5, 72, 72)


def test_the_word_in_an_enhanced_file_means_nothing(axial_series):
    pixels = np.arange(8, dtype=np.uint16).reshape(1, 2, 4)

    def enhanced(k, ds):
        groups = pydicom.Dataset()
        for sequence, keyword in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PixelMeasuresSequence", "PixelSpacing"),
        ):
            item = pydicom.Dataset()
            item[keyword] = ds[keyword]
            del ds[keyword]
            setattr(groups, sequence, [item])
        ds.NumberOfFrames, ds.PerFrameFunctionalGroupsSequence = 1, [groups]

    folder = axial_series(
        "xa", pixels, enhanced, SOPClassUID=EnhancedMRImageStorage, ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"],
    )  # fmt: skip
    np.testing.assert_array_equal(dicom.read(folder).data, pixels)


def test_other_tiled_frames_are_named(axial_series):
    folder = axial_series(
        "uih", np.zeros((1, 4, 4), np.uint16), ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"],
        ImagePositionPatient=None,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"tiles of several slices \(United Imaging\)"):
        dicom.read(folder)
