"""Charts that hold the spread of samples against a known truth: coverage curve, error by predicted deviation.

Used by `run_tables` for the rows of a benchmark and by `from_recon` for one reconstruction. Reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from restore.report.study import Chart, Series

Bins = Mapping[str, Sequence[float | None]]
"""As `restore.bench.coverage.Calibration.bins`; rows of older runs have no "level"."""


def uncertainty_charts(found: Mapping[str, Sequence[Bins]], said: str = "") -> tuple[Chart, ...]:
    """Both charts, without those that have nothing to show.

    found: by method the bins of each volume. said: the end of the captions.
    """
    charts = (_coverage(found, said), _deviations(found, said))
    return tuple(chart for chart in charts if chart.series)


def _coverage(found: Mapping[str, Sequence[Bins]], said: str) -> Chart:
    series = []
    for colour, (method, volumes) in enumerate(found.items()):
        seen: dict[float, list[float]] = {}
        for bins in volumes:
            for level, covered in finite_points(
                zip(bins.get("level", ()), bins.get("covered", ()), strict=False)
            ):
                seen.setdefault(level, []).append(covered)
        points = tuple((level, float(np.mean(seen[level]))) for level in sorted(seen))
        if points:
            series.append(Series(method, points, colour, line=True))
    caption = (
        "Part of the pixels whose truth lies in Student's interval of the samples, mean over volumes. On the line it "
        "is as said; below it, the samples lie too close together. "
    )
    return Chart(
        "Coverage of the intervals", "nominal level", "part that holds the truth", tuple(series),
        caption + said, diagonal=True,
    )  # fmt: skip


def _deviations(found: Mapping[str, Sequence[Bins]], said: str) -> Chart:
    series = []
    for colour, (method, volumes) in enumerate(found.items()):
        points = [
            pair for b in volumes
            for pair in finite_points(zip(b.get("predicted", ()), b.get("error", ()), strict=False))
        ]  # fmt: skip
        kept = tuple((x, y) for x, y in points if x > 0 and y > 0)
        if kept:
            series.append(Series(method, kept, colour))
    caption = (
        "Tenths of the pixels of each volume, ordered by the predicted deviation. On the line it is right; above it, "
        "too small. "
    )
    return Chart(
        "Error against predicted deviation", "predicted standard deviation", "rms error", tuple(series),
        caption + said, log_x=True, log_y=True, diagonal=True,
    )  # fmt: skip


def finite_points(points: Iterable[Sequence[float | None]]) -> tuple[tuple[float, float], ...]:
    """Pairs of finite numbers; a file holds null for others."""
    return tuple(
        (float(p[0]), float(p[1])) for p in points
        if p[0] is not None and p[1] is not None and math.isfinite(p[0]) and math.isfinite(p[1])
    )  # fmt: skip
