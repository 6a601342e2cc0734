"""What the header of a DICOM-CT-PD projection says: detector, focal spot and table, by the private tags of its manual.

Called by `ct_pd`; headers in, numbers out. Chen et al.: "Development and validation of an open data format for CT
projection data", Med. Phys. 42, 2015; the tags are those of the LDCT-and-Projection-data collection's manual. A view's
detector is a cylinder about the line through its focal centre along z; the focal spot may fly off that centre.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from restore.datasets.volume.dicom_files import boundary
from restore.errors import InputError

COLUMN_PITCH, ROW_PITCH, SHAPE = 0x70291002, 0x70291006, 0x7029100B
ROWS, COLUMNS = 0x70291010, 0x70291011
ANGLE, PLACE, RADIUS = 0x70311001, 0x70311002, 0x70311003
DISTANCE, CENTRE = 0x70311031, 0x70311033
SPOT_ANGLE, SPOT_PLACE, SPOT_RADIUS = 0x7033100B, 0x7033100C, 0x7033100D
PROJECTION = 0x7037100A
WATER = 0x70411001
_FEWEST_TAGS = (COLUMN_PITCH, ANGLE, RADIUS, DISTANCE)
_WATER_PER_MM = (0.005, 0.05)
"""Between which an attenuation of water in 1/mm lies, from 20 keV of a mammogram's tube to 1 MeV."""


@dataclasses.dataclass(frozen=True)
class View:
    """Of one projection, lengths in mm, angles in radians.

    shape: (rows, columns) of the detector. pitch: (along z, along the arc). centre: (row, column), counted from 1, on
    the line from the focal centre to the axis. angle, place, radius: of the focal centre, about, along and from z;
    spot: how far those of the focal spot lie beside them. distance: from the focal centre to the detector. number: in
    the series. mu_water in 1/mm. slope, intercept: of stored values; turned: they are stored as (columns, rows).
    """

    number: int
    shape: tuple[int, int]
    pitch: tuple[float, float]
    centre: tuple[float, float]
    angle: float
    place: float
    radius: float
    spot: tuple[float, float, float]
    distance: float
    mu_water: float | None
    slope: float
    intercept: float
    turned: bool


def is_projection(header: Dataset) -> bool:
    """Whether a header has the private tags of the format."""
    return all(tag in header for tag in _FEWEST_TAGS)


def view_of(path: Path, header: Dataset) -> View:
    """The view of a header. Raises InputError for what is missing, no number, or no cylinder seen by a cone of rays."""
    with boundary(path):  # pydicom makes numbers of texts when they are asked for
        return _view_of(path, header)


def _view_of(path: Path, header: Dataset) -> View:
    shape = _text(header, SHAPE)
    if shape and shape != "CYLINDRICAL":
        raise InputError(
            path, f"its detector is {shape.lower()} (7029,100B)", "cylindrical ones are read"
        )
    kind = _text(header, PROJECTION)
    if kind and "PARALLEL" in kind:
        raise InputError(
            path, "its rays were sorted into parallel ones (7037,100A)", "keep the raw ones"
        )
    rows, columns = (int(_number(path, header, tag)) for tag in (ROWS, COLUMNS))
    stored = (int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    if stored not in ((columns, rows), (rows, columns)):
        raise InputError(
            path, f"it holds {stored[0]} x {stored[1]} values of a detector of {rows} rows and {columns} columns",
            "are (7029,1010) and (7029,1011) those of this file?",
        )  # fmt: skip
    column, row = _numbers(path, header, CENTRE, 2)
    spot = [_number(path, header, tag, 0.0) for tag in (SPOT_ANGLE, SPOT_PLACE, SPOT_RADIUS)]
    water = _number(path, header, WATER, math.nan)
    found = View(
        number=int(header.get("InstanceNumber") or 0), shape=(rows, columns),
        pitch=(_positive(path, header, ROW_PITCH), _positive(path, header, COLUMN_PITCH)),
        centre=(row, column), angle=_number(path, header, ANGLE), place=_number(path, header, PLACE, 0.0),
        radius=_positive(path, header, RADIUS), spot=(spot[0], spot[1], spot[2]),
        distance=_positive(path, header, DISTANCE),
        mu_water=water if _WATER_PER_MM[0] < water < _WATER_PER_MM[1] else None,
        slope=float(header.get("RescaleSlope") or 1.0), intercept=float(header.get("RescaleIntercept") or 0.0),
        turned=stored == (columns, rows),
    )  # fmt: skip
    if found.distance <= found.radius:
        raise InputError(
            path, f"its detector is {found.distance:g} mm from the focal spot and the axis {found.radius:g} mm",
            "are (7031,1003) and (7031,1031) exchanged?",
        )  # fmt: skip
    return found


def _numbers(path: Path, header: Dataset, tag: int, count: int) -> list[float]:
    """Numbers of a private element: with a type, as text, or as the bytes of a type that the file does not tell."""
    element = header.get(tag)
    name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if element is None:
        raise InputError(path, f"a projection without {name}", "fetch or export it again")
    value: Any = element.value
    try:
        if isinstance(value, bytes):
            found = _unpacked(value, count)
        elif isinstance(value, str | int | float):
            found = [float(value)]
        else:
            found = [float(v) for v in value]
    except (TypeError, ValueError, struct.error):
        found = []
    if len(found) < count or not all(map(math.isfinite, found[:count])):
        raise InputError(path, f"{name} is {str(value)[:40]!r}", f"expected {count} number(s)")
    return found[:count]


def _unpacked(value: bytes, count: int) -> list[float]:
    """Bytes of single precision, of 16-bit whole numbers, or of text, by their length."""
    if len(value) == 4 * count:
        try:
            return [float(w) for w in value.decode("ascii").split("\\")]
        except (UnicodeDecodeError, ValueError):
            return list(struct.unpack(f"<{count}f", value))
    if len(value) == 2 * count and not value.strip().isdigit():
        return [float(n) for n in struct.unpack(f"<{count}H", value)]
    return [float(word) for word in value.decode("ascii").strip(" \0").split("\\")]


def _number(path: Path, header: Dataset, tag: int, usual: float | None = None) -> float:
    return usual if usual is not None and tag not in header else _numbers(path, header, tag, 1)[0]


def _positive(path: Path, header: Dataset, tag: int) -> float:
    found = _number(path, header, tag)
    if found <= 0:
        raise InputError(
            path, f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is {found:g}", "expected above 0"
        )
    return found


def _text(header: Dataset, tag: int) -> str:
    element = header.get(tag)
    value = "" if element is None else element.value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip(" \0").upper()
