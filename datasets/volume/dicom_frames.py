"""One multi-frame (enhanced) DICOM image seen as single slices.

May be called by the DICOM reader only. Works on headers in memory. Each frame becomes a header of
its own with the tags that a single-frame image carries at its top level, so that everything behind
(sorting, rescaling, writing) knows one kind of slice.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from restore.datasets.volume.dicom_classic import Find, fill_classic, put
from restore.errors import InputError

SINGLE_FRAME_CLASS = {
    EnhancedMRImageStorage: MRImageStorage,
    LegacyConvertedEnhancedMRImageStorage: MRImageStorage,
    EnhancedCTImageStorage: CTImageStorage,
    LegacyConvertedEnhancedCTImageStorage: CTImageStorage,
}

MOVED_TAGS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
"""Functional group -> the tags that a single-frame image has at its top level."""

TOLD_APART_BY = (
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
)
"""Functional group, its tag, and the single-frame tag by which volumes are told apart."""

FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")

FRAME_TAGS = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "DimensionIndexSequence",
    "DimensionOrganizationSequence",
)


def split_frames(header: Dataset, name: str) -> list[Dataset]:
    """Return one header per frame, in stored order: its number is the instance number, its class
    and UID remain those of the whole. The groups are taken out of the given header.

    Raises InputError for an image without the functional groups that place its frames, of a class
    that has no single-frame counterpart, or whose groups do not match its number of frames.
    """
    n_frames = int(header.get("NumberOfFrames") or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        why = f"{n_frames} frames in one file, without their places (functional groups)"
        raise InputError(name, why, "export the series as single-frame MR or CT images")
    if header.get("SOPClassUID") not in SINGLE_FRAME_CLASS:
        storage = UID(str(header.get("SOPClassUID") or "")).name or "without a class"
        why = f"{n_frames} frames of {storage}; of multi-frame images those of MR and CT are read"
        raise InputError(name, why, "export the series as single-frame images")
    if len(per_frame) != n_frames:
        why = f"it announces {n_frames} frames and places {len(per_frame)}"
        raise InputError(name, why, "export it again")
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for keyword in FRAME_TAGS:
        if keyword in header:
            del header[keyword]
    return [_frame(header, shared, groups, k) for k, groups in enumerate(per_frame)]


def _frame(common: Dataset, shared: Dataset, groups: Dataset, k: int) -> Dataset:
    frame = Dataset()
    frame.update(common)  # elements are shared by the frames: replaced below, never changed
    put(frame, "InstanceNumber", k + 1)
    for sequence, keywords in MOVED_TAGS.items():
        found = groups.get(sequence) or shared.get(sequence)
        for keyword in keywords:
            if found and keyword in found[0]:
                frame[keyword] = found[0][keyword]

    def item(group: str) -> Dataset | None:
        held = groups.get(group) or shared.get(group)
        return held[0] if held else None

    fill_classic(frame, item)
    _tell_apart(frame, item)
    return frame


def _tell_apart(frame: Dataset, find: Find) -> None:
    """Set what tells the volumes of one file apart: weighting and its direction, time, kind of image."""
    for group, keyword, name in TOLD_APART_BY:
        held = find(group)
        value: Any = None if held is None else held.get(keyword)
        if value is not None:
            put(frame, name, value)
    weighting = find("MRDiffusionSequence")
    gradient = weighting and weighting.get("DiffusionGradientDirectionSequence")
    if gradient and gradient[0].get("DiffusionGradientOrientation"):
        put(frame, "DiffusionGradientOrientation", gradient[0].DiffusionGradientOrientation)
    for group in FRAME_TYPES:
        kind = find(group)
        if kind is not None and kind.get("FrameType"):
            put(frame, "ImageType", list(kind.FrameType))
