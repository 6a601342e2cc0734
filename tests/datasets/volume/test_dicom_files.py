"""Folders as people have them: other objects, damaged files, files without a mark, thousands of files."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    EnhancedMRColorImageStorage,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RawDataStorage,
    SegmentationStorage,
)

from restore.datasets.open import read as read_any
from restore.datasets.volume import dicom, dicom_pixels
from restore.errors import InputError


def stored(n=4):
    return np.random.default_rng(5).integers(0, 4000, (n, 6, 8)).astype(np.uint16)


@pytest.mark.parametrize(
    "storage", [RawDataStorage, SegmentationStorage, "1.2.840.10008.5.1.4.1.1.11.1"]
)
def test_what_is_no_image_by_its_class_is_left_out(axial_series, storage):
    folder = axial_series("s", stored())
    axial_series("s/more", stored(1), SOPClassUID=storage, SOPInstanceUID="1.9.9")
    volume = dicom.read(folder)
    np.testing.assert_array_equal(volume.data, stored())
    assert any("skipped 1 without an image" in note for note in volume.notes)
    with pytest.raises(InputError, match="no DICOM images"):
        dicom.read(folder / "more")


def test_colour_is_the_reason(axial_series):
    folder = axial_series(
        "c", np.zeros((1, 6, 8), np.uint8), SOPClassUID=EnhancedMRColorImageStorage, SamplesPerPixel=3,
        PhotometricInterpretation="RGB", NumberOfFrames=2, ImagePositionPatient=None,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"a colour image \(RGB\)"):
        dicom.read(folder)


def test_twelve_bit_jpeg_names_the_plugin(axial_series, tmp_path):
    folder = axial_series("j", stored(1), BitsStored=12, HighBit=11)
    ds = pydicom.dcmread(folder / "0.dcm")
    ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    ds.save_as(folder / "0.dcm")
    with pytest.raises(InputError, match=r"JPEG Extended.*12 bits.*pylibjpeg"):
        dicom.read(folder)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("start", [0, 132])
def test_files_without_the_mark(axial_series, implicit, start):
    """start 0: the data set alone; 132: preamble and mark cut off, the group of meta information left."""

    def way(k, ds):
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    folder = axial_series("s", stored(), way)
    for file in folder.iterdir():
        if start:
            file.write_bytes(file.read_bytes()[start:])
        else:
            ds = pydicom.dcmread(file)
            del ds.file_meta
            ds.preamble = None
            pydicom.dcmwrite(file, ds, implicit_vr=implicit, little_endian=True)
            assert file.read_bytes()[:2] == b"\x08\x00"
    volume = read_any(folder)
    np.testing.assert_array_equal(volume.data, stored())
    assert any("lack the DICOM mark" in note for note in volume.notes)
    np.testing.assert_array_equal(read_any(folder / "1.dcm").data[0], stored()[1])


@pytest.mark.parametrize("left", [0, 40, 200, 500, 700])
def test_a_cut_file_is_named_not_left_out(axial_series, left):
    folder = axial_series("s", stored())
    file = folder / "2.dcm"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(InputError, match=r"2\.dcm: (empty|damaged)"):
        dicom.read(folder)


def test_a_cut_file_without_suffix(axial_series):
    folder = axial_series("s", stored())
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(""))
    (folder / "README").write_text("about these files\n")
    np.testing.assert_array_equal(dicom.read(folder).data, stored())
    (folder / "3").write_bytes(b"")
    with pytest.raises(InputError, match=r"3: empty: 0 bytes"):
        dicom.read(folder)


@pytest.mark.parametrize(("factor", "why"), [(0.5, "ended early"), (2, "more frames than it says")])
def test_pixels_of_another_number(axial_series, factor, why):
    def other(k, ds):
        if k == 1:
            ds.PixelData = (ds.PixelData * 2)[: int(factor * len(ds.PixelData))]

    with pytest.raises(InputError, match=rf"1\.dcm.*{why}"):
        dicom.read(axial_series("s", stored(), other))


def test_a_copy_of_a_file_counts_once(axial_series):
    folder = axial_series("s", stored())
    shutil.copy(folder / "1.dcm", folder / "copy of 1.dcm")
    np.testing.assert_array_equal(dicom.read(folder).data, stored())
    ds = pydicom.dcmread(folder / "1.dcm")
    ds.PixelData = stored()[0].tobytes()
    ds.save_as(folder / "copy of 1.dcm")
    with pytest.raises(InputError, match="differ and have one SOPInstanceUID"):
        dicom.read(folder)


def test_a_list_of_files_is_named(axial_series, tmp_path):
    folder = axial_series("s", stored(1))
    ds = pydicom.dcmread(folder / "0.dcm")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("Rows", "Columns", "PixelData"):
        del ds[keyword]
    ds.save_as(tmp_path / "DICOMDIR")
    with pytest.raises(InputError, match="DICOMDIR, a list of files"):
        dicom.read(tmp_path / "DICOMDIR")


def test_hundreds_of_files_are_refused_by_their_headers(axial_series, monkeypatch):
    """Ten time points of fifty slices: no file's pixels are read to find out."""

    def again(k, ds):
        ds.ImagePositionPatient = [0, 0, 2 * (k % 50)]
        ds.SOPInstanceUID = f"1.2.3.{k + 1}"

    folder = axial_series("s", np.zeros((500, 2, 2), np.uint16), again)
    whole = []
    monkeypatch.setattr(dicom_pixels, "header_of", whole.append)
    with pytest.raises(InputError, match="10 volumes in one series"):
        dicom.read(folder)
    assert whole == []


