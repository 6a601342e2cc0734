"""Which files of a folder are DICOM images, and which of them make one series.

May be called by the DICOM reader and by whoever asks whether a file is DICOM. Reads headers only, and of them only
the tags that decide (`LOOKED_AT`), so that thousands of files are looked at in seconds. Messages and notes hold file
names and counts, no patient data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from restore.datasets.content import DICOM, SNIFFED_BYTES, kind_of_bytes
from restore.datasets.volume.dicom_mosaic import MOSAIC_TAGS
from restore.errors import InputError, RestoreError

MOST_FILES = 100_000

LOOKED_AT: list[int | str | BaseTag] = [
    *(
        "Manufacturer SeriesDescription "
        "SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesNumber Modality ImageType Rows Columns SamplesPerPixel "
        "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames "
        "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope "
        "RescaleIntercept RescaleType ModalityLUTSequence PixelPaddingValue PixelPaddingRangeLimit "
        "LossyImageCompression PerFrameFunctionalGroupsSequence RealWorldValueMappingSequence "
        "EchoTime EchoNumbers TemporalPositionIdentifier InversionTime FlipAngle RepetitionTime FrameReferenceTime "
        "NominalPercentageOfCardiacPhase "
        "DiffusionBValue DiffusionGradientOrientation TriggerTime AcquisitionNumber AcquisitionTime "
        "InstanceNumber GantryDetectorTilt AcquisitionMatrix"
    ).split(),
    *map(Tag, MOSAIC_TAGS),
]
"""What decides whether and how a file is read; everything else is read with the pixels."""

NO_IMAGES = (
    "Raw Data", "Presentation State", " SR ", "Structured Report", "Key Object", "Segmentation", "Waveform",
    "Spectroscopy", "RT ", "Encapsulated", "Real World Value", "Registration", "Fiducials", "Tractography",
    "Measurements", "Surface", "Procedure Log", "Protocol", "Color Palette", "Hanging",
)  # fmt: skip
"""Words in the names of those storage classes whose objects are no images of the patient, though some have rows."""


@dataclass(frozen=True, eq=False)
class Image:
    """A file's header, or that of one frame or tile of it; `syntax` is the transfer syntax UID.

    tile: row and column of the first pixel in a frame of several slices.
    """

    file: Path
    header: Dataset
    syntax: Any
    frame: int | None = None
    tile: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """For messages: the file, and the number of the frame or tile from 1."""
        part = "frame" if self.tile is None else "tile"
        return self.file.name if self.frame is None else f"{self.file.name} {part} {self.frame + 1}"

    @property
    def has_frames(self) -> bool:
        """Whether the file holds several frames, or one in their manner."""
        header = self.header
        return (
            int(header.get("NumberOfFrames") or 1) > 1
            or "PerFrameFunctionalGroupsSequence" in header
        )


@dataclass(eq=False)
class Found:
    """What lies below a folder. broken: files that should be images and are damaged, with the reason."""

    images: list[Image] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    foreign: list[Path] = field(default_factory=list)
    imageless: Counter[str] = field(default_factory=Counter)
    unmarked: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was left out or assumed."""
        notes = [f"skipped {n} without an image ({what})" for what, n in self.imageless.items()]
        if self.foreign:
            notes = [f"skipped {len(self.foreign)} file(s) that are not DICOM", *notes]
        if self.unmarked:
            notes.append(
                f"{self.unmarked} file(s) lack the DICOM mark and were read as if it stood there"
            )
        return [*notes, *self.left_out]


def is_dicom(file: Path) -> bool:
    """Whether the file carries the DICOM mark behind its preamble, or begins as a DICOM data set does."""
    with file.open("rb") as stream:
        return kind_of_bytes(stream.read(SNIFFED_BYTES)) == DICOM


