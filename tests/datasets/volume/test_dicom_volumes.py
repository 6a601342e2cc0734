"""Several volumes in one DICOM series: listed when none is chosen, read when one is. Series made with pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from restore.datasets.open import read
from restore.errors import InputError

SLICES = 3


def written(folder: Path, count: int, **tags) -> Path:
    """`count` volumes of three slices; the k-th holds 100 k + slice. tags: values of each volume."""
    folder.mkdir()
    series = generate_uid()
    for number in range(count * SLICES):
        k, z = number % count, number // count  # all volumes of a slice, then the next slice
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SeriesInstanceUID, image.StudyInstanceUID = series, series
        image.Modality, image.InstanceNumber = "MR", number + 1
        image.Rows = image.Columns = 4
        image.PixelSpacing, image.SliceThickness = [2, 2], 5
        image.ImageOrientationPatient, image.ImagePositionPatient = (
            [1, 0, 0, 0, 1, 0],
            [0, 0, 5 * z],
        )
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.PixelData = np.full((4, 4), 100 * k + z, np.uint16).tobytes()
        for tag, values in tags.items():
            setattr(image, tag, values[k])
        image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


CASES = {
    "echoes": ({"EchoTime": [4.6, 2.3]}, "echo time in ms", [1, 0], "2.3"),
    "times": ({"TemporalPositionIdentifier": [1, 2]}, "time point", [0, 1], "1"),
    "weightings": ({"DiffusionBValue": [0.0, 1000.0]}, "b-value", [0, 1], "1000"),
    "acquisitions": ({"AcquisitionNumber": [7, 8]}, "acquisition", [0, 1], "7"),
    "numbers alone": ({}, "the order of instance numbers", [0, 1], "number 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_is_chosen_of_several(case: str, tmp_path: Path):
    tags, what, order, named = CASES[case]
    folder = written(tmp_path / "series", 2, **tags)
    with pytest.raises(InputError, match="2 volumes in one series") as refused:
        read(folder)
    assert what in str(refused.value)
    assert named in str(refused.value)
    assert "--volume 0 to 1" in str(refused.value)
    for index, k in enumerate(order):
        volume = read(folder, index=index)
        np.testing.assert_array_equal(volume.data[:, 0, 0], 100 * k + np.arange(SLICES))
        assert any(f"volume {index} of 2" in note for note in volume.notes)
    with pytest.raises(InputError, match="there is no volume 2"):
        read(folder, index=2)


def test_echoes_at_several_times_are_told_by_their_numbers(tmp_path: Path):
    folder = written(tmp_path / "series", 4, EchoTime=[1, 2, 1, 2], AcquisitionNumber=[1, 1, 2, 2])
    np.testing.assert_array_equal(read(folder, index=3).data[:, 0, 0], 300 + np.arange(SLICES))


def test_one_volume_needs_no_choice(tmp_path: Path):
    folder = written(tmp_path / "series", 1)
    np.testing.assert_array_equal(read(folder).data, read(folder, index=0).data)
    with pytest.raises(InputError, match="there is no volume 1"):
        read(folder, index=1)
