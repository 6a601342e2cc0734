"""What is no volume, seen from the headers of a received series; and whether a derived series belongs to its source.

Used by the worker before and after the task. Reads headers only.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from restore.datasets.volume.dicom_files import (
    Image,
    boundary,
    files_below,
    find_images,
    header_of,
)
from restore.datasets.volume.dicom_mosaic import image_type, is_mosaic
from restore.errors import InputError

OURS = "restore"
"""Manufacturer by which the DICOM writer signs its series."""

SINGLE_IMAGE = "a single image, no volume"

SAME = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID")


def not_a_volume(folder: Path) -> str:
    """Why a series is left out, in words; "" for one that the task is to try.

    folder: its files. What is damaged or mixed is not judged here: the task refuses it in its own words.
    """
    try:
        with boundary(folder):
            return _left_out(folder)
    except InputError as cause:
        return cause.why if cause.path == folder else ""


def _left_out(folder: Path) -> str:
    """As `not_a_volume`. Raises InputError: of the folder where it holds no images, of a file that is damaged."""
    found = find_images(folder)
    images = found.images
    if found.broken:
        return ""
    header = header_of(images[0].file, stop_before_pixels=True)
    if _is_ours(header):
        return "a series that this program has made is not processed again"
    if all(_is_picture(image) for image in images):
        return f"{len(images)} colour pictures or screenshots, no volume"
    if all("LOCALIZER" in image_type(image.header) for image in images):
        return f"{len(images)} localizers (scouts), no volume"
    alone = len(images) == 1 and not images[0].has_frames
    if alone and not is_mosaic(images[0].header, images[0].name):
        return SINGLE_IMAGE
    return ""


def check_derived(source: Path, derived: Path) -> None:
    """Raise InputError where a derived series is not a new one of the source's patient, study and frame of reference,
    or does not name its source images.
    """
    with boundary(derived):
        sources = [_header(file) for file in files_below(source)]
        made = [_header(file) for file in files_below(derived)]
        if not made:
            raise InputError(derived, "the task made no images")
        instances = {str(s.SOPInstanceUID) for s in sources}
        old = {str(s.SeriesInstanceUID) for s in sources}
        for image in made:
            for keyword in SAME:
                if image.get(keyword) != sources[0].get(keyword):
                    raise InputError(derived, f"the result has another {keyword} than its source")
            if str(image.SeriesInstanceUID) in old:
                raise InputError(derived, "the result has the UID of its source's series")
            named = {
                str(i.get("ReferencedSOPInstanceUID"))
                for i in image.get("SourceImageSequence") or ()
            }
            if not named or not named <= instances:
                raise InputError(derived, "the result does not name its source images")


def _header(file: Path) -> Dataset:
    return header_of(
        file, stop_before_pixels=True,
        specific_tags=["SOPInstanceUID", "SeriesInstanceUID", "SourceImageSequence", *SAME],
    )  # fmt: skip


def _is_ours(header: Dataset) -> bool:
    signs = header.get("ContributingEquipmentSequence") or ()
    return any(str(item.get("Manufacturer", "")) == OURS for item in signs)


def _is_picture(image: Image) -> bool:
    """Whether an image has colours, or no place in the patient, as screenshots."""
    header = image.header
    if (
        header.get("SamplesPerPixel", 1) != 1
        or header.get("PhotometricInterpretation") == "PALETTE COLOR"
    ):
        return True
    placed = (
        image.has_frames or header.get("ImagePositionPatient") or "MOSAIC" in image_type(header)
    )
    return not placed
