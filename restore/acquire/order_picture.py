"""A picture of the order in which lines were measured, as a PNG.

Used by `restore simulate --policy`. Writes the one file that it is given; draws with matplotlib off screen and leaves
its global state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restore.datasets.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
_COLOURS = "viridis"


def picture_path(scan: Path) -> Path:
    """Where the picture of a scan file lies: NAME_order.png beside NAME.h5."""
    return scan.with_name(f"{scan.stem}_order.png")


def draw_columns(order: Sequence[int], columns: int, path: Path, title: str) -> None:
    """Columns of k-space against turns, each from its turn on; the colour says when. Raises OutputError."""
    figure = _figure(7.0, 3.6)
    axis = figure.subplots()
    seen = np.full((len(order), columns), np.nan)
    for turn, column in enumerate(order):
        seen[turn:, column] = turn + 1
    shown = axis.imshow(
        seen, cmap=_COLOURS, aspect="auto", interpolation="nearest", vmin=1, vmax=max(len(order), 2),
        extent=(-0.5, columns - 0.5, len(order) + 0.5, 0.5),
    )  # fmt: skip
    axis.axvline(columns // 2, color="grey", linewidth=0.6, linestyle=":")
    axis.set_xlabel(f"column of k-space (the zero frequency is {columns // 2})")
    axis.set_ylabel("lines measured")
    axis.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=axis, label="turn")
    _save(figure, path)


def draw_views(order: Sequence[int], angles: Sequence[float], path: Path, title: str) -> None:
    """Each measured view as the axis of its detector, numbered by turn. angles: of all views, in radians.

    Raises OutputError.
    """
    figure = _figure(4.6, 4.6)
    axis = figure.add_subplot(projection="polar")
    from matplotlib import colormaps

    colours = colormaps[_COLOURS](np.linspace(0, 0.9, len(order)))
    for turn, (view, colour) in enumerate(zip(order, colours, strict=True), 1):
        axis.plot([angles[view], angles[view] + np.pi], [1, 1], color=colour)
        axis.annotate(str(turn), (angles[view], 1.1), ha="center", va="center", fontsize=8)
    axis.set_yticks([])
    axis.set_ylim(0, 1.2)
    axis.set_title(title, fontsize=10)
    _save(figure, path)


def _figure(wide: float, tall: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, tall), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")
