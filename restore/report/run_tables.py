"""Tables and charts of a benchmark's rows: one section for each setting, figures never without what they depend on.

Used by `from_run`. Reads nothing; means and their intervals come from `restore.bench.statistics`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from restore.bench.results import Row
from restore.bench.statistics import mean_interval
from restore.report.study import (
    NOTHING,
    Cell,
    Chart,
    Column,
    Section,
    Series,
    Table,
    fixed,
    number,
)
from restore.report.uncertainty import finite_points, uncertainty_charts

MOST_EXTRAS = 8
AS_ABOVE = "Conditions as in the table."
Pages = Mapping[tuple[str, str], int]
"""(setting, volume) -> index of the page."""

_QUALITY: tuple[tuple[str, str, int], ...] = (
    ("psnr", "PSNR dB", 2), ("ssim", "SSIM", 4), ("nmse", "NMSE", 4),
)  # fmt: skip


def section(setting: str, rows: Sequence[Row], pages: Pages, over_slices: bool) -> Section:
    """Everything that the index says about one setting. over_slices: means over slices, not volumes."""
    done = [row for row in rows if row.status == "done"]
    tables = [_summary(rows, done, over_slices), volumes_table(rows, pages)]
    failed = failures(rows, pages)
    charts = (_against_cost(done, over_slices), _by_volume(done), *calibrations(done), curves(done))
    shown = tuple(chart for chart in charts if chart.series)
    return Section(setting, tuple(tables) + ((failed,) if failed.rows else ()), shown)


def conditions(rows: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """What the figures of some rows depend on, as labels and texts."""
    rows = list(rows)
    facts = [
        ("target", _listed(row.target for row in rows)),
        ("data range", _with(_span(row.data_range for row in rows), _rules(rows, "data_range_rule"))),
        ("SSIM", _rules(rows, "ssim_variant")),
        ("mask", _listed(row.mask for row in rows)),
        ("mask seed", _listed(row.mask_seed for row in rows)),
        ("noise std", _with(_span(row.noise_std for row in rows), _rules(rows, "noise_rule"))),
        ("misfit", _rules(rows, "misfit_rule")),
    ]  # fmt: skip
    return tuple(facts)


def volumes_table(rows: Sequence[Row], pages: Pages) -> Table:
    """One line for each volume and method. What all of them depend on stands in the caption, the rest beside each."""
    extras = _extras(rows)
    columns = [Column("Volume"), Column("Method"), *_figure_columns(), *_extra_columns(extras)]
    columns += [Column("data range", True), Column("target"), Column("mask"), Column("mask seed")]
    columns += [Column("noise std", True, "in the units of the measurement"), *_COST]
    lines = []
    for row in rows:
        line = [Cell(row.volume, page=pages.get((row.setting, row.volume))), Cell(row.method)]
        line += [fixed(getattr(row, name), digits) for name, _, digits in _QUALITY]
        line += [number(row.misfit, 3), _coverage(row), number(row.spread_ratio, 3)]
        line += [number(row.extra.get(name)) for name in extras]
        line += [number(row.data_range), *(Cell(t or NOTHING) for t in (row.target, row.mask))]
        line += [Cell(row.mask_seed or NOTHING), number(row.noise_std), number(row.evaluations, 6)]
        line += [number(row.seconds, 3), number(row.peak_memory_mb, 5), Cell(row.device or NOTHING)]
        lines.append(tuple(line))
    return _slim(Table("Each volume", tuple(columns), tuple(lines), _sentence(conditions(rows))))


def failures(rows: Iterable[Row], pages: Pages) -> Table:
    """Rows without a result, with the reason."""
    columns = (Column("Volume"), Column("Method"), Column("Status"), Column("Reason"))
    lines = tuple(
        (Cell(r.volume, page=pages.get((r.setting, r.volume))), *map(Cell, (r.method, r.status, r.reason)))
        for r in rows if r.status != "done"
    )  # fmt: skip
    return Table("Failed", columns, lines)


def curves(done: Sequence[Row]) -> Chart:
    """Data misfit after each step: the mean over volumes where their numbers of steps agree."""
    series = []
    for colour, (method, rows) in enumerate(by_method(done).items()):
        found = [row.curve for row in rows if len(row.curve) > 1]
        for group in _same_steps(found):
            x = range(1, len(group[0]) + 1)
            y = np.mean([[point[1] for point in curve] for curve in group], axis=0)
            series.append(Series(method, finite_points(zip(x, y, strict=True)), colour, line=True))
    return Chart(
        "Data misfit during the run", "step of the method", "data misfit", tuple(series),
        f"{_rules(done, 'misfit_rule')}. Mean over volumes. {AS_ABOVE}", log_y=True,
    )  # fmt: skip


def calibrations(done: Sequence[Row]) -> tuple[Chart, ...]:
    """The spread of samples against the truth, of the methods that drew several."""
    found = {method: [r.calibration for r in rows] for method, rows in by_method(done).items()}
    return uncertainty_charts(found, AS_ABOVE)


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each method, in the order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.method, []).append(row)
    return groups


def _summary(rows: Sequence[Row], done: Sequence[Row], over_slices: bool) -> Table:
    extras = _extras(done)
    columns = [Column("Method"), Column("Volumes", True, "with a result, of all")]
    columns += [*_figure_columns(), *_extra_columns(extras), *_COST]
    lines = []
    for method, all_rows in by_method(rows).items():
        group = [row for row in all_rows if row.status == "done"]
        line = [Cell(method), Cell(f"{len(group)} of {len(all_rows)}", float(len(group)))]
        line += [_mean(group, _figure(name), digits, over_slices) for name, _, digits in _QUALITY]
        line += [number(_average(group, "misfit"), 3), _mean_coverage(group)]
        line += [number(_average(group, "spread_ratio"), 3)]
        line += [_mean(group, lambda r, n=name: r.extra.get(n), 4, over_slices) for name in extras]  # type: ignore[misc]
        line += [number(_average(group, "evaluations"), 6), number(_average(group, "seconds"), 3)]
        line += [
            number(_largest(group, "peak_memory_mb"), 5),
            Cell(_listed(r.device for r in group)),
        ]
        lines.append(tuple(line))
    slices = max((sum(r.slices for r in g) for g in by_method(done).values()), default=0)
    means = f"Mean over {slices} slices" if over_slices else "Mean over volumes"
    caption = f"{means} [95 % bootstrap interval over volumes]; memory: largest. " + _sentence(
        conditions(done)
    )
    return _slim(Table("Methods", tuple(columns), tuple(lines), caption))


_COST = (
    Column("evaluations", True, "network calls for one image, all samples together"),
    Column("seconds", True, "for one volume"), Column("peak MB", True), Column("device"),
)  # fmt: skip


def _figure_columns() -> list[Column]:
    return [
        *(Column(label, True) for _, label, _ in _QUALITY), Column("misfit", True, "data misfit, see the caption"),
        Column("coverage", True, "part of pixels between smallest and largest sample; below: the nominal value"),
        Column("error/std", True, "rms error over predicted standard deviation: 1 is right, above 1 too sure"),
    ]  # fmt: skip


def _extra_columns(names: Sequence[str]) -> list[Column]:
    return [Column(name.replace("_", " "), True) for name in names]


def _extras(rows: Iterable[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.extra)
    return list(names)[:MOST_EXTRAS]


def _figure(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row, name)


def _mean(
    rows: Sequence[Row], get: Callable[[Row], float | None], digits: int, over_slices: bool
) -> Cell:
    pairs = [(value, row) for row in rows if (value := get(row)) is not None]
    if not pairs:
        return Cell(NOTHING)
    weights = [max(row.slices, 1) for _, row in pairs] if over_slices else None
    mean, low, high = mean_interval([float(value) for value, _ in pairs], weights)
    text = fixed(mean, digits)
    if math.isnan(low):
        return text
    return dataclasses.replace(text, detail=f"[{low:.{digits}f}, {high:.{digits}f}]")


def _coverage(row: Row) -> Cell:
    if row.coverage is None:
        return Cell(NOTHING)
    nominal = "" if row.coverage_nominal is None else f"of {row.coverage_nominal:.2f}"
    return Cell(f"{row.coverage:.2f}", row.coverage, detail=nominal)


def _mean_coverage(rows: Sequence[Row]) -> Cell:
    found = [row.coverage for row in rows if row.coverage is not None]
    if not found:
        return Cell(NOTHING)
    nominal = sorted({f"{r.coverage_nominal:.2f}" for r in rows if r.coverage_nominal is not None})
    mean = float(np.mean(found))
    return Cell(f"{mean:.2f}", mean, detail=f"of {', '.join(nominal)}" if nominal else "")


def _average(rows: Sequence[Row], name: str) -> float | None:
    found = [value for row in rows if (value := getattr(row, name)) is not None]
    return float(np.mean(found)) if found else None


def _largest(rows: Sequence[Row], name: str) -> float | None:
    return max((value for row in rows if (value := getattr(row, name)) is not None), default=None)


def _against_cost(done: Sequence[Row], over_slices: bool) -> Chart:
    series = []
    for colour, (method, rows) in enumerate(by_method(done).items()):
        found = [row for row in rows if row.psnr is not None and math.isfinite(row.psnr)]
        if not found:
            continue
        weights = [max(row.slices, 1) for row in found] if over_slices else None
        mean, low, high = mean_interval([float(row.psnr or 0) for row in found], weights)
        bars = () if math.isnan(low) else ((low, high),)
        cost = max(_average(found, "evaluations") or 0.0, 0.0)
        series.append(Series(method, ((cost, mean),), colour, intervals=bars))
    caption = "Mean PSNR with its 95 % interval; classical methods call no network. "
    return Chart(
        "Quality against network evaluations", "network evaluations for one image", "PSNR dB",
        tuple(series), caption + AS_ABOVE, log_x=True,
    )  # fmt: skip


def _by_volume(done: Sequence[Row]) -> Chart:
    groups = {
        method: {row.volume: row.psnr for row in rows if row.psnr is not None and math.isfinite(row.psnr)}
        for method, rows in by_method(done).items()
    }  # fmt: skip
    first: Mapping[str, float] = next((g for g in groups.values() if g), {})
    volumes = dict.fromkeys(row.volume for row in done)
    rank = {v: i + 1 for i, v in enumerate(sorted(volumes, key=lambda v: first.get(v, math.inf)))}
    series = tuple(
        Series(method, tuple((float(rank[v]), y) for v, y in found.items()), colour)
        for colour, (method, found) in enumerate(groups.items()) if found
    )  # fmt: skip
    caption = "Each point is a volume; they are ordered by the first method. "
    return Chart("Each volume", "volume", "PSNR dB", series, caption + AS_ABOVE)


def _slim(table: Table) -> Table:
    """Without columns that say nothing in any row, or the same words in all of several rows (the caption has them)."""
    kept = [
        at
        for at, column in enumerate(table.columns)
        if not _idle(column, [row[at].text for row in table.rows])
    ]
    return dataclasses.replace(
        table,
        columns=tuple(table.columns[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in table.rows),
    )


def _idle(column: Column, texts: Sequence[str]) -> bool:
    repeated = column.label in ("target", "mask", "mask seed") and len(set(texts)) == 1
    return bool(texts) and (set(texts) == {NOTHING} or repeated)


def _same_steps(found: Sequence[list[list[float]]]) -> list[list[list[list[float]]]]:
    groups: dict[int, list[list[list[float]]]] = {}
    for curve in found:
        groups.setdefault(len(curve), []).append(curve)
    return list(groups.values())


def _listed(texts: Iterable[str], most: int = 3) -> str:
    found = list(dict.fromkeys(text for text in texts if text))
    if len(found) > most:
        return f"{len(found)} different ones, each beside its volume"
    return ", ".join(found) or NOTHING


def _rules(rows: Iterable[Row], name: str) -> str:
    return _listed(str(getattr(row, name)) for row in rows)


def _span(values: Iterable[float | None]) -> str:
    found = sorted({value for value in values if value is not None})
    if not found:
        return NOTHING
    low, high = f"{found[0]:.4g}", f"{found[-1]:.4g}"
    return low if low == high else f"{low} to {high}"


def _with(value: str, rule: str) -> str:
    return value if rule == NOTHING else f"{value} ({rule})"


def _sentence(facts: Iterable[tuple[str, str]]) -> str:
    return "Conditions: " + "; ".join(f"{label}: {text}" for label, text in facts) + "."
