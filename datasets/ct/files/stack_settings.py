"""The YAML that goes with a folder of projections: its keys, their meaning, and every fault of them in a sentence.

Called by `projection_stack`; reads that file and the text files that it names. Layout: docs/scan-files.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.config import did_you_mean
from restore.datasets.ct.files.angle_units import span_of, turn_in_radians
from restore.datasets.plain_yaml import Value, Word, read_plain_yaml
from restore.errors import InputError, NotFoundError

LAYOUT = "see docs/scan-files.md"
KINDS = ("parallel", "fan", "cone", "helical", "vectors")
GEOMETRY = (
    "source_object_mm", "source_detector_mm", "det_spacing_mm", "det_offset_mm", "source_offset_mm", "tilt_deg",
    "slant_deg", "skew_deg", "pitch_mm", "detector_shape",
)  # fmt: skip
"""Named as the attributes of our HDF5 files."""
GRID = ("shape", "voxel_mm", "centre_mm")
ANGLES = ("angles_deg", "angles_rad", "angles_file", "arc_deg")
VALUES = ("counts", "transmission", "line_integrals")
TURNED = {"first_row": ("top", "bottom"), "seen_from": ("source", "detector"),
          "source_turns": ("counterclockwise", "clockwise")}  # fmt: skip
NUMBERS = ("flat_level", "dark_level", "photons", "mu_water", "noise_std", "first_deg")
RAW = ("shape", "type", "byte_order", "header_bytes")
RAW_TYPES = {"uint8": "u1", "uint16": "u2", "int16": "i2", "uint32": "u4", "int32": "i4", "float32": "f4",
             "float64": "f8"}  # fmt: skip
KEYS = (
    "kind", "projections", "flats", "darks", "values", "raw", "angles_unit", "vectors_file",
    *GEOMETRY, *GRID, *ANGLES, *TURNED, *NUMBERS,
)  # fmt: skip
_LARGEST_TEXT = 1 << 26


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the file says, as words, numbers and lists of numbers; asked for by the names of its keys."""

    path: Path
    values: Mapping[str, Value]

    def has(self, name: str) -> bool:
        """Whether the key stands there with a value."""
        found = self.values.get(name)
        return found is not None and not (isinstance(found, Word) and found.kind == "none")

    def word(self, name: str, known: tuple[str, ...], usual: str = "") -> str:
        """One of some words. Raises InputError, also where it is missing and nothing is usual."""
        found = self.values.get(name)
        text = found.text if isinstance(found, Word) else usual if found is None else "a list"
        if text not in known:
            raise self.fault(f"'{name}' is {text!r}", f"expected {' or '.join(known)}")
        return text

    def number(self, name: str) -> float | None:
        """A number, or None. Raises InputError."""
        return _number(self, name, self.values[name]) if self.has(name) else None

    def numbers(self, name: str) -> tuple[float, ...] | float | None:
        """A number or a list of them, or None. Raises InputError."""
        found = self.values.get(name)
        if isinstance(found, list):
            return tuple(_number(self, name, item) for item in found)
        return self.number(name)

    def file(self, name: str) -> Path | None:
        """A path beside the settings' file, or None. Raises InputError for what is no name."""
        if not self.has(name):
            return None
        found = self.values[name]
        if not isinstance(found, Word):
            raise self.fault(f"'{name}' is no name of a file or folder")
        path = self.path.parent / found.text
        try:
            path.exists()
        except (OSError, ValueError) as cause:
            raise self.fault(f"'{name}' is no name that a file can have ({cause})") from cause
        return path

    def fault(self, what: str, todo: str = LAYOUT) -> InputError:
        """The error that names this file."""
        return InputError(self.path, what, todo)


_NEEDS = {
    "first_deg": ("arc_deg",), "angles_unit": ("angles_file",), "voxel_mm": ("shape",), "centre_mm": ("shape",),
}  # fmt: skip
_CONTRADICT = (
    ("flats", "flat_level"), ("darks", "dark_level"), ("vectors_file", "angles_deg"), ("vectors_file", "angles_rad"),
    ("vectors_file", "angles_file"), ("vectors_file", "arc_deg"),
)  # fmt: skip
_OF_KIND = {"parallel": ("det_spacing_mm", "det_offset_mm"), "vectors": ()}
"""Keys of `GEOMETRY` that mean something for kinds that take few of them."""


