"""Frames that hold a whole volume as tiles (Siemens mosaics), seen as single slices.

May be called by the DICOM reader only; works on headers in memory. A mosaic says in private tags (the CSA header)
how many tiles are slices and to which side they follow one another. Its ImagePositionPatient is that of a plane as
large as the whole mosaic around the centre of the first slice, which therefore begins half the difference further in.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from math import ceil, isqrt
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from restore.datasets.volume.dicom_sort import Plane, numbers, plane_of
from restore.errors import InputError

CSA_IMAGE, CSA_CREATOR, CSA_NAME = (0x0029, 0x1010), (0x0029, 0x0010), "SIEMENS CSA HEADER"
COUNT, COUNT_CREATOR, COUNT_NAME = (0x0019, 0x100A), (0x0019, 0x0010), "SIEMENS MR HEADER"
GRID, GRID_CREATOR, GRID_NAME = (0x0065, 0x1050), (0x0065, 0x0010), "Image Private Header"
MOSAIC_TAGS = (CSA_IMAGE, CSA_CREATOR, COUNT, COUNT_CREATOR, GRID, GRID_CREATOR)

MOST_INTERPOLATED = 2.9
"""Times the acquired matrix; scanners interpolate to twice, mosaics of five slices have three tiles a side."""

CONVERT = "convert it with dcm2niix, or export it again with the private tags"


def is_mosaic(header: Dataset, name: str) -> bool:
    """Whether one frame holds several slices. Raises InputError for tiles whose places cannot be told.

    header: of a file of one frame: some scanners leave the word MOSAIC in enhanced files that are none.
    """
    maker = str(header.get("Manufacturer") or "").upper()
    tiles = _private(header, GRID, GRID_CREATOR, GRID_NAME)
    if tiles is None and maker.startswith(("UIH", "UNITED IMAGING")) and GRID in header:
        tiles = header[GRID].value
    count = len(tiles) if isinstance(tiles, Sequence) else _count(tiles)
    if "VFRAME" in image_type(header) or count > 1:
        why = f"a frame with the tiles of {count or 'several'} slices (United Imaging), which is not read"
        raise InputError(name, why, "convert it with dcm2niix, or export the slices one by one")
    if "MOSAIC" in image_type(header):
        return True
    count = _count(_private(header, COUNT, COUNT_CREATOR, COUNT_NAME)) or _count(
        _csa(header, name).get("NumberOfImagesInMosaic")
    )
    if count > 1:
        why = f"its private tags say that it is a mosaic of {count} slices, its ImageType does not"
        raise InputError(name, why, "convert it with dcm2niix")
    return False


def tiles_note(header: Dataset) -> list[str]:
    """A note where an image is so much larger than what was acquired that it may hold tiles without saying so."""
    acquired = header.get("AcquisitionMatrix")
    try:
        largest = max(int(n) for n in acquired or ())
        times = min(int(header.Rows), int(header.Columns)) / largest
    except (ValueError, TypeError, ZeroDivisionError):
        return []
    if times < MOST_INTERPOLATED:
        return []
    return [
        f"{header.Rows} x {header.Columns} pixels of an acquired matrix of {largest}: if these are the tiles of "
        "several slices (a mosaic without its tags), they were read as one"
    ]


def split_mosaic(
    header: Dataset, name: str, notes: list[str]
) -> list[tuple[Dataset, tuple[int, int]]]:
    """The header of each slice in a mosaic, with row and column of its tile's first pixel.

    header: whole, with private tags, which the result has not. Where the direction in which slices follow one another
    is not told, it is taken to be that of the normal, as dcm2niix does, with a note. Raises InputError where the number
    of slices is not told, or the tiles do not fit.
    """
    csa = _csa(header, name)
    told = (
        _count(csa.get("NumberOfImagesInMosaic")),
        _count(_private(header, COUNT, COUNT_CREATOR, COUNT_NAME)),
    )
    count = max(told)
    if min(told) not in (0, count):
        why = f"a mosaic of {told[0]} slices by one private tag and of {told[1]} by another"
        raise InputError(name, why, "export it again")
    if count < 1:
        why = (
            "a Siemens mosaic without the private tags (CSA header) that say how many of its tiles are "
            "slices and in which direction they follow one another"
        )
        raise InputError(name, why, CONVERT)
    plane = plane_of(header, name)
    normal = np.array(csa.get("SliceNormalVector") or plane.normal, dtype=np.float64)
    if normal.shape != (3,) or not np.isfinite(normal).all():
        raise InputError(name, "its SliceNormalVector is no direction", CONVERT)
    if not csa.get("SliceNormalVector"):
        notes.append(
            "the mosaic does not tell in which direction its slices follow one another (no CSA header): that of the "
            "normal was taken; it may be the other one"
        )
    side = isqrt(count - 1) + 1
    rows, columns = (size // side for size in plane.shape)
    if plane.shape != (rows * side, columns * side):
        why = f"a mosaic of {count} slices in {side} x {side} tiles, which its {plane.shape} pixels do not hold"
        raise InputError(name, why, CONVERT)
    step = _step(header, plane, normal, name)
    first = plane.position
    first = first + plane.row * plane.spacing_mm[0] * (plane.shape[1] - columns) / 2
    first = first + plane.column * plane.spacing_mm[1] * (plane.shape[0] - rows) / 2
    common = deepcopy(header)
    common.remove_private_tags()
    common.Rows, common.Columns = rows, columns
    common.ImageType = [word for word in image_type(header) if word != "MOSAIC"]
    slices = []
    for k in range(count):
        one = deepcopy(common)
        one.InstanceNumber = k + 1
        one.ImagePositionPatient = [f"{value:.10g}" for value in first + k * step]
        if "SliceLocation" in one:
            del one["SliceLocation"]
        slices.append((one, (k // side * rows, k % side * columns)))
    return slices


def _step(header: Dataset, plane: Plane, normal: Any, name: str) -> Any:
    """From one slice to the next, in mm."""
    keyword = "SpacingBetweenSlices" if header.get("SpacingBetweenSlices") else "SliceThickness"
    distance = abs(numbers(header, keyword, 1, name)[0])
    along = float(plane.normal @ normal)
    if distance == 0 or abs(along) < 0.9:  # a direction, whichever its sign, is that of the normal
        why = f"a mosaic whose slices are {distance:g} mm apart along {normal.tolist()}"
        raise InputError(name, f"{why}, which is not across its plane", CONVERT)
    return plane.normal * np.copysign(distance, along)


def _csa(header: Dataset, name: str) -> dict[str, list[Any]]:
    """The entries of a CSA header that matter here, none where there is no such header."""
    raw = _private(header, CSA_IMAGE, CSA_CREATOR, CSA_NAME)
    if not isinstance(raw, bytes) or not raw.strip(b"\0 "):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the folder, not this reader, is announced as experimental
        from nibabel.nicom import csareader
    try:
        tags = csareader.read(raw)["tags"]
    except Exception as cause:  # of a private format, whatever its parser may raise
        why = f"its private CSA header is damaged ({type(cause).__name__})"
        raise InputError(name, why, "export it again") from cause
    wanted = ("NumberOfImagesInMosaic", "SliceNormalVector")
    return {key: tags[key]["items"] for key in wanted if key in tags}


def _private(header: Dataset, tag: Any, creator: Any, words: str) -> Any:
    """The value of a private tag whose block belongs to the one who is said to have made it."""
    owner = str(header[creator].value) if creator in header else ""
    return header[tag].value if owner.startswith(words) and tag in header else None


def _count(value: Any) -> int:
    """A whole number that may stand in a list, 0 for none."""
    if isinstance(value, bytes) or value is None:
        return 0
    found = list(value) if isinstance(value, list) else [value]
    try:
        return ceil(float(found[0])) if found else 0
    except (ValueError, TypeError, OverflowError):
        return 0


def image_type(header: Dataset) -> list[str]:
    """The words of ImageType, whether it has one or several."""
    found = header.get("ImageType") or []
    return [found] if isinstance(found, str) else [str(word) for word in found]
