"""What a report shows, before anything is drawn or written: tables, charts, pages of images, provenance.

Built by `from_run` and `from_recon`, written by `render`. Plain values; every text may be hostile and is made harmless
where it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from numpy.typing import NDArray

Role = Literal["input", "method", "reference"]
NOTHING = "–"
LONGEST_TEXT = 2000


@dataclass(frozen=True, eq=False)
class Layer:
    """One image of a page: real (slices, H, W), or RGB (slices, H, W, 3) in 0..1 for photographs.

    caption: its figures. std: standard deviation (slices, H, W) over samples, in the image's units. interval: likewise,
    the half-width of the interval around the image; interval_is: its level, and whether it was calibrated.
    trajectory: likewise, how far the last estimates of the run moved. structured: likewise, the structured noise that
    was separated from it.
    """

    name: str
    role: Role
    image: NDArray[Any]
    caption: str = ""
    std: NDArray[Any] | None = None
    interval: NDArray[Any] | None = None
    interval_is: str = ""
    trajectory: NDArray[Any] | None = None
    structured: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """What a page shows; all layers have one shape.

    slices: their numbers in the source. affine: voxel (W, H, slice) -> RAS mm, or None. units: of the intensities.
    notes: what could not be shown, and why.
    """

    layers: tuple[Layer, ...]
    slices: tuple[int, ...]
    affine: NDArray[Any] | None = None
    modality: str = ""
    units: str = ""
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> Layer | None:
        """The layer that the others are compared with."""
        return next((layer for layer in self.layers if layer.role == "reference"), None)

    @property
    def colour(self) -> bool:
        """Whether the layers are RGB."""
        return bool(self.layers) and self.layers[0].image.ndim == 4


@dataclass(frozen=True)
class Column:
    """A column of a table. hint: said on hovering; number: set right, sorted by value."""

    label: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """text as shown, detail smaller below it; order: what it is sorted by (default the text); page: index of the page
    it leads to."""

    text: str
    order: float | None = None
    page: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """caption: what the figures depend on."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one method. colour: its number, the same in every chart. line: joined."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int = 0
    line: bool = False
    intervals: tuple[tuple[float, float], ...] = ()
    """Low and high y of each point, or none."""


@dataclass(frozen=True)
class Chart:
    """diagonal: draw x = y."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    caption: str = ""
    log_x: bool = False
    log_y: bool = False
    diagonal: bool = False


@dataclass(frozen=True)
class Page:
    """A volume under a setting. load: reads the images when the page is written. facts: labels and texts."""

    name: str
    title: str
    load: Callable[[], Images]
    setting: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Section:
    """A setting of the index."""

    title: str
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Study:
    """A whole report. single: its one page is part of the index."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    pages: tuple[Page, ...]
    provenance: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    single: bool = False


def number(value: float | None, digits: int = 4) -> Cell:
    """A figure as a cell, with so many significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return Cell(NOTHING)
    if math.isinf(value):
        return Cell("∞" if value > 0 else "-∞", value)
    return Cell(f"{value:.{digits}g}", float(value))


def fixed(value: float | None, decimals: int) -> Cell:
    """A figure as a cell, with so many decimals."""
    cell = number(value)
    if value is None or not math.isfinite(value):
        return cell
    return Cell(f"{value:.{decimals}f}", cell.order)


def record_tables(record: Mapping[str, Any], general: str = "General") -> tuple[Table, ...]:
    """A nested record as tables of names and values: one for each part, and one for what stands alone.

    Folders of files are left out: a report may be mailed.
    """
    alone = {k: v for k, v in record.items() if not _nested(v)}
    parts = {general: alone} | {k: v for k, v in record.items() if _nested(v)}
    columns = (Column("Name"), Column("Value"))
    tables = []
    for title, part in parts.items():
        rows = tuple((Cell(name), Cell(text)) for name, text in _flat(part, ""))
        if rows:
            tables.append(Table(str(title).replace("_", " "), columns, rows))
    return tuple(tables)


def _nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return several and any(isinstance(item, Mapping | list | tuple) for item in value)


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        pairs = [(str(k), v) for k, v in value.items()]
    elif _nested(value):
        pairs = [(str(i), v) for i, v in enumerate(value, 1)]
    else:
        return [(name or "value", plain_text(value))]
    return [row for key, item in pairs for row in _flat(item, f"{name} / {key}" if name else key)]


def plain_text(value: Any) -> str:
    """A value of a record as text; of a file's path the last part alone, of a long text its beginning."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain_text, value)) or NOTHING
    if value is None or value == "":
        return NOTHING
    text = str(value)
    if "\n" not in text:
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(text).is_absolute():
                text = kind(text).name or NOTHING
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " ..."
