"""Headers that lack, contradict or add something: read with a note, or refused with the tag. Made with pydicom."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from restore.datasets.open import read
from restore.errors import InputError

PIXELS = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
LEFT_OUT = {"SOPClassUID": SecondaryCaptureImageStorage, "SOPInstanceUID": "1.9.9"}
NO_PLACE = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
MAPPING = Dataset()
MAPPING.RealWorldValueSlope = 0.5

READ = {
    "empty rescale": ({"RescaleSlope": "", "RescaleIntercept": ""}, "stored values were taken"),
    "another distance": ({"SpacingBetweenSlices": 7}, "is 7 mm, the slices lie 2 mm apart"),
    "real-world values": ({"RealWorldValueMappingSequence": [MAPPING]}, "was left aside"),
    "phase": ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "phase images"),
    "one word": ({"ImageType": "PRIMARY"}, "stored values were taken"),
}


@pytest.mark.parametrize("case", READ)
def test_read_with_a_note(case: str, axial_series):
    tags, said = READ[case]
    volume = read(axial_series("s", PIXELS, **tags))
    np.testing.assert_array_equal(volume.data, PIXELS)
    assert said in " ".join(volume.notes)
    assert ("phase" in " ".join(volume.notes)) == (case == "phase")
    assert volume.spacing_mm == pytest.approx((0.5, 0.5, 2))


@pytest.mark.parametrize(
    "keyword",
    ["PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation", "PixelSpacing"],
)
def test_a_missing_tag_is_named(keyword: str, axial_series):
    with pytest.raises(InputError, match=f"the DICOM tag {keyword}.* is missing"):
        read(axial_series("s", PIXELS, **{keyword: None}))


def test_bits_that_contradict_one_another(axial_series):
    with pytest.raises(InputError, match="BitsStored is 17, more than the 16"):
        read(axial_series("more", PIXELS, BitsStored=17, HighBit=16))
    volume = read(axial_series("high", PIXELS, BitsStored=12, HighBit=3))
    np.testing.assert_array_equal(volume.data, PIXELS)
    assert "HighBit contradicts the 12 bits stored: all bits were taken" in volume.notes


@pytest.mark.parametrize("series", ["1.2.3.4", "1.9"])
def test_screenshots_are_left_out(series: str, axial_series):
    """A dose report or screenshot has no place in the patient, in a series of its own or in that of the volume."""
    folder = axial_series("s", PIXELS)
    tags = {"SeriesInstanceUID": series, "SeriesNumber": 99, **LEFT_OUT, **NO_PLACE}
    axial_series("s/extra", PIXELS[:1], **tags)
    volume = read(folder)
    np.testing.assert_array_equal(volume.data, PIXELS)
    assert "skipped 1" in " ".join(volume.notes)
    if series == "1.9":
        with pytest.raises(InputError, match="ImagePositionPatient is missing"):
            read(folder, series="99")


def test_an_image_of_the_patient_without_a_place_is_not_left_out(axial_series):
    folder = axial_series("s", PIXELS)
    axial_series("s/lost", PIXELS[:1], SOPInstanceUID="1.9.9", **NO_PLACE)
    with pytest.raises(InputError, match="ImagePositionPatient is missing"):
        read(folder)


def test_a_folder_of_packed_files_is_named(axial_series, tmp_path: Path):
    folder = axial_series("s", PIXELS)
    for file in list(folder.iterdir()):
        file.with_suffix(".dcm.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(
        InputError, match=r"of 3 file\(s\), such as 0.dcm.gz \(a gzip archive of a DICOM"
    ):
        read(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without files"):
        read(tmp_path / "empty")
