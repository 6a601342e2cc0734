"""The study of a result, alone or beside a second volume; from its files, as anybody would read them.

Called by `server` and the verb. Reads the volumes, their record and the maps of their deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restore.datasets.open import format_of, read
from restore.datasets.sidecar import read_sidecar
from restore.datasets.volume.volume import Unplaced, Volume
from restore.errors import InputError, NotFoundError
from restore.report.from_recon import spread_of
from restore.report.render import MARKER
from restore.report.study import (
    Cell,
    Column,
    Images,
    Layer,
    Page,
    Section,
    Study,
    Table,
    number,
    record_tables,
)
from restore.serving.page.comparison import on_grid, real


@dataclass(frozen=True, eq=False)
class Shown:
    """A result: its name, volume and record, {} where none lies beside it."""

    name: str
    volume: Volume
    record: Mapping[str, Any]


def open_result(path: Path) -> Shown:
    """Read a volume and its record. Raises NotFoundError, InputError, also for the folder of a report."""
    if (path / MARKER).is_file():
        raise InputError(
            path,
            "is a report",
            "open its index.html in a browser, or give the volume that it shows",
        )
    try:
        record: Mapping[str, Any] = read_sidecar(path)
    except (NotFoundError, InputError):
        record = {}
    image = record.get("image")
    units = image.get("units", "") if isinstance(image, Mapping) else ""
    modality = "CT" if units == "HU" and "modality" in _options(path) else ""
    return Shown(path.name, read(path, modality=modality), record)


def study_of_volumes(result: Shown, path: Path, second: Shown | None = None) -> Study:
    """A page of the result, and of a second volume as what it is compared with.

    path: where the result lies, beside which its deviation and interval are looked for. Raises InputError, also where
    the second one has nothing in common with the result.
    """
    grid, notes = result.volume, list(result.volume.notes)
    spread: Mapping[str, Any] = {}
    try:
        spread = spread_of(path, result.record, grid)
    except (InputError, NotFoundError) as error:
        notes.append(f"deviation and interval cannot be shown: {error}")
    layers = [Layer(result.name, "method", real(grid), **spread)]
    if second is not None:
        values, told = on_grid(second.volume, grid, second.name)
        layers.append(Layer(second.name, "reference", values, "compared with"))
        notes += [*told, *second.volume.notes]
    known = not isinstance(grid.header, Unplaced)
    images = Images(
        tuple(layers), tuple(range(grid.data.shape[0])), grid.affine if known else None, grid.modality, grid.units,
    )  # fmt: skip
    beside = "" if second is None else f" beside {second.name}"
    page = Page(result.name, result.name, lambda: images)
    said = [*map(str, result.record.get("notes", ())), *notes]
    shown = {k: v for k, v in result.record.items() if k not in ("curve", "chunks", "notes")}
    return Study(
        title=result.name, subtitle=f"{' x '.join(map(str, grid.data.shape))} voxels{beside}",
        sections=(Section("Volume", (_table(result, second),)),), pages=(page,), provenance=record_tables(shown),
        notes=tuple(dict.fromkeys(said)), single=True,
    )  # fmt: skip


def _options(path: Path) -> tuple[str, ...]:
    form = format_of(path)
    return () if form is None else form.options


def _table(*volumes: Shown | None) -> Table:
    columns = (
        Column("Volume"), Column("voxels"), Column("spacing mm"), Column("units"), Column("lowest", True),
        Column("highest", True),
    )  # fmt: skip
    rows = []
    for shown in filter(None, volumes):
        values = real(shown.volume)
        rows.append((
            Cell(shown.name), Cell(" x ".join(map(str, values.shape))),
            Cell(" x ".join(f"{s:.4g}" for s in shown.volume.spacing_mm)), Cell(shown.volume.units),
            number(float(values.min())), number(float(values.max())),
        ))  # fmt: skip
    return Table("Volumes", columns, tuple(rows), "Voxels as slices x rows x columns.")
