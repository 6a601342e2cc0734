"""A small MR study, and tasks of the tests, for what serves over the network; nobody may change the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

NAME = "Doe^Jane"
STUDY, SERIES, FRAME = "1.2.840.99.1", "1.2.840.99.1.7", "1.2.840.99.2"
SHAPE = (4, 16, 12)


def mr_image(k: int, *, series: str = SERIES, **tags: object) -> Dataset:
    """Slice k of a series of 1 x 1 x 2 mm; a tag given as None is left out."""
    rows, columns = SHAPE[1:]
    pixels = (np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns) + 7 * k) % 400
    image = Dataset()
    given = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": f"{series}.{k + 1}", "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": series, "FrameOfReferenceUID": FRAME, "SeriesNumber": 7, "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"], "PatientName": NAME, "PatientID": "12345",
        "InstanceNumber": k + 1, "Rows": rows, "Columns": columns, "PixelSpacing": [1, 1],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [-5, -8, 2 * k],
        "SliceThickness": 2, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
        "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
        "ScanningSequence": "GR", "SequenceVariant": "NONE", "EchoTime": 4,
    } | tags  # fmt: skip
    for keyword, value in given.items():
        if value is not None:
            setattr(image, keyword, value)
    if "PixelData" in image:
        image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


@pytest.fixture
def make_image() -> Callable[..., Dataset]:
    """Make one image of the study."""
    return mr_image


@pytest.fixture
def study() -> list[Dataset]:
    """The images of one series of one study."""
    return [mr_image(k) for k in range(SHAPE[0])]


@pytest.fixture
def study_folder(tmp_path: Path, study: list[Dataset]) -> Path:
    """The study as files."""
    folder = tmp_path / "study"
    folder.mkdir()
    for k, image in enumerate(study):
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder
