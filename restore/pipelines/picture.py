"""Images next to each other, with their errors below on one scale, as a PNG.

Used by the demonstration and the benchmarks. Writes the one file it is given; draws with matplotlib
off screen and leaves its global state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.atomic import atomic_file
from restore.errors import ConfigError, ShapeError

INCH_PER_PANEL = 3.0
DOTS_PER_INCH = 110
ERROR_QUANTILE = 0.998
"""Which of the errors of the first panels is the end of the common error scale."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One image (H, W), rows from the top, with its title and a caption such as its figures."""

    title: str
    image: NDArray[Any]
    caption: str = ""


def comparison_picture(
    panels: Sequence[Panel],
    path: str | Path,
    *,
    title: str = "",
    window: tuple[float, float] | None = None,
    error_limit: float | None = None,
    units: str = "",
) -> Path:
    """Draw the panels in a row, the reference last, and below each but the last its |error|.

    All panels share one grey window (default: zero, or the reference's minimum where it is lower,
    to its 0.998 quantile) and all errors one scale, from 0 to `error_limit` (default: the 0.998
    quantile of all errors but the first panel's, the worst by custom). Values beyond either are
    drawn at its end. units: of the intensities, for the colour bar. Returns the path. Raises
    ConfigError, ShapeError, OutputError.
    """
    if len(panels) < 2:
        raise ConfigError(f"a comparison needs an image and a reference, got {len(panels)} panel")
    reference = _plane(panels[-1], np.shape(panels[-1].image))
    images = [_plane(panel, reference.shape) for panel in panels]
    errors = [np.abs(image - reference) for image in images[:-1]]
    low, high = window or (min(0.0, float(reference.min())), _quantile([reference]))
    limit = error_limit or _quantile(errors[1:] or errors)

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = INCH_PER_PANEL * reference.shape[0] / reference.shape[1]
    size = (INCH_PER_PANEL * len(panels), 2 * tall + 1.3)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for axis, panel, image in zip(axes[0], panels, images, strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high)
        axis.set_title(f"{panel.title}\n{panel.caption}".rstrip(), fontsize=10)
    shown = [
        axis.imshow(e, cmap="magma", vmin=0, vmax=limit)
        for axis, e in zip(axes[1], errors, strict=False)
    ]
    for axis in axes.flat:
        axis.set_axis_off()
    axes[1, 0].set_title("|error|, one scale", fontsize=10, loc="left")
    bar = axes[1, -1].inset_axes((0.05, 0.0, 0.06, 1.0))
    figure.colorbar(shown[0], cax=bar, label=units or None)
    if title:
        figure.suptitle(title, fontsize=11)
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")
    return Path(path)


def _plane(panel: Panel, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The image as real numbers; the magnitude of a complex one."""
    image = np.asarray(panel.image)
    if image.ndim != 2 or image.shape != shape:
        raise ShapeError(
            f"panel '{panel.title}' has shape {image.shape}, expected (H, W) like the reference's {shape}"
        )
    return np.asarray(np.abs(image) if np.iscomplexobj(image) else image, dtype=np.float64)


def _quantile(images: Sequence[NDArray[np.float64]]) -> float:
    """A bright but not the brightest value, above zero."""
    return max(float(np.quantile(np.stack(images), ERROR_QUANTILE)), 1e-12)
