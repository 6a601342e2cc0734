"""The DICOM files of a folder into an archive: those that it lacks, one after the other.

Used by `restore push`. What the archive has is asked before, so that the same command goes on where one was
interrupted. Reads the folder only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from restore.datasets.volume.dicom_files import files_below, header_of, is_dicom
from restore.errors import InputError, NotFoundError, PartialFailure
from restore.serving.dicomweb.archive import UID, Archive

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
MOST_TOLD = 5
"""Failures in a message."""


@dataclass(frozen=True)
class Pushed:
    """images: in the folder; sent: of these; left_out: files that are no DICOM images."""

    images: int
    sent: int
    left_out: int


def push(archive: Archive, folder: Path, on_image: Callable[[int, int], None]) -> Pushed:
    """Send what the archive lacks. on_image: told after each image how many of how many are there.

    Raises NotFoundError, InputError (no DICOM files, two different ones with one UID), PartialFailure with the images
    that the archive refused, ConfigError.
    """
    series, left_out = _series_below(folder)
    total = sum(map(len, series.values()))
    done, sent, failed = 0, 0, []
    for (study, uid), files in series.items():
        there = {image.uid for image in archive.instances(study, uid)}
        for instance, file in files.items():
            if instance not in there:
                why = archive.store(header_of(file))
                failed += [f"{file.relative_to(folder)}: {why}"] if why else []
                sent += not why
            done += 1
            on_image(done, total)
    if failed:
        told = "; ".join(failed[:MOST_TOLD]) + "; ..." * (len(failed) > MOST_TOLD)
        raise PartialFailure(
            f"{folder}: {len(failed)} of {total} images were not taken by {archive.url}: {told}"
        )
    return Pushed(total, sent, left_out)


def _series_below(folder: Path) -> tuple[dict[tuple[str, str], dict[str, Path]], int]:
    """The files by study and series, and by instance; and how many are none."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: there is no such folder")
    series: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    left_out = 0
    for file in files_below(folder):
        if not is_dicom(file):
            left_out += 1
            continue
        header = header_of(file, stop_before_pixels=True)
        if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            left_out += 1
            continue
        study, uid, instance = (str(header.get(name) or "") for name in UIDS)
        if not all(UID.fullmatch(text) for text in (study, uid, instance)):
            raise InputError(
                file, f"one of {', '.join(UIDS)} is missing or no UID", "export it again"
            )
        other = series[study, uid].setdefault(instance, file)
        if other.read_bytes() != file.read_bytes():
            raise InputError(
                file,
                f"differs from {other.name} and has the same SOPInstanceUID",
                "take one of them out",
            )
    if not series:
        raise InputError(
            folder,
            f"no DICOM files among {left_out} file(s)",
            "give the folder of a series or a study",
        )
    return dict(series), left_out