def files_below(folder: Path) -> Iterator[Path]:
    """Files without the hidden ones and those in hidden folders, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # it may lead back here
                yield from files_below(path)
        elif path.is_file():
            yield path


@contextmanager
def boundary(path: Path) -> Iterator[None]:
    """Turn what pydicom raises into InputError, without its text, which may quote a header."""
    try:
        yield
    except RestoreError:
        raise
    except Exception as cause:
        why = f"damaged or unusual DICOM ({type(cause).__name__})"
        raise InputError(path, why, "fetch or export it again") from cause


def header_of(file: Path, **options: Any) -> Dataset:
    """A file's data set, also where the mark and the meta information before it are missing.

    options: of pydicom's `dcmread`. The transfer syntax is then the one by which the header could be read. Raises
    InputError.
    """
    with boundary(file):
        # The mark may be missing, never the beginning of a data set.
        header = pydicom.dcmread(file, force=is_dicom(file), **options)
        if not header.file_meta.get("TransferSyntaxUID"):
            implicit, little = header.original_encoding
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
        return header


def find_images(source: Path) -> Found:
    """The images of a file or below a folder. Raises InputError where there are none, or far too many files."""
    files = [source] if source.is_file() else list(files_below(source))
    if len(files) > MOST_FILES:
        raise InputError(source, f"{len(files)} files below it", "give the folder of one series")
    found = Found()
    for file in files:
        if is_dicom(file):
            look_at_image(file, found)
        else:
            found.foreign.append(file)
    _call_broken(found)
    if not found.images:
        for file, why in found.broken.items():
            raise InputError(file, why, "fetch or export it again")
        held = ", ".join(f"{n} {what}" for what, n in found.imageless.items()) or "none else"
        why = f"no DICOM images: {len(found.foreign)} file(s) that are not DICOM, of DICOM files {held}"
        raise InputError(source, why, "give the folder of a series of images")
    return found


def look_at_image(file: Path, found: Found) -> None:
    """Put a file where it belongs: images, damaged ones, objects that are no images."""
    try:
        header = header_of(file, stop_before_pixels=True, specific_tags=LOOKED_AT)
        with boundary(file):
            stored_as = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
            storage = UID(str(stored_as or ""))
            if storage == MediaStorageDirectoryStorage:
                found.imageless["DICOMDIR, a list of files"] += 1
            elif any(word in storage.name for word in NO_IMAGES):
                found.imageless[storage.name] += 1
            elif "Rows" in header:
                found.images.append(Image(file, header, header.file_meta.TransferSyntaxUID))
                found.unmarked += header.preamble is None
            elif storage.name.endswith("Image Storage") and not storage.is_private:
                found.broken[file] = f"damaged: its class is {storage.name} and it has no Rows"
            else:
                found.imageless[storage.name or "without a class"] += 1
    except InputError as fault:
        found.broken[file] = fault.why


def _call_broken(found: Found) -> None:
    """Files named like the images beside them that are no DICOM, or empty, are damaged ones, not foreign ones."""
    named = {(image.file.parent, _suffix(image.file)) for image in found.images}
    for file in list(found.foreign):
        suffix, size = _suffix(file), file.stat().st_size
        alike = (file.parent, suffix) in named
        with file.open("rb") as stream:
            unknown = size == 0 or "unknown kind" in kind_of_bytes(stream.read(SNIFFED_BYTES))
        if suffix == ".dcm" or (alike and unknown):
            found.foreign.remove(file)
            found.broken[file] = (
                "empty: 0 bytes" if size == 0 else "damaged: it does not begin as a DICOM file"
            )


def _suffix(file: Path) -> str:
    """Of names that end in a number, as those of many scanners, none."""
    suffix = file.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def choose_series(found: Found, series: str, source: Path) -> list[Image]:
    """The images of one series, without copies of the same file.

    series: its UID, the end of it or its number, "" for the only one. Raises InputError, also for a damaged file that
    lies beside the images: a shorter volume is not read in silence.
    """
    groups = by_series(found.images)
    if not series:
        groups = _with_places(groups, found)
    fit = [
        group for uid, group in groups.items() if series in ("", uid, series_number(group[0]))
    ] or [group for uid, group in groups.items() if uid.endswith(series)]
    if len(fit) != 1:
        listing = "; ".join(
            f"number {series_number(group[0])}, {group[0].header.get('Modality', '?')}"
            f", {len(group)} file(s), UID ...{uid[-8:]}"
            for uid, group in groups.items()
        )
        why = f"{len(fit) if fit else 'none'} of {len(groups)} series fit: {listing}"
        raise InputError(source, why, "choose one: --series NUMBER, or the end of its UID")
    folders = {image.file.parent for image in fit[0]}
    for file, why in found.broken.items():
        if file.parent in folders:
            raise InputError(file, why, "fetch or export it again, or take it out of the folder")
    return _without_copies(fit[0])


def by_series(images: Sequence[Image]) -> dict[str, list[Image]]:
    """Images by the UID of their series."""
    groups: dict[str, list[Image]] = {}
    for image in images:
        groups.setdefault(str(image.header.get("SeriesInstanceUID", "")), []).append(image)
    return groups


def _with_places(groups: dict[str, list[Image]], found: Found) -> dict[str, list[Image]]:
    """The only series whose images lie in the patient, where others have no place, such as screenshots."""
    placed = {uid: group for uid, group in groups.items() if any(map(is_placed, group))}
    if len(placed) != 1:
        return groups
    for uid, group in groups.items():
        if uid not in placed:
            number = series_number(group[0])
            found.left_out.append(
                f"skipped {len(group)} image(s) of series {number}, which have no place in the patient"
            )
    return placed


def is_placed(image: Image) -> bool:
    """Whether its header says where in the patient it lies, or may for each frame."""
    return image.has_frames or bool(image.header.get("ImagePositionPatient"))


def without_screenshots(images: list[Image], notes: list[str]) -> list[Image]:
    """The images of a series without secondary captures that have no place, where others have one."""
    kept = [image for image in images if not _is_screenshot(image)]
    if not any(map(is_placed, kept)) or len(kept) == len(images):
        return images
    notes.append(f"skipped {len(images) - len(kept)} secondary capture(s) without a place")
    return kept


def _is_screenshot(image: Image) -> bool:
    storage = UID(str(image.header.get("SOPClassUID") or ""))
    return "Secondary Capture" in storage.name and not is_placed(image)


def series_number(image: Image) -> str:
    """As it stands; "?" where there is none, or none that is a number."""
    try:
        return str(image.header.get("SeriesNumber", "?"))
    except (ValueError, TypeError, OverflowError):
        return "?"


def _without_copies(images: list[Image]) -> list[Image]:
    """Each image once: files with one instance UID must hold the same bytes."""
    kept: dict[str, Image] = {}
    for image in images:
        uid = str(image.header.get("SOPInstanceUID") or image.file)
        if uid in kept and image.file.read_bytes() != kept[uid].file.read_bytes():
            why = f"{image.name} and {kept[uid].name} differ and have one SOPInstanceUID"
            raise InputError(image.file, why, "export the series again, or take one of them out")
        kept.setdefault(uid, image)
    return list(kept.values())
