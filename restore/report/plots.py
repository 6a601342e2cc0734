"""Charts as SVG files, one for light and one for dark pages.

Used by `render`. Draws with matplotlib off screen and leaves its global state alone; equal charts give equal files.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

from restore.report.study import Chart, Series

THEMES = {"light": ("#33383f", "#d5d9e0"), "dark": ("#d8dce3", "#3b424d")}
"""Colours of text and of lines of the grid, found nowhere else in a chart; the ground is the page's."""
COLOURS = (
    "#3b82d6", "#d9822b", "#2e9e6b", "#c65bb0", "#b8a11c", "#d6544b", "#2aa7b8", "#8a7bd8", "#8d8d8d", "#9a6b4b",
)  # fmt: skip
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LONGEST_NAME = 40


def draw(chart: Chart) -> dict[str, str]:
    """The SVG of a chart for each of `THEMES`."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ink, grid = THEMES["light"]
    settings: dict[Any, Any] = {
        "svg.hashsalt": "restore", "svg.fonttype": "none", "text.color": ink, "axes.labelcolor": ink,
        "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": grid, "font.size": 10, "text.parse_math": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the fonts
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        FigureCanvasSVG(figure)
        _fill(figure.subplots(), chart, grid)
        stream = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    light = stream.getvalue()
    return {name: light.replace(ink, a).replace(grid, b) for name, (a, b) in THEMES.items()}


def _fill(axis: Any, chart: Chart, grid: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_xlabel(chart.x)
    axis.set_ylabel(chart.y)
    axis.grid(color=grid, linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    points = [point for series in chart.series for point in series.points]
    across, up = [x for x, _ in points], [y for _, y in points]
    if chart.diagonal:  # one scale for both, so that x = y is a straight line
        across = up = across + up
    if chart.log_x:
        _logarithmic(axis.xaxis, axis.set_xscale, across)
    if chart.log_y:
        _logarithmic(axis.yaxis, axis.set_yscale, up)
    seen: set[str] = set()
    for series in chart.series:
        _plot(axis, series, first=series.name not in seen)
        seen.add(series.name)
    if chart.diagonal:
        values = [v for series in chart.series for point in series.points for v in point]
        ends = min(values), max(values)
        axis.plot(ends, ends, color=grid, linewidth=1.2, zorder=0.5)
    if chart.x == "volume":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if chart.series:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)


def _logarithmic(axis: Any, set_scale: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers; linear where the values lie close together, linear below 1 around zero."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, SymmetricalLogLocator

    low, high = min(values, default=1.0), max(values, default=1.0)
    if low > 0 and high < 3 * low:
        return
    if low <= 0:
        set_scale("symlog", linthresh=1)
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 5)))
    else:
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _plot(axis: Any, series: Series, first: bool) -> None:
    colour = COLOURS[series.colour % len(COLOURS)]
    mark = MARKS[series.colour % len(MARKS)]
    xs, ys = [p[0] for p in series.points], [p[1] for p in series.points]
    label = readable(series.name) if first else None
    if series.intervals:
        low = [y - interval[0] for y, interval in zip(ys, series.intervals, strict=True)]
        high = [interval[1] - y for y, interval in zip(ys, series.intervals, strict=True)]
        axis.errorbar(xs, ys, yerr=_bars(low, high), fmt=mark, color=colour, capsize=3, label=label)
    elif series.line:
        axis.plot(xs, ys, color=colour, linewidth=1.6, marker=mark, markersize=3, label=label)
    else:
        axis.plot(xs, ys, mark, color=colour, markersize=5, alpha=0.85, label=label)


def _bars(low: Sequence[float], high: Sequence[float]) -> tuple[list[float], list[float]]:
    return [max(v, 0.0) for v in low], [max(v, 0.0) for v in high]


def readable(name: str) -> str:
    """The name in one short line; a leading underscore would hide it from the legend."""
    line = "".join(c if c.isprintable() else " " for c in name).strip().lstrip("_") or "?"
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
