"""A benchmark's folder as a study: sections by setting, a page for each volume, provenance from its record.

Called by `restore report`. Reads the rows, the record and, page by page when they are written, the stored images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.bench import record as bench_record
from restore.bench import results, store
from restore.bench.results import Row
from restore.conformal import nominal_factor
from restore.errors import InputError, NotFoundError
from restore.report.run_tables import (
    by_method,
    calibrations,
    conditions,
    curves,
    failures,
    section,
    volumes_table,
)
from restore.report.study import (
    Cell,
    Column,
    Images,
    Layer,
    Page,
    Role,
    Study,
    Table,
    plain_text,
    record_tables,
)

PHOTOGRAPH = "photograph"
MOST_PAGES = 100
LEVEL = 0.9
"""Of the intervals that pages show."""


def study_of_run(run: Path, most_pages: int = MOST_PAGES) -> Study:
    """The study of a folder that `restore bench` wrote.

    most_pages: pairs of volume and setting beyond it have no page of their own; the notes say so. Raises NotFoundError
    (no results), InputError.
    """
    rows = results.load(run)
    records, notes = _records(run)
    order = [name for record in records for name in record.get("settings", ())]
    settings = list(dict.fromkeys([*order, *(row.setting for row in rows)]))
    cases = _cases(run, rows, settings)
    if len(cases) > most_pages:
        notes.append(f"Pages are there for the first {most_pages} of {len(cases)} volumes.")
        cases = cases[:most_pages]
    index = {case: number for number, case in enumerate(cases)}
    by_case = {c: [r for r in rows if (r.setting, r.volume) == c] for c in cases}
    over_slices = any(record.get("average_over") == "slices" for record in records)
    sections = []
    for setting in settings:
        chosen = [row for row in rows if row.setting == setting]
        if chosen:
            sections.append(section(setting, chosen, index, over_slices))
    protocols = ", ".join(dict.fromkeys(row.protocol for row in rows if row.protocol))
    volumes = len({row.volume for row in rows})
    subtitle = f"{volumes} volumes, {len(by_method(rows))} methods, {len(sections)} settings"
    return Study(
        title=f"Benchmark {protocols}".strip(), subtitle=subtitle, sections=tuple(sections),
        pages=tuple(_page(run, case, by_case[case]) for case in cases),
        provenance=(_methods(rows), *_provenance(records)), notes=tuple(notes),
    )  # fmt: skip


def _records(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        return bench_record.read_records(run), []
    except NotFoundError:
        return [], ["The record run.json is missing: how the run was made is known from its rows alone."]  # fmt: skip


def _cases(run: Path, rows: Sequence[Row], settings: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of setting and volume that have an image, in the order of the settings."""
    found = dict.fromkeys((row.setting, row.volume) for row in rows)
    methods = list(by_method(rows))
    return [
        (setting, volume)
        for setting in settings
        for volume in dict.fromkeys(v for s, v in found if s == setting)
        if any(store.image_path(run, setting, name, volume).is_file() for name in (*methods, store.INPUT))
    ]  # fmt: skip


def _page(run: Path, case: tuple[str, str], rows: Sequence[Row]) -> Page:
    setting, volume = case
    done = [row for row in rows if row.status == "done"]
    failed = failures(rows, {})
    charts = (*calibrations(done), curves(done))
    details = [
        (name, plain_text(value)) for row in done[:1] for name, value in row.conditions.items()
    ]
    return Page(
        name=f"{store.slug(setting)}-{store.slug(volume)}", title=volume, setting=setting,
        load=lambda: _images(run, case, done), facts=(*conditions(done), *details),
        tables=(volumes_table(rows, {}), *([failed] if failed.rows else [])),
        charts=tuple(chart for chart in charts if chart.series),
    )  # fmt: skip


def _images(run: Path, case: tuple[str, str], done: Sequence[Row]) -> Images:
    """The stored images of a volume; what cannot be read or has another shape is left out and noted."""
    setting, volume = case
    wanted: list[tuple[str, Role, Path, str]] = [
        ("input", "input", store.image_path(run, setting, store.INPUT, volume), "")
    ]
    for row in done:
        path = store.image_path(run, setting, row.method, volume)
        wanted.append((row.method, "method", path, _caption(row)))
    target = store.image_path(run, "", store.REFERENCE, volume)
    wanted.append(("reference", "reference", target, done[0].target if done else ""))
    drawn = {row.method: row.samples for row in done}
    layers: list[Layer] = []
    notes: list[str] = []
    places: list[store.Place] = []
    for name, role, path, caption in wanted:
        try:
            stored = store.load(path)
        except NotFoundError:
            continue
        except InputError as error:
            notes.append(f"{name} is not shown: {error.why}.")
            continue
        colour = stored.place.modality == PHOTOGRAPH
        image, std = _planes(stored.image, colour), stored.std
        spread = None if std is None else (_root_mean_square(std) if colour else std)
        layers.append(with_interval(Layer(name, role, image, caption, spread), drawn.get(name, 1)))
        places.append(stored.place)
    if not layers:
        return Images((), (), notes=tuple(notes))
    place, shape = places[-1], layers[-1].image.shape
    notes += [
        f"{x.name} is not shown: its shape differs." for x in layers if x.image.shape != shape
    ]
    affine = None if place.affine is None else np.array(place.affine)
    same = tuple(layer for layer in layers if layer.image.shape == shape)
    numbers = place.slices if len(place.slices) == shape[0] else tuple(range(shape[0]))
    return Images(same, numbers, affine, place.modality, place.units, tuple(notes))


def with_interval(layer: Layer, samples: int) -> Layer:
    """The layer with Student's interval of `LEVEL` from its deviation, where there is one of several samples."""
    if layer.std is None or samples < 2:
        return layer
    width = nominal_factor(LEVEL, samples) * layer.std
    return dataclasses.replace(layer, interval=width, interval_is=f"{LEVEL:.0%}, nominal")


def _planes(image: NDArray[Any], colour: bool) -> NDArray[Any]:
    """(channels, H, W) of a photograph as one slice, grey or RGB; anything else as it is."""
    if not colour:
        return image
    return image.transpose(1, 2, 0)[None] if image.shape[0] == 3 else image[:1]


def _root_mean_square(std: NDArray[Any]) -> NDArray[Any]:
    return np.sqrt(np.mean(np.square(std), axis=0, keepdims=True))


def _caption(row: Row) -> str:
    parts = []
    if row.psnr is not None:
        parts.append(f"PSNR {row.psnr:.2f} dB")
    if row.ssim is not None:
        parts.append(f"SSIM {row.ssim:.4f}")
    return ", ".join(parts)


def _methods(rows: Iterable[Row]) -> Table:
    """How each method was set, and with which weights."""
    names = "Method, Sampler, Preset, Settings, Prior and SHA-256, Samples, Seed, Version"
    seen: dict[tuple[str, ...], None] = {}
    for r in rows:
        settings = ", ".join(f"{k}={plain_text(v)}" for k, v in sorted(r.settings.items()))
        line = (r.method, r.sampler, r.preset, settings, r.prior, str(r.samples), str(r.seed), r.version)  # fmt: skip
        seen.setdefault(line)
    return Table(
        "Methods",
        tuple(map(Column, names.split(", "))),
        tuple(tuple(map(Cell, line)) for line in seen),
    )


def _provenance(records: Sequence[Mapping[str, Any]]) -> list[Table]:
    if len(records) == 1:
        return list(record_tables(records[0], "Protocol"))
    return [
        table for part, record in enumerate(records, 1)
        for table in record_tables({f"part {part}": record}, f"Part {part}")
    ]  # fmt: skip
