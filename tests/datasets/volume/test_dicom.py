"""DICOM series: places by the standard's formula, refusals with their reasons, derived series."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from restore.datasets.volume import dicom, dicom_write
from restore.datasets.volume.volume import GeometryError, Volume, align_to
from restore.errors import ConfigError, InputError, OutputError, ShapeError

DECIMAL = 1e-4  # positions are decimal strings of 16 characters, of up to 700 mm
DOUBLE = 1e-6  # float64 of numbers that the file gives with at least seven digits
STEP = 0.02  # half a step of the stored integers

ROW = np.array([0.8, 0.6, 0.0])
COLUMN = np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ROW, COLUMN)
ORIGIN = np.array([-31.0, 12.5, 40.25])
SPACING = (0.9, 1.1)  # between rows, between columns
GAP = 2.5


def stored(n=4, rows=5, columns=6) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4000, (n, rows, columns)).astype(np.uint16)


def image(pixels: np.ndarray, position, **tags) -> Dataset:
    """A small MR image; a tag given as None is left out."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    given = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "SeriesNumber": 7,
        "SeriesDescription": "t1",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "Modality": "MR",
        "PatientName": "Doe^Jane",
        "PatientID": "12345",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "PixelSpacing": list(SPACING),
        "ImageOrientationPatient": [*ROW, *COLUMN],
        "ImagePositionPatient": [round(float(p), 8) for p in position],
        "SliceThickness": 2,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    } | tags
    for keyword, value in given.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.private_block(0x0029, "SECRET", create=True).add_new(1, "LO", "Jane Doe privately")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def series(folder: Path, pixels=None, change=None, **tags) -> Path:
    """A sound oblique series in shuffled files; `change(k, ds)` spoils it."""
    folder.mkdir()
    pixels = stored() if pixels is None else pixels
    names = np.random.default_rng(2).permutation(len(pixels))
    for k, plane in enumerate(pixels):
        ds = image(plane, ORIGIN + k * GAP * NORMAL, **tags)
        if change is not None:
            change(k, ds)
        ds.save_as(folder / f"im{names[k]}.dcm", enforce_file_format=True)
    return folder


def world(position, i, j) -> np.ndarray:
    """RAS millimetres of column i and row j, as the standard's equation C.7.6.2.1-1 says."""
    lps = np.asarray(position) + ROW * SPACING[1] * i + COLUMN * SPACING[0] * j
    return lps * [-1, -1, 1]


def test_places_and_values(tmp_path):
    volume = dicom.read(series(tmp_path / "s"))
    np.testing.assert_array_equal(volume.data, stored())
    assert volume.data.dtype == np.float32
    assert (volume.modality, volume.units) == ("MR", "")
    for i, j, k in [(0, 0, 0), (5, 0, 1), (0, 4, 2), (3, 2, 3)]:
        expected = world(ORIGIN + k * GAP * NORMAL, i, j)
        np.testing.assert_allclose((volume.affine @ [i, j, k, 1])[:3], expected, atol=DOUBLE)
    np.testing.assert_allclose(volume.spacing_mm, (1.1, 0.9, 2.5), atol=DOUBLE)


def test_slices_against_the_normal_are_turned_round(tmp_path):
    """Whatever the order of the files, z grows along the normal."""

    def downwards(k, ds):
        ds.ImagePositionPatient = list(ORIGIN - k * GAP * NORMAL)

    volume = dicom.read(series(tmp_path / "s", change=downwards))
    np.testing.assert_array_equal(volume.data, stored()[::-1])
    last = (volume.affine @ [2, 1, 3, 1])[:3]
    np.testing.assert_allclose(last, world(ORIGIN, 2, 1), atol=DOUBLE)


def test_rescale_is_each_slices_own(tmp_path):
    def own(k, ds):
        ds.RescaleSlope, ds.RescaleIntercept = 0.5 + k, -3 * k

    volume = dicom.read(series(tmp_path / "s", change=own))
    for k in range(4):
        np.testing.assert_allclose(volume.data[k], stored()[k] * (0.5 + k) - 3 * k, rtol=DOUBLE)