def read_settings(path: Path) -> Settings:
    """The keys of the file. Raises InputError for one that is unknown, and for `kind` or `projections` missing."""
    values = read_plain_yaml(path, 3)
    settings = Settings(path, values)
    for name in values:
        if name not in KEYS:
            raise settings.fault(f"'{name}' is no key{did_you_mean(name, set(KEYS))}")
    kind = settings.word("kind", KINDS)
    _check_together(settings, kind)
    if not settings.has("projections"):
        raise settings.fault("it names no 'projections'", "name the folder or the files")
    return settings


def _check_together(settings: Settings, kind: str) -> None:
    """Refuse keys that would be left unused: whoever wrote them meant something by them."""
    for name, needed in _NEEDS.items():
        if settings.has(name) and not any(settings.has(other) for other in needed):
            raise settings.fault(f"'{name}' without {' or '.join(repr(n) for n in needed)}")
    for one, other in _CONTRADICT:
        if settings.has(one) and settings.has(other):
            raise settings.fault(f"'{one}' and '{other}'", "leave one of them out")
    taken = _OF_KIND.get(kind, GEOMETRY)
    idle = [name for name in GEOMETRY if settings.has(name) and name not in taken]
    if idle:
        raise settings.fault(f"'{idle[0]}' means nothing for the kind '{kind}'", "leave it out")


def angles_rad(settings: Settings, views: int) -> NDArray[np.float64]:
    """One angle a view, counted in the sense of our conventions. Raises InputError."""
    given = [name for name in ANGLES if settings.has(name)]
    if len(given) != 1:
        raise settings.fault(
            f"it tells the angles {len(given)} times", f"give one of {', '.join(ANGLES)}"
        )
    found, in_degrees = _told_angles(settings, given[0], views)
    if len(found) != views:
        raise settings.fault(f"it tells {len(found)} angles, and there are {views} projections")
    turn = turn_in_radians(span_of(found))
    if in_degrees and turn:
        raise settings.fault(
            f"its angles in degrees span {span_of(found):.4g}, {turn} in radians", "correct them or say radians"
        )  # fmt: skip
    clockwise = settings.word("source_turns", TURNED["source_turns"], "counterclockwise")
    turned = np.deg2rad(found) if in_degrees else found
    return -turned if clockwise == "clockwise" else turned


def _told_angles(settings: Settings, name: str, views: int) -> tuple[NDArray[np.float64], bool]:
    """The numbers under one of `ANGLES`, and whether they are degrees."""
    if name == "arc_deg":
        start, arc = settings.number("first_deg") or 0.0, settings.number(name) or 0.0
        return start + arc * np.arange(views) / views, True
    if name == "angles_file":
        unit = settings.word("angles_unit", ("degrees", "radians"))
        return read_table(settings, name)[:, -1], unit == "degrees"
    return np.atleast_1d(np.asarray(settings.numbers(name), np.float64)), name == "angles_deg"


def read_table(settings: Settings, name: str) -> NDArray[np.float64]:
    """The numbers of a text file, a row a view; what stands behind # is left out. Raises InputError."""
    path = settings.file(name)
    if path is None or not path.is_file():
        raise NotFoundError(f"{path}: '{name}' of {settings.path.name} is not there")
    if path.stat().st_size > _LARGEST_TEXT:
        raise InputError(path, f"too large for a table of numbers: {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig").replace(",", " ")
        rows = [line.split("#")[0].split() for line in text.splitlines()]
        table = np.array([[float(w) for w in row] for row in rows if row], np.float64)
    except ValueError as cause:
        raise InputError(
            path, f"holds what is no number, or rows of other lengths ({cause})"
        ) from cause
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InputError(path, "holds no table of finite numbers", "expected one row a view")
    return table


def _number(settings: Settings, name: str, value: Any) -> float:
    text = value.text if isinstance(value, Word) and value.kind == "plain" else None
    try:
        found = float(text) if text is not None else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise settings.fault(f"'{name}' is {text!r}", "expected a number")
    return found
