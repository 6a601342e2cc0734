"""Which series of volumes lie below a folder, for those who take them one by one.

Called by `restore.many.inputs`. Reads headers only. A series is called by its description and number; what names the
patient is not looked at.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from restore.datasets.volume.dicom_files import (
    Found,
    Image,
    by_series,
    is_placed,
    look_at_image,
    series_number,
)

LONGEST_LABEL = 60
"""Characters of a series' name: descriptions have up to 64, names of files more limits than one."""


@dataclasses.dataclass(frozen=True)
class Series:
    """A series of images. folder: the lowest that holds all its files. uid: of DICOM, for `--series`. label: a name
    for files, such as "003_T1_MPRAGE". alone: whether no other series has files below that folder."""

    folder: Path
    uid: str
    label: str
    files: int
    alone: bool = True


def series_of(files: Sequence[Path]) -> tuple[list[Series], list[str], list[Path]]:
    """The series that may be volumes, sorted by folder and label; notes on the others; damaged files of no series.

    files: that begin as DICOM does. Localizers are left out, and images that have no place in the patient where others
    have one.
    """
    found = Found()
    for file in files:
        look_at_image(file, found)
    groups = by_series(found.images)
    placed = {uid: group for uid, group in groups.items() if any(map(is_placed, group))}
    kept = {uid: group for uid, group in (placed or groups).items() if not _is_scout(group)}
    notes = [
        f"left out series {series_number(group[0])} of {len(group)} image(s): "
        + ("a localizer" if _is_scout(group) else "without a place in the patient")
        for uid, group in groups.items()
        if uid not in kept
    ]
    folders = {uid: _folder(group) for uid, group in kept.items()}
    known = {image.file.parent for image in found.images}
    stray = sorted(file for file in found.broken if file.parent not in known)
    made = [
        Series(
            folders[uid], uid, _label(group[0]), len(group),
            alone=not any(
                image.file.is_relative_to(folders[uid])
                for other, images in groups.items() if other != uid for image in images
            ),
        )
        for uid, group in kept.items()
    ]  # fmt: skip
    return sorted(made, key=lambda s: (str(s.folder), s.label, s.uid)), notes, stray


def _folder(group: list[Image]) -> Path:
    parents = {str(image.file.parent) for image in group}
    return Path(os.path.commonpath(parents))


def _is_scout(group: list[Image]) -> bool:
    return any("LOCALIZER" in (image.header.get("ImageType") or ()) for image in group)


def _label(image: Image) -> str:
    """Number and description in letters that every file system takes."""
    number = series_number(image)
    number = number.zfill(3) if number.isdigit() else "series"
    told = str(image.header.get("SeriesDescription") or image.header.get("Modality") or "")
    words = "".join(c if c.isalnum() or c in ".-" else "_" for c in told)
    return f"{number}_{words[:LONGEST_LABEL]}".strip("._")