def test_missing_rescale(tmp_path):
    assert any("no rescale" in n for n in dicom.read(series(tmp_path / "mr")).notes)
    ct = {"Modality": "CT", "SOPClassUID": CTImageStorage}
    with pytest.raises(InputError, match="RescaleSlope is missing"):
        dicom.read(series(tmp_path / "ct", **ct))
    with pytest.raises(InputError, match="RescaleIntercept is missing"):
        dicom.read(series(tmp_path / "half", RescaleSlope=1))
    with pytest.raises(InputError, match="RescaleSlope is 0"):
        dicom.read(series(tmp_path / "zero", RescaleSlope=0, RescaleIntercept=0))
    volume = dicom.read(series(tmp_path / "hu", RescaleSlope=1, RescaleIntercept=-1024, **ct))
    assert (volume.modality, volume.units) == ("CT", "HU")
    np.testing.assert_array_equal(volume.data, stored() - 1024.0)


def shift(k, ds, mm, direction=NORMAL):
    moved = np.array(ds.ImagePositionPatient, float) + mm * direction
    ds.ImagePositionPatient = [round(float(p), 8) for p in moved]


SPOILED = {
    "duplicate": lambda k, ds: shift(k, ds, -GAP if k == 2 else 0),
    "missing slice": lambda k, ds: shift(k, ds, GAP if k > 2 else 0),
    "uneven": lambda k, ds: shift(k, ds, 0.4 if k == 1 else 0),
    "tilt": lambda k, ds: shift(k, ds, 0.2 * k, ROW),
    "mixed orientation": lambda k, ds: setattr(
        ds, "ImageOrientationPatient", [*COLUMN, *ROW] if k == 1 else [*ROW, *COLUMN]
    ),
    "localizer": lambda k, ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "different size": lambda k, ds: ds.update({"Rows": 3}) if k == 1 else None,
    "different pixel spacing": lambda k, ds: setattr(ds, "PixelSpacing", [1 + k, 1]),
    "PixelSpacing is missing": lambda k, ds: ds.pop("PixelSpacing"),
    "PixelSpacing is 0": lambda k, ds: setattr(ds, "PixelSpacing", [0, 1]),
    "ImagePositionPatient is missing": lambda k, ds: ds.pop("ImagePositionPatient"),
    "two perpendicular directions": lambda k, ds: setattr(
        ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]
    ),
    "colour": lambda k, ds: setattr(ds, "SamplesPerPixel", 3),
    "bits per pixel": lambda k, ds: setattr(ds, "BitsAllocated", 12),
    "Modality LUT": lambda k, ds: setattr(ds, "ModalityLUTSequence", [Dataset()]),
    "no pixels": lambda k, ds: ds.pop("PixelData"),
}


@pytest.mark.parametrize("reason", SPOILED)
def test_refused_with_the_reason(tmp_path, reason):
    folder = series(tmp_path / "s", change=SPOILED[reason])
    with pytest.raises(InputError, match=reason) as caught:
        dicom.read(folder)
    assert "Doe" not in str(caught.value)


def test_number_that_is_none(tmp_path):
    folder = series(tmp_path / "s")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"0.9\\1.1", b"abc\\1.1"))
    with pytest.raises(InputError, match="PixelSpacing is not a number"):
        dicom.read(folder)


def test_truncated_pixels_name_the_file(tmp_path):
    folder = series(tmp_path / "s")
    file = folder / "im2.dcm"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"im2\.dcm.*damaged"):
        dicom.read(folder)


def test_enormous_image(tmp_path, monkeypatch):
    def enormous(k, ds):
        ds.Rows = ds.Columns = 65535

    with pytest.raises(InputError, match=r"ended early|memory"):
        dicom.read(series(tmp_path / "s", change=enormous))
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", "0.0000001")
    with pytest.raises(InputError, match="RESTORE_MAX_MEMORY_GB"):
        dicom.read(series(tmp_path / "small"))