@pytest.mark.parametrize("slope", ["1e38", "9" * 40, "1e-42"])
def test_values_beyond_the_kind_of_number(axial_series, slope):
    folder = axial_series("s", stored(), RescaleSlope="7777777", RescaleIntercept=0)
    for file in folder.iterdir():
        before = file.read_bytes()
        at = before.index(b"7777777")
        text = slope.encode().ljust((len(slope) + 1) // 2 * 2)
        length = len(text).to_bytes(2, "little")
        file.write_bytes(before[: at - 2] + length + text + before[at + 8 :])
    with pytest.raises(InputError, match=r"not finite|too small"):
        dicom.read(folder)


def test_floats_that_are_not_finite(axial_series):
    values = np.ones((1, 6, 8), np.float32)
    values[0, 2, 3] = np.nan

    def floats(k, ds):
        ds.FloatPixelData = values[k].tobytes()
        del ds["PixelData"]
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            del ds[keyword]

    with pytest.raises(InputError, match="1 of 48 voxels are not finite"):
        dicom.read(axial_series("f", values, floats))


def test_bits_that_are_not_stored_do_not_count(axial_series):
    """Twelve bits in sixteen: overlays above, and a sign that is not carried up."""
    true = stored() % 4096
    folder = axial_series("high", true | np.uint16(0xA000), BitsStored=12, HighBit=11)
    volume = dicom.read(folder)
    np.testing.assert_array_equal(volume.data, true)
    assert any("bits outside the 12" in note for note in volume.notes)
    padded = true.copy()
    padded[:, 0] = 63536
    folder = axial_series("padded", padded, BitsStored=12, HighBit=11, PixelPaddingValue=63536)
    np.testing.assert_array_equal(dicom.read(folder).data, padded)
    signed = true.astype(np.int16) - 2048
    folder = axial_series("signed", signed & np.int16(0x0FFF), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(dicom.read(folder).data, signed)
    shifted = axial_series("shifted", true << np.uint16(4), BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(dicom.read(shifted).data, true)


def test_inverted_grey_and_signed_slope(axial_series):
    signed = stored().astype(np.int16) - 2000
    folder = axial_series(
        "m", signed, PhotometricInterpretation="MONOCHROME1", RescaleSlope=-0.5, RescaleIntercept=3,
        PixelSpacing=[0.5, 0.75],
    )  # fmt: skip
    volume = dicom.read(folder)
    np.testing.assert_array_equal(volume.data, signed * np.float32(-0.5) + 3)
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2))
    assert any("MONOCHROME1" in note for note in volume.notes)
