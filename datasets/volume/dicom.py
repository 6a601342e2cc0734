"""A DICOM series (a folder, one file or one multi-frame file) read as a volume.

May be called by `restore.datasets.open` and by anybody who knows it is DICOM. Reads the files below
the folder it is given. Files that are not DICOM are counted and skipped; nothing is ever parsed by
force, no interpretation of pydicom's errors is left to the caller, and notes and messages hold no
patient data, only file names and counts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import MediaStorageDirectoryStorage

from restore.datasets.budget import check_budget
from restore.datasets.content import DICOM, Content
from restore.datasets.formats import Format
from restore.datasets.volume import dicom_write
from restore.datasets.volume.dicom_frames import split_frames
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.dicom_sort import numbers, plane_of, sort_planes
from restore.datasets.volume.volume import Volume
from restore.errors import InputError, NotFoundError, RestoreError

MAGIC_AT, MAGIC = 128, b"DICM"
MOST_FILES = 100_000
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, eq=False)
class _Image:
    """A file's header, or that of one frame of it; `syntax` is the transfer syntax UID."""

    file: Path
    header: Dataset
    syntax: Any
    frame: int | None = None

    @property
    def name(self) -> str:
        return self.file.name if self.frame is None else f"{self.file.name} frame {self.frame + 1}"


def read(path: str | Path, *, series: str = "") -> Volume:
    """Read a series as one volume, (z, y, x): z along the slices' normal, intensities rescaled.

    path: a folder (searched to its bottom) or one file; series: which one, where there are several:
    its UID, the end of it, or its number. CT is in HU. Values are float32, float64 where 32 bits
    are stored. Raises NotFoundError, InputError.
    """
    source = Path(path)
    if not source.exists():
        raise NotFoundError(f"{source}: there is no such file or folder")
    with _boundary(source), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images, notes = _images(source)
        images = _chosen(images, series, source)
        if len(images) == 1 and _has_frames(images[0]):
            images = _frames(images[0])
        volume = _volume(images, source, notes)
    if caught:
        note = f"{len(caught)} irregular value(s) in the headers"
        volume = replace(volume, notes=(*volume.notes, note))
    return volume


def is_dicom(file: Path) -> bool:
    """Whether the file carries the DICOM mark behind its preamble."""
    with file.open("rb") as stream:
        return stream.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


def _claims(content: Content) -> bool:
    """A DICOM file, or a folder that holds one."""
    if content.is_folder:
        return any(map(is_dicom, _files_below(content.path)))
    return content.kind == DICOM


