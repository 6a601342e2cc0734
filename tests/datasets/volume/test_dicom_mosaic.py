"""Frames of tiles: equal to dcm2niix's volume of the same file, and refused where a place cannot be told."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

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


@pytest.mark.parametrize(
    "frames", [12, [pydicom.Dataset(), pydicom.Dataset()]], ids=["number", "sequence"]
)
@pytest.mark.parametrize("creator", ["Image Private Header", "some other words"])
def test_tiles_of_united_imaging_by_their_private_tag(frames, creator, axial_series):
    """A number, or a sequence with one item a slice; whoever is said to have made the block."""

    def tiled(k, ds):
        block = ds.private_block(0x0065, creator, create=True)
        block.add_new(0x50, "SQ" if isinstance(frames, list) else "DS", frames)

    folder = axial_series("uih", np.zeros((1, 4, 4), np.uint16), tiled, Manufacturer="UIH")
    with pytest.raises(InputError, match=r"tiles of (12|2) slices \(United Imaging\)"):
        dicom.read(folder)


def test_a_mosaic_that_lost_all_its_tags_is_suspected(mosaic, axial_series, tmp_path):
    mosaic.remove_private_tags()
    mosaic.ImageType, mosaic.AcquisitionMatrix = ["ORIGINAL", "PRIMARY", "M"], [72, 0, 0, 72]
    mosaic.save_as(tmp_path / "bare.dcm")
    assert any(
        "tiles of several slices" in note for note in dicom.read(tmp_path / "bare.dcm").notes
    )
    twice = axial_series("twice", np.zeros((1, 8, 8), np.uint16), AcquisitionMatrix=[4, 0, 0, 4])
    assert not any("tiles" in note for note in dicom.read(twice).notes)


def csa_header(count: int, normal: np.ndarray) -> bytes:
    """Siemens' CSA header of the second kind with the two entries that matter."""
    entries = {
        "NumberOfImagesInMosaic": ("US", [str(count)]),
        "SliceNormalVector": ("FD", [f"{v:.8f}" for v in normal]),
    }
    head = b"SV10\4\3\2\1" + struct.pack("<II", len(entries), 77)
    for name, (kind, values) in entries.items():
        head += name.encode().ljust(64, b"\0")
        head += struct.pack("<i4siii", len(values), kind.encode(), 0, 6, 77)
        for k in range(6):
            text = values[k].encode() + b"\0" if k < len(values) else b""
            head += struct.pack("<4i", len(text), len(text), 77, len(text))
            head += text + b"\0" * (-len(text) % 4)
    return head + b"\0" * 4


AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1]])
_TURN, _TIP = np.radians([25.0, 15.0])
OBLIQUE = np.array(
    [
        [np.cos(_TURN), np.sin(_TURN), 0],
        [-np.sin(_TURN) * np.cos(_TIP), np.cos(_TURN) * np.cos(_TIP), np.sin(_TIP)],
    ]
)
FIRST = np.array([-31.0, 12.5, 40.25])
MADE = {
    "full": (9, 4, 6, AXIAL, 1),
    "padded": (7, 4, 6, AXIAL, 1),
    "two by two, reversed": (4, 6, 4, AXIAL, -1),
    "sagittal": (5, 4, 6, SAGITTAL, 1),
    "oblique": (6, 4, 10, OBLIQUE, 1),
    "oblique, reversed": (6, 4, 10, OBLIQUE, -1),
    "many": (26, 3, 3, OBLIQUE, 1),
    "two": (2, 4, 6, OBLIQUE, -1),
}
"""Slices, rows and columns of a tile, directions of rows and columns (LPS), sign of the slices' direction."""


