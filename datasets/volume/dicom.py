"""A DICOM series (a folder, one file or one multi-frame file) read as a volume.

May be called by `restore.datasets.open` and by anybody who knows it is DICOM. Reads the files below
the folder it is given: first their headers, by which a series is chosen, put in order or refused,
then the pixels. Objects that are no images and files that are not DICOM are counted and skipped, no
interpretation of pydicom's errors is left to the caller, and notes and messages hold no patient
data, only file names and counts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from restore.datasets.budget import check_budget
from restore.datasets.content import DICOM, Content
from restore.datasets.formats import Format
from restore.datasets.volume import dicom_write
from restore.datasets.volume.ct_doubts import doubts_of_ct
from restore.datasets.volume.dicom_files import (
    Image,
    boundary,
    choose_series,
    files_below,
    find_images,
    header_of,
    is_dicom,
    without_screenshots,
)
from restore.datasets.volume.dicom_frames import split_frames
from restore.datasets.volume.dicom_mosaic import image_type, is_mosaic, split_mosaic, tiles_note
from restore.datasets.volume.dicom_pixels import (
    check_stored,
    padding_range,
    refuse_colour,
    rescale_of,
    rescaled,
    stored_pixels,
)
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.dicom_sort import (
    LPS_TO_RAS,
    Plane,
    numbers,
    optional_number,
    plane_of,
    sort_planes,
    spacing_note,
)
from restore.datasets.volume.dicom_volumes import Wanted, one_volume
from restore.datasets.volume.resampling import straightened
from restore.datasets.volume.volume import Volume
from restore.errors import InputError, NotFoundError


def read(
    path: str | Path,
    *,
    series: str = "",
    index: int | None = None,
    echo: int | None = None,
    resample: bool = False,
) -> Volume:
    """Read a series as one volume, (z, y, x): z along the slices' normal, intensities rescaled.

    path: a folder (searched to its bottom) or one file; series: which one, where there are several:
    its UID, the end of it, or its number. CT is in HU. Values are float32, float64 where 32 bits
    are stored. A Siemens mosaic is the volume of its tiles. index: which volume, from 0, where a series
    holds several (times, echoes, weightings, as `dicom_volumes` tells them apart). echo: which echo, from 1 in the
    order of echo times; index then counts the volumes of that echo. resample: make a straight,
    even volume of a sheared or uneven stack, by interpolation. Raises NotFoundError, InputError.
    """
    source = Path(path)
    if not source.exists():
        raise NotFoundError(f"{source}: there is no such file or folder")
    with boundary(source), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = find_images(source)
        images = choose_series(found, series, source)
        chosen: list[str] = []
        images = _slices(images, source, Wanted(index, echo), chosen)
        volume = _volume(images, source, [*found.notes, *chosen], resample)
    if caught:
        note = f"{len(caught)} irregular value(s) in the headers"
        volume = replace(volume, notes=(*volume.notes, note))
    return volume


def _claims(content: Content) -> bool:
    """A DICOM file, or a folder that holds one."""
    if content.is_folder:
        return any(map(is_dicom, files_below(content.path)))
    return content.kind == DICOM


def _slices(images: list[Image], source: Path, wanted: Wanted, notes: list[str]) -> list[Image]:
    """The slices of the wanted volume that a series' files hold: themselves, or their frames, or their tiles."""
    images = without_screenshots(images, notes)
    for image in images:
        refuse_colour(image)
    _refuse_unfit(images, source)
    images = sorted(images, key=lambda image: (_instance(image), image.name))
    if images[0].has_frames:
        images = [frame for image in images for frame in _frames(image)]
    mosaics = [i for i in images if i.frame is None and is_mosaic(i.header, i.name)]
    if mosaics and len(images) > len(mosaics):
        notes.append(f"{len(images) - len(mosaics)} image(s) beside the mosaics were left out")
    if mosaics:
        headers = [image.header for image in mosaics]
        (mosaic,) = one_volume(mosaics, headers, wanted, source, notes, whole="Siemens mosaics")
        if len(mosaics) > 1:
            notes.append(f"read from {mosaic.name}")
        return _tiles(mosaic, notes)
    return one_volume(images, [image.header for image in images], wanted, source, notes)


def _instance(image: Image) -> float:
    try:
        return float(image.header.get("InstanceNumber") or 0)
    except (ValueError, TypeError):
        return 0.0


def _frames(image: Image) -> list[Image]:
    whole = header_of(image.file, stop_before_pixels=True)
    with boundary(image.file):
        whole.remove_private_tags()
        headers = split_frames(whole, image.file.name)
    return [replace(image, header=header, frame=k) for k, header in enumerate(headers)]


def _tiles(image: Image, notes: list[str]) -> list[Image]:
    whole = header_of(image.file, stop_before_pixels=True)
    tiles = split_mosaic(whole, image.file.name, notes)
    return [
        replace(image, header=header, frame=k, tile=tile) for k, (header, tile) in enumerate(tiles)
    ]