def _files_below(folder: Path) -> Iterator[Path]:
    """Files without the hidden ones and those in hidden folders, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # it may lead back here
                yield from _files_below(path)
        elif path.is_file():
            yield path


@contextmanager
def _boundary(path: Path) -> Iterator[None]:
    """Turn what pydicom raises into InputError, without its text, which may quote a header."""
    try:
        yield
    except RestoreError:
        raise
    except Exception as cause:
        why = f"damaged or unusual DICOM ({type(cause).__name__})"
        raise InputError(path, why, "fetch or export it again") from cause


def _images(source: Path) -> tuple[list[_Image], list[str]]:
    files = [source] if source.is_file() else list(_files_below(source))
    if len(files) > MOST_FILES:
        raise InputError(source, f"{len(files)} files below it", "give the folder of one series")
    images, foreign, imageless = [], 0, 0
    for file in files:
        if not is_dicom(file):
            foreign += 1
            continue
        with _boundary(file):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            if "Rows" not in header or header.file_meta.get("MediaStorageSOPClassUID") == (
                MediaStorageDirectoryStorage
            ):
                imageless += 1
                continue
            header.remove_private_tags()
            images.append(_Image(file, header, header.file_meta.get("TransferSyntaxUID")))
    if not images:
        why = f"no DICOM images: {foreign} other file(s), {imageless} DICOM file(s) without image"
        raise InputError(source, why, "give the folder of a series")
    notes = [f"skipped {foreign} file(s) that are not DICOM"] if foreign else []
    return images, notes + ([f"skipped {imageless} without an image"] if imageless else [])


def _chosen(images: list[_Image], series: str, source: Path) -> list[_Image]:
    groups: dict[str, list[_Image]] = {}
    for image in images:
        groups.setdefault(str(image.header.get("SeriesInstanceUID", "")), []).append(image)
    found = [
        group
        for uid, group in groups.items()
        if series in ("", uid, str(group[0].header.get("SeriesNumber")))
    ] or [group for uid, group in groups.items() if uid.endswith(series)]
    if len(found) == 1:
        return found[0]
    listing = "; ".join(
        f"number {group[0].header.get('SeriesNumber', '?')}, {group[0].header.get('Modality', '?')}"
        f", {len(group)} file(s), UID ...{uid[-8:]}"
        for uid, group in groups.items()
    )
    why = f"{len(found) if found else 'none'} of {len(groups)} series fit: {listing}"
    raise InputError(source, why, "choose one with series=NUMBER or the end of its UID")


def _has_frames(image: _Image) -> bool:
    header = image.header
    return (
        int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header
    )


def _frames(image: _Image) -> list[_Image]:
    headers = split_frames(image.header, image.file.name)
    return [_Image(image.file, header, image.syntax, k) for k, header in enumerate(headers)]


def _volume(images: list[_Image], source: Path, notes: list[str]) -> Volume:
    _refuse_unfit(images, source)
    planes = [plane_of(image.header, image.name) for image in images]
    thickness = 1.0
    if len(images) == 1:
        thickness, note = _thickness(images[0])
        notes = [*notes, note]
    order, affine = sort_planes(planes, source, thickness)
    images = [images[i] for i in order]
    rows, columns = planes[0].shape
    bits = max(_check_stored(image, rows, columns) for image in images)
    kind = np.float32 if bits <= 16 else np.float64
    stored_at_once = len(images) if images[0].frame is not None else 1
    voxels = rows * columns
    check_budget(
        voxels * (len(images) * np.dtype(kind).itemsize + stored_at_once * (bits // 8 + 8)), source
    )
    rescales = [_rescale(image) for image in images]
    data = np.empty((len(images), rows, columns), kind)
    for out, stored, (slope, intercept, _) in zip(data, _stored(images), rescales, strict=True):
        if stored.shape != (rows, columns):
            why = f"its pixels are {stored.shape}, its header says {(rows, columns)}"
            raise InputError(source, why, "export it again")
        out[...] = stored * np.float64(slope) + intercept
    modality, units, more = _meaning(images, [note for *_, note in rescales])
    headers = DicomSeries(tuple(image.header for image in images))
    return Volume(data, affine, modality, units, headers, source, (*notes, *more))


def _refuse_unfit(images: list[_Image], source: Path) -> None:
    for image in images:
        if image.frame is None and _has_frames(image):
            why = f"{image.name} has several frames and is one of {len(images)} files"
            raise InputError(source, why, "read the multi-frame file alone")
    scouts = sum("LOCALIZER" in (image.header.get("ImageType") or ()) for image in images)
    if scouts:
        why = f"{scouts} of {len(images)} images are localizers (scouts)"
        raise InputError(source, why, "give the folder of the series itself")


def _thickness(image: _Image) -> tuple[float, str]:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if image.header.get(keyword):
            value = numbers(image.header, keyword, 1, image.name)[0]
            if value > 0:
                return value, f"one slice: its {keyword} was taken for the slice distance"
    return 1.0, "one slice without thickness: 1 mm was taken"


def _check_stored(image: _Image, rows: int, columns: int) -> int:
    """Return the stored bits per pixel of an image that can be decoded; refuse the others."""
    header, file = image.header, image.file
    samples = header.get("SamplesPerPixel", 1)
    if samples != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise InputError(file, "a colour image, not one intensity per pixel")
    bits = int(numbers(header, "BitsAllocated", 1, image.name)[0])
    if bits not in (8, 16, 32, 64):
        raise InputError(file, f"{bits} bits per pixel, expected 8, 16, 32 or 64")
    if not image.syntax:
        raise InputError(file, "it does not say how its pixels are stored", "export it again")
    try:
        decoder = get_decoder(image.syntax)
    except NotImplementedError:
        why = f"pixels stored as {image.syntax.name}, which no plugin reads"
        raise InputError(file, why, "export it uncompressed") from None
    if not decoder.is_available:
        why = f"pixels compressed as {image.syntax.name}; this needs one of: "
        hint = "install a plugin (pip install pylibjpeg pylibjpeg-libjpeg), or export uncompressed"
        raise InputError(file, why + "; ".join(decoder.missing_dependencies), hint)
    if not (image.syntax.is_compressed or image.syntax.is_deflated):
        needed, there = rows * columns * bits // 8, file.stat().st_size
        if there < needed:
            why = f"damaged: ended early: {there} bytes for an image of {needed}"
            raise InputError(file, why, "fetch or export it again")
    return bits


def _stored(images: list[_Image]) -> Iterator[NDArray[Any]]:
    if images[0].frame is not None:
        with _boundary(images[0].file):
            stack = pydicom.dcmread(images[0].file).pixel_array
            stack = stack.reshape(len(images), *stack.shape[-2:])  # one frame has no frame axis
        for image in images:
            yield stack[image.frame]
        return
    for image in images:
        with _boundary(image.file):
            whole = pydicom.dcmread(image.file)
            if not any(keyword in whole for keyword in PIXELS):
                raise InputError(image.file, "damaged: it has no pixels", "export it again")
            stored = whole.pixel_array
        yield stored


def _rescale(image: _Image) -> tuple[float, float, str]:
    """Return slope, intercept and a note where the standard's default was taken."""
    header, name = image.header, image.name
    if header.get("ModalityLUTSequence"):
        why = "its intensities are given by a table (Modality LUT), not by slope and intercept"
        raise InputError(name, why, "export it with slope and intercept")
    given = [keyword in header for keyword in ("RescaleSlope", "RescaleIntercept")]
    if not any(given) and header.get("Modality") not in ("CT", "PT"):
        return 1.0, 0.0, "no rescale in the headers: stored values were taken"
    slope = numbers(header, "RescaleSlope", 1, name)[0]
    intercept = numbers(header, "RescaleIntercept", 1, name)[0]
    if slope == 0:
        raise InputError(name, "the DICOM tag RescaleSlope is 0", "export it again")
    return slope, intercept, ""


def _meaning(images: list[_Image], notes: list[str]) -> tuple[str, str, list[str]]:
    """Return modality, units and what a user should know about the intensities."""
    header = images[0].header
    modality, units = str(header.get("Modality", "")), ""
    if modality == "CT":
        units = "HU"
        if header.get("RescaleType") not in (None, "", "HU"):
            units, notes = "", [*notes, "the rescale type of this CT is not HU"]
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        notes = [*notes, "shown inverted in viewers (MONOCHROME1); values are as stored"]
    if header.get("PixelPaddingValue") is not None:
        notes = [*notes, "padding outside the field of view is kept as it is"]
    if header.get("LossyImageCompression") == "01":
        notes = [*notes, "the source was once compressed with loss"]
    counted = Counter(note for note in notes if note)
    return modality if modality in ("MR", "CT") else "", units, list(counted)


FORMAT = Format(
    name="DICOM series",
    holds="volume",
    files="folder, or one file",
    ways="volume in; derived series out",
    rank=60,  # a folder is asked for files of other formats first
    claims=_claims,
    open=read,
    options=("series",),
    called="a DICOM series",
    save=dicom_write.write,
    suffixes=("",),
)