def made_mosaic(folder: Path, case: str, *, csa: bool = True, number: int = 0, echo: float = 30):
    """Tiles of 0.9 x 1.1 mm, slices 2.5 mm apart; the volume in the order of its slices."""
    count, rows, columns, axes, sign = MADE[case]
    side, normal = int(np.ceil(np.sqrt(count))), sign * np.cross(*axes)
    volume = np.arange(count * rows * columns, dtype=np.uint16).reshape(count, rows, columns)
    volume += 1000 * number
    frame = np.full((side * rows, side * columns), 4095, np.uint16)
    for k, tile in enumerate(volume):
        y, x = k // side * rows, k % side * columns
        frame[y : y + rows, x : x + columns] = tile
    away = axes[0] * 1.1 * (side - 1) * columns / 2 + axes[1] * 0.9 * (side - 1) * rows / 2
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = pydicom.uid.MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"1.2.3.4.{number}"
    image.SeriesInstanceUID, image.StudyInstanceUID, image.Modality = "1.2.3.4", "1.2.3", "MR"
    image.Manufacturer, image.ImageType = "SIEMENS", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    image.InstanceNumber = image.AcquisitionNumber = number + 1
    image.EchoTime, image.SpacingBetweenSlices, image.SliceThickness = echo, 2.5, 2
    image.PixelSpacing, image.ImageOrientationPatient = [0.9, 1.1], [f"{v:.12g}" for v in axes.flat]
    image.ImagePositionPatient = [f"{v:.12g}" for v in FIRST - away]
    image.Rows, image.Columns = frame.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.SamplesPerPixel = 16, 16, 15, 1
    image.PixelRepresentation, image.PhotometricInterpretation = 0, "MONOCHROME2"
    image.PixelData = frame.tobytes()
    if csa:
        block = image.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        block.add_new(0x10, "OB", csa_header(count, normal))
    block = image.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", count)
    folder.mkdir(exist_ok=True)
    image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return volume


@pytest.mark.parametrize("case", MADE)
def test_made_mosaics(case: str, tmp_path: Path):
    tiles = made_mosaic(tmp_path / "m", case)
    volume = dicom.read(tmp_path / "m")
    count, *_, axes, sign = MADE[case]
    np.testing.assert_array_equal(volume.data, tiles[::sign])
    expected = np.eye(4)
    expected[:3, 0], expected[:3, 1] = axes[0] * 1.1, axes[1] * 0.9
    expected[:3, 2] = np.cross(*axes) * 2.5
    expected[:3, 3] = FIRST if sign > 0 else FIRST - np.cross(*axes) * 2.5 * (count - 1)
    # Decimal strings of 12 digits, of up to 60 mm.
    np.testing.assert_allclose(volume.affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-6)


@pytest.mark.parametrize("case", MADE)
def test_made_mosaics_as_dcm2niix_makes_them(case: str, tmp_path: Path):
    program = shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix is not installed")
    made_mosaic(tmp_path / "m", case)
    command = [program, "-b", "n", "-z", "n", "-o", str(tmp_path), str(tmp_path / "m")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    equal_in_the_patient(dicom.read(tmp_path / "m"), next(tmp_path.glob("*.nii")))


def test_a_direction_that_is_not_told_is_the_normals_with_a_note(tmp_path: Path):
    tiles = made_mosaic(tmp_path / "m", "padded", csa=False)
    volume = dicom.read(tmp_path / "m")
    np.testing.assert_array_equal(volume.data, tiles)
    assert any("does not tell in which direction" in note for note in volume.notes)


def test_a_time_and_an_echo_of_several_mosaics(tmp_path: Path):
    tiles = [
        made_mosaic(tmp_path / "m", "padded", number=k, echo=echo)
        for k, echo in enumerate((30, 12, 30, 12))
    ]
    with pytest.raises(InputError, match=r"4 Siemens mosaics.*--volume 0 to 3, or --echo 1 to 2"):
        dicom.read(tmp_path / "m")
    for index in range(4):
        np.testing.assert_array_equal(dicom.read(tmp_path / "m", index=index).data, tiles[index])
    np.testing.assert_array_equal(dicom.read(tmp_path / "m", echo=1, index=1).data, tiles[3])
    np.testing.assert_array_equal(dicom.read(tmp_path / "m", echo=2, index=0).data, tiles[0])