def test_compressed_images(tmp_path):
    def rle(k, ds):
        ds.compress(RLELossless)

    volume = dicom.read(series(tmp_path / "rle", change=rle))
    np.testing.assert_array_equal(volume.data, stored())

    def unknown(k, ds):
        rle(k, ds)
        ds.file_meta.TransferSyntaxUID = JPEGLSLossless

    with pytest.raises(InputError, match=r"JPEG-LS.*pylibjpeg"):
        dicom.read(series(tmp_path / "ls", change=unknown))


def test_foreign_files_are_counted_never_forced(tmp_path):
    folder = series(tmp_path / "s")
    (folder / "notes.txt").write_text("hello world " * 50)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(300))
    (folder / ".hidden").write_text("x")
    assert "skipped 2 file(s) that are not DICOM" in dicom.read(folder).notes
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM images"):
        dicom.read(tmp_path / "empty")


def test_several_series(tmp_path):
    folder = series(tmp_path / "s")
    series(folder / "other", stored() + 5, SeriesInstanceUID="1.2.3.99", SeriesNumber=8)
    with pytest.raises(InputError, match=r"2 of 2 series.*number 7.*number 8.*--series NUMBER"):
        dicom.read(folder)
    for key in ("8", "1.2.3.99", "3.99", "99"):
        np.testing.assert_array_equal(dicom.read(folder, series=key).data, stored() + 5)
    with pytest.raises(InputError, match="none of 2"):
        dicom.read(folder, series="5")


def test_one_file_is_one_slice(tmp_path):
    folder = series(tmp_path / "s")
    volume = dicom.read(sorted(folder.iterdir())[0])
    assert volume.data.shape == (1, 5, 6)
    assert volume.spacing_mm[2] == pytest.approx(2)
    assert any("one slice" in note for note in volume.notes)


def multi_frame(path: Path, frames: np.ndarray) -> Path:
    ds = image(
        frames,
        ORIGIN,
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=len(frames),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
    )
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [*ROW, *COLUMN]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 2
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence([])
    for k in (2, 0, 3, 1)[: len(frames)]:
        groups, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(p), 8) for p in ORIGIN + k * GAP * NORMAL]
        values.RescaleSlope, values.RescaleIntercept = 2, k
        groups.PlanePositionSequence = Sequence([position])
        groups.PixelValueTransformationSequence = Sequence([values])
        ds.PerFrameFunctionalGroupsSequence.append(groups)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("n", [4, 1])
def test_multi_frame(tmp_path, n):
    order = [2, 0, 3, 1][:n]
    source = multi_frame(tmp_path / "multi.dcm", stored(n))
    volume = dicom.read(source)
    for place, frame in enumerate(np.argsort(order)):
        expected = stored(n)[frame] * 2.0 + order[frame]
        np.testing.assert_array_equal(volume.data[place], expected)
    back = dicom.read(dicom_write.write(volume, tmp_path / "out"))
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.affine, volume.affine, atol=DOUBLE)
    written = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    reference = written.SourceImageSequence[0]
    assert written.SOPClassUID == MRImageStorage
    assert reference.ReferencedSOPClassUID == EnhancedMRImageStorage
    assert reference.ReferencedFrameNumber == int(np.argmin(order)) + 1


