"""DICOM series made with pydicom, image by image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

CT = {"Modality": "CT", "SOPClassUID": CTImageStorage, "RescaleSlope": 1, "RescaleIntercept": -1024}


def axial(pixels: np.ndarray, k: int, **tags: Any) -> Dataset:
    """One axial image of 0.5 x 0.5 x 2 mm, slice k of its series; a tag given as None is left out."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    given = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": f"1.2.3.4.{k + 1}", "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "SeriesNumber": 7,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"], "Modality": "MR", "PatientName": "Doe^Jane",
        "PatientID": "12345", "InstanceNumber": k + 1, "Rows": pixels.shape[-2], "Columns": pixels.shape[-1],
        "PixelSpacing": [0.5, 0.5], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, 2 * k], "SliceThickness": 2, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize, "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelData": pixels.tobytes(),
    } | tags  # fmt: skip
    for keyword, value in given.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds["PixelData"].VR = "OW"
    ds.file_meta.MediaStorageSOPClassUID = given["SOPClassUID"] or MRImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or generate_uid()
    return ds


@pytest.fixture
def axial_series(tmp_path: Path) -> Callable[..., Path]:
    """Write the slices of an array as files 0.dcm, 1.dcm, ... of a folder.

    change(k, ds) spoils an image; a modality "CT" brings the class and the rescale with it.
    """

    def make(name: str, pixels: np.ndarray, change: Any = None, **tags: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        if tags.get("Modality") == "CT":
            tags = CT | tags
        for k, plane in enumerate(pixels):
            ds = axial(plane, k, **tags)
            if change is not None:
                change(k, ds)
            ds.save_as(folder / f"{k}.dcm", enforce_file_format=True)
        return folder

    return make
