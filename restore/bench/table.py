"""The table of a run: means with intervals for each setting and method, and the line that says what they depend on.

Used by the command line, the comparison and the report; touches nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from restore.bench.results import Row
from restore.bench.statistics import mean_interval

FIGURES = ("psnr", "ssim", "nmse")
COSTS = ("misfit", "evaluations", "seconds", "peak_memory_mb")
SPREAD = ("coverage", "spread_ratio")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A mean with its 95 % interval over volumes; low and high are nan for fewer than two."""

    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Line:
    """One method under one setting. cells: by the name of the figure, missing where no row has it."""

    setting: str
    method: str
    volumes: int
    slices: int
    failed: int
    cells: dict[str, Cell]


def summarise(rows: Sequence[Row], average_over: str = "volumes") -> list[Line]:
    """One line for each setting and method, in the order of the rows, best PSNR first within a setting.

    average_over: "slices" counts a volume as often as it has slices.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.setting, row.method), []).append(row)
    lines = [
        _line(setting, method, group, average_over) for (setting, method), group in groups.items()
    ]
    order = list(dict.fromkeys(line.setting for line in lines))
    return sorted(lines, key=lambda line: (order.index(line.setting), -_psnr(line)))


def conditions_line(rows: Sequence[Row]) -> str:
    """What the figures of these rows depend on, in one sentence: target, data range, mask and its seed, noise."""
    parts = {
        "target": {r.target for r in rows}, "data range": {r.data_range_rule for r in rows},
        "SSIM": {r.ssim_variant for r in rows}, "mask": {r.mask for r in rows},
        "mask seed": {r.mask_seed for r in rows}, "noise": {_noise(r) for r in rows},
        "misfit": {r.misfit_rule for r in rows}, "seed": {str(r.seed) for r in rows},
        "samples": {str(r.samples) for r in rows},
    }  # fmt: skip
    said = {name: sorted(v for v in values if v) for name, values in parts.items()}
    return "; ".join(f"{name}: {_listed(values)}" for name, values in said.items() if values)


def _line(setting: str, method: str, group: Sequence[Row], average_over: str) -> Line:
    done = [row for row in group if row.status == "done"]
    cells = {}
    names = [*FIGURES, *COSTS, *SPREAD, *dict.fromkeys(k for row in done for k in row.extra)]
    for name in names:
        pairs = [(v, row.slices) for row in done if (v := _value(row, name)) is not None]
        if pairs:
            weights = [max(n, 1) for _, n in pairs] if average_over == "slices" else None
            cells[name] = Cell(*mean_interval([v for v, _ in pairs], weights))
    return Line(
        setting, method, len(done), sum(row.slices for row in done), len(group) - len(done), cells
    )


def _value(row: Row, name: str) -> float | None:
    found = row.extra[name] if name in row.extra else getattr(row, name, None)
    return None if found is None else float(found)


def _psnr(line: Line) -> float:
    return line.cells["psnr"].mean if "psnr" in line.cells else float("-inf")


def _noise(row: Row) -> str:
    """The rule alone: levels differ from volume to volume, and stand in the rows."""
    return row.noise_rule if row.noise_std is not None else row.noise_rule or "none stated"


def _listed(values: Sequence[str], most: int = 3) -> str:
    return " | ".join(values[:most]) + (
        f" | and {len(values) - most} more" if len(values) > most else ""
    )