def test_derived_series(tmp_path):
    source = series(tmp_path / "s", PixelPaddingValue=0, WindowCenter=1, WindowWidth=1)
    polyglot = source / "im0.dcm"
    polyglot.write_bytes(b"MZ" + polyglot.read_bytes()[2:])
    volume = dicom.read(source)
    result = volume.with_data(volume.data * np.float32(1.234) - 99)
    out = dicom_write.write(result, tmp_path / "out", description="dds")
    assert sorted(f.name for f in out.iterdir()) == [f"000{k}.dcm" for k in (1, 2, 3, 4)]
    files = [pydicom.dcmread(f) for f in sorted(out.iterdir())]
    assert all(f.read_bytes()[:128] == bytes(128) for f in out.iterdir())
    assert len({ds.SOPInstanceUID for ds in files}) == 4
    assert len({ds.SeriesInstanceUID for ds in files} | {"1.2.3.4"}) == 2
    for k, ds in enumerate(files):
        assert ds.PatientName == "Doe^Jane"
        assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == ("1.2.3", "1.2.3.5")
        assert (ds.SeriesNumber, ds.InstanceNumber) == (1007, k + 1)
        assert ds.SeriesDescription == "t1 [restore dds]"
        assert list(ds.ImageType) == ["DERIVED", "PRIMARY", "M"]
        assert ds.DerivationCodeSequence[-1].CodingSchemeDesignator == "99RESTORE"
        assert "not for diagnosis" in ds.DerivationDescription
        reference = ds.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert reference == volume.header.slices[k].SOPInstanceUID
        assert not any(element.tag.is_private for element in ds)
        assert "PixelPaddingValue" not in ds
        assert "LossyImageCompression" not in ds
        assert ds.WindowWidth > 100
        assert ds.LargestImagePixelValue == ds.pixel_array.max()
    back = dicom.read(out)
    slope = float(files[0].RescaleSlope)
    assert np.abs(back.data - result.data).max() <= 0.5 * slope + 1e-6 * np.abs(result.data).max()
    assert slope < 2 * np.ptp(result.data) / 65535
    np.testing.assert_allclose(back.affine, volume.affine, atol=DECIMAL)


def test_unchanged_values_are_stored_without_loss(tmp_path):
    ct = {"Modality": "CT", "SOPClassUID": CTImageStorage, "LossyImageCompression": "01"}
    volume = dicom.read(series(tmp_path / "s", RescaleSlope=1, RescaleIntercept=-1024, **ct))
    back = dicom.read(dicom_write.write(volume, tmp_path / "out"))
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.units == "HU"
    assert any("with loss" in note for note in back.notes)
    negative = volume.with_data(volume.data - 4000)
    back = dicom.read(dicom_write.write(negative, tmp_path / "signed"))
    np.testing.assert_array_equal(back.data, negative.data)


@pytest.mark.parametrize(
    "data", [np.zeros, lambda s: np.full(s, -7.25), lambda s: np.full(s, 1e-9)]
)
def test_constant_volume(tmp_path, data):
    volume = Volume(np.asarray(data((2, 3, 4)), np.float64), np.eye(4), "MR")
    back = dicom.read(dicom_write.write(volume, tmp_path / "out"))
    np.testing.assert_allclose(back.data, volume.data, rtol=DOUBLE)


def test_selected_slices_keep_their_places(tmp_path):
    volume = dicom.read(series(tmp_path / "s"))
    for which in ([1, 3], [2], slice(None, None, -1)):
        part = volume.select(which)
        folder = dicom_write.write(part, tmp_path / f"out{len(part.data)}")
        back = dicom.read(folder)
        np.testing.assert_array_equal(align_to(back, volume).data, back.data)
        np.testing.assert_array_equal(align_to(part, back).data, part.data)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("modality", ["MR", "CT", ""])
def test_anonymous_series(tmp_path, mirrored, modality):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn[:, 0] *= np.sign(np.linalg.det(turn)) * (-1 if mirrored else 1)
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.7, 0.8, 3.1]
    affine[:3, 3] = [11, -22, 33]
    data = np.random.default_rng(4).normal(size=(3, 4, 5)) * 50
    volume = Volume(data, affine, modality, "HU" if modality == "CT" else "", source=None)
    out = dicom_write.write(volume, tmp_path / "out")
    back = dicom.read(out)
    assert (back.modality, back.units) == (volume.modality, volume.units)
    aligned = align_to(volume, back).data
    slope = float(back.header.slices[0].RescaleSlope)
    assert np.abs(aligned - data).max() <= 0.5 * slope + 1e-6 * np.abs(data).max()
    if not mirrored:
        np.testing.assert_allclose(back.affine, affine, atol=DECIMAL)
    first = pydicom.dcmread(out / "0001.dcm")
    assert first.PatientName == "ANONYMOUS"
    assert not first.StudyDate


