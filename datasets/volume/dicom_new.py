"""Headers of an anonymous DICOM series for a volume that did not come from DICOM.

May be called by the DICOM writer only; touches nothing but its arguments. Every identifier is new,
every date is empty, and the patient is nobody.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from restore.datasets.volume.dicom_sort import DIRECTION_TOLERANCE, LPS_TO_RAS
from restore.datasets.volume.volume import GeometryError, Volume

CLASSES = {
    "MR": (MRImageStorage, "MR", "OTHER"),
    "CT": (CTImageStorage, "CT", "AXIAL"),
    "": (SecondaryCaptureImageStorage, "OT", "OTHER"),
}
"""Modality -> SOP class, modality code and third value of the image type."""

REQUIRED_TAGS = {"MR": {"ScanningSequence": "RM", "SequenceVariant": "NONE"}}
"""Tags that must have a value: here the one that says nothing."""

EMPTY_TAGS = {
    "": "StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID PatientBirthDate "
    "PatientSex Manufacturer PositionReferenceIndicator PatientPosition",
    "MR": "ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength",
    "CT": "KVP AcquisitionNumber",
}
"""Tags that must stand in a header and may be empty, for every image and by modality."""


def anonymous_series(volume: Volume) -> list[Dataset]:
    """Return one header per slice with new study and frame-of-reference UIDs.

    Raises GeometryError for a sheared volume, which DICOM slices cannot describe.
    """
    affine = LPS_TO_RAS @ volume.affine
    directions = affine[:3, :3] / np.array(volume.spacing_mm)
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    if skew > DIRECTION_TOLERANCE:
        raise GeometryError(
            volume.source or "volume",
            f"its axes are not perpendicular (cosine {skew:.3g}), which DICOM cannot say",
            "write NIfTI",
        )
    common = _common(volume)
    common.ImageOrientationPatient = _ds(directions[:, :2].T.ravel())
    common.PixelSpacing = _ds([volume.spacing_mm[1], volume.spacing_mm[0]])
    common.SliceThickness = common.SpacingBetweenSlices = _ds([volume.spacing_mm[2]])[0]
    images = []
    for k in range(volume.n_slices):
        image = Dataset()
        image.update(common)
        image.ImagePositionPatient = _ds(affine[:3, 2] * k + affine[:3, 3])
        images.append(image)
    return images


def complete(image: Dataset, code: str) -> None:
    """Set, in place, what must stand in an image of that modality code and does not, to what says nothing."""
    for keyword in " ".join([EMPTY_TAGS[""], EMPTY_TAGS.get(code, "")]).split():
        if keyword not in image:
            setattr(image, keyword, "" if keyword != "AcquisitionNumber" else None)
    for keyword, value in REQUIRED_TAGS.get(code, {}).items():
        if not image.get(keyword):
            setattr(image, keyword, value)
    if not (image.get("BodyPartExamined") or "Laterality" in image or "ImageLaterality" in image):
        image.Laterality = ""  # whether it was of a paired part is not known


def _common(volume: Volume) -> Dataset:
    storage, code, third = CLASSES[volume.modality]
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    complete(common, code)
    common.SOPClassUID = storage
    common.Modality = code
    common.ImageType = ["DERIVED", "SECONDARY", third]
    common.PatientName = common.PatientID = "ANONYMOUS"
    common.PatientIdentityRemoved = "YES"
    common.DeidentificationMethod = "written from a volume without a patient"
    common.StudyInstanceUID = generate_uid(prefix=None)
    common.FrameOfReferenceUID = generate_uid(prefix=None)
    common.SeriesNumber = 1
    if code == "OT":
        common.ConversionType = "WSD"
    return common


def _ds(values: object) -> list[str]:
    return [format_number_as_ds(float(v)) for v in np.ravel(np.asarray(values))]