def _volume(images: list[Image], source: Path, notes: list[str], resample: bool = False) -> Volume:
    planes = [plane_of(image.header, image.name) for image in images]
    thickness = 1.0
    if len(images) == 1:
        thickness, note = _thickness(images[0])
        notes = [*notes, note]
    order, affine = sort_planes(planes, source, thickness, resample)
    images = [images[i] for i in order]
    told = optional_number(images[0].header, "SpacingBetweenSlices")
    notes = [*notes, *spacing_note(planes, float(np.linalg.norm(affine[:3, 2])), told)]
    rows, columns = planes[0].shape
    bits = max(check_stored(image, rows, columns) for image in images)
    kind = np.float32 if bits <= 16 else np.float64
    voxels = rows * columns
    size = voxels * (len(images) * np.dtype(kind).itemsize + bits // 8 + 8)
    if images[0].frame is not None:  # these are decoded file by file
        files = {image.file for image in images}
        size += len(images) * voxels * bits // 8 + max(file.stat().st_size for file in files)
    check_budget(size, source)
    rescales = [rescale_of(image) for image in images]
    data = np.empty((len(images), rows, columns), kind)
    headers, more = [], [note for *_, note in rescales]
    for k, (stored, header, note) in enumerate(stored_pixels(images)):
        if stored.shape != (rows, columns):
            why = f"its pixels are {stored.shape}, its header says {(rows, columns)}"
            raise InputError(images[k].file, why, "export it again")
        data[k] = rescaled(stored, rescales[k][:2], kind, images[k])
        headers.append(header)
        more.append(note)
    padding = _padding(images, [rescale[:2] for rescale in rescales], more)
    modality, units, more = _meaning(images, more)
    more += doubts_of_ct(headers, data) if units == "HU" else []
    volume = Volume(
        data, affine, modality, units, DicomSeries(tuple(headers)), source, (*notes, *more), padding
    )
    return _straight(volume, [planes[i] for i in order]) if resample and len(order) > 1 else volume


def _straight(volume: Volume, planes: list[Plane]) -> Volume:
    """The volume on an upright, even grid; its slices are no longer those of the headers, which are left out."""
    first = planes[0]
    made = straightened(
        volume.data,
        np.array([plane.position for plane in planes]),
        first.row * first.spacing_mm[0],
        first.column * first.spacing_mm[1],
        float(volume.data.min()),
        volume.source or "",
    )
    if not made.notes:
        return volume
    affine = np.column_stack([*made.steps_mm, made.first_mm])
    affine = LPS_TO_RAS @ np.vstack([affine, [0, 0, 0, 1]])
    return replace(
        volume, data=made.data, affine=affine, header=None, notes=(*volume.notes, *made.notes)
    )


def _padding(
    images: list[Image], rescales: list[tuple[float, float]], notes: list[str]
) -> tuple[float, float] | None:
    """The range of intensities that mean "not measured", where one holds for all slices."""
    found = {
        None if stored is None else (slope * stored[0] + inter, slope * stored[1] + inter)
        for stored, (slope, inter) in zip(
            (padding_range(image.header) for image in images), rescales, strict=True
        )
    }
    if len(found) > 1:
        notes.append("the padding tags differ between the slices and were left aside")
    ends = found.pop() if len(found) == 1 else None
    return None if ends is None else (min(ends), max(ends))


def _refuse_unfit(images: list[Image], source: Path) -> None:
    framed = sum(image.has_frames for image in images)
    if 0 < framed < len(images):
        why = f"{framed} of {len(images)} files of the series hold several frames, the others one image each"
        raise InputError(source, why, "give each kind of file its own folder")
    scouts = sum("LOCALIZER" in (image.header.get("ImageType") or ()) for image in images)
    if scouts:
        why = f"{scouts} of {len(images)} images are localizers (scouts)"
        todo = "take them out of the folder" if scouts < len(images) else "give the series itself"
        raise InputError(source, why, todo)


def _thickness(image: Image) -> tuple[float, str]:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if image.header.get(keyword):
            value = numbers(image.header, keyword, 1, image.name)[0]
            if value > 0:
                return value, f"one slice: its {keyword} was taken for the slice distance"
    return 1.0, "one slice without thickness: 1 mm was taken"


def _meaning(images: list[Image], notes: list[str]) -> tuple[str, str, list[str]]:
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
        notes = [*notes, "padding outside the field of view is kept as it is (PixelPaddingValue)"]
    if modality == "MR" and images[0].tile is None:
        notes = [*notes, *tiles_note(header)]
    if header.get("RealWorldValueMappingSequence"):
        notes = [*notes, "a mapping to real-world values was left aside (RealWorldValueMapping)"]
    if {"P", "PHASE"} & set(image_type(header)):
        notes = [*notes, "phase images, by their image type: no intensities"]
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
    options=("series", "index", "echo", "resample"),
    called="a DICOM series",
    save=dicom_write.write,
    suffixes=("",),
)