def test_what_cannot_be_written(tmp_path):
    volume = dicom.read(series(tmp_path / "s"))
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="real"):
        dicom_write.write(volume.with_data(volume.data + 1j), out)
    with pytest.raises(OutputError, match="not finite"):
        dicom_write.write(volume.with_data(volume.data * np.nan), out)
    with pytest.raises(ShapeError, match="describes 4"):
        dicom_write.write(Volume(volume.data[:3], volume.affine, header=volume.header), out)
    moved = volume.affine.copy()
    moved[2, 3] += 3
    with pytest.raises(GeometryError, match="where its header says"):
        dicom_write.write(Volume(volume.data, moved, header=volume.header), out)
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(GeometryError, match="perpendicular"):
        dicom_write.write(Volume(volume.data, sheared), out)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="other file"):
        dicom_write.write(volume, out)


def test_big_endian_source(tmp_path):
    def big(k, ds):
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds["PixelData"].VR = "OW"
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()

    folder = tmp_path / "s"
    folder.mkdir()
    for k, plane in enumerate(stored()):
        ds = image(plane, ORIGIN + k * GAP * NORMAL, AcquisitionMatrix=[0, 5, 6, 0])
        big(k, ds)
        pydicom.dcmwrite(folder / f"{k}", ds, enforce_file_format=True)
    volume = dicom.read(folder)
    np.testing.assert_array_equal(volume.data, stored())
    out = dicom_write.write(volume, tmp_path / "out")
    np.testing.assert_array_equal(dicom.read(out).data, stored())
    assert list(pydicom.dcmread(out / "0001.dcm").AcquisitionMatrix) == [0, 5, 6, 0]


def test_real_series(samples, tmp_path):
    compare_with_pydicom(samples / "dicom_mr", 1.5, tmp_path / "o")


@pytest.mark.parametrize(("name", "gap"), [("mr/dicom_t1", 1.5), ("ct/dicom_phantom_5mm", 5.0)])
def test_whole_series(data, tmp_path, name, gap):
    compare_with_pydicom(data / name, gap, tmp_path / "o")


def test_a_real_ct_slice(tmp_path):
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path)
    volume, ds = dicom.read(tmp_path), pydicom.dcmread(tmp_path / "CT_small.dcm")
    assert (volume.units, volume.data.shape) == ("HU", (1, 128, 128))
    np.testing.assert_array_equal(volume.data[0], ds.pixel_array - 1024.0)


def compare_with_pydicom(folder, gap, out):
    volume = dicom.read(folder)
    headers = sorted(
        (pydicom.dcmread(f) for f in folder.glob("*.dcm")),
        key=lambda ds: float(ds.ImagePositionPatient[2]),
    )
    assert volume.n_slices == len(headers)
    assert volume.spacing_mm == pytest.approx((*headers[0].PixelSpacing[::-1], gap), abs=DOUBLE)
    for k in (0, len(headers) // 4, len(headers) - 1):
        ds = headers[k]
        scaled = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(
            ds.get("RescaleIntercept", 0)
        )
        np.testing.assert_array_equal(volume.data[k], scaled)
        x, y = (np.array(ds.ImageOrientationPatient[a : a + 3], float) for a in (0, 3))
        for i, j in ((0, 0), (ds.Columns - 1, 0), (17, 100)):
            lps = np.array(ds.ImagePositionPatient, float)
            lps += x * i * float(ds.PixelSpacing[1]) + y * j * float(ds.PixelSpacing[0])
            got = (volume.affine @ [i, j, k, 1])[:3]
            np.testing.assert_allclose(got, lps * [-1, -1, 1], atol=DOUBLE)
    assert volume.units == ("HU" if headers[0].Modality == "CT" else "")
    part = volume.select(slice(1, None, 2))
    back = dicom.read(dicom_write.write(part.with_data(part.data * np.float32(0.9)), out))
    np.testing.assert_allclose(back.affine, part.affine, atol=DECIMAL)
    assert np.abs(back.data - part.data * 0.9).max() < STEP
