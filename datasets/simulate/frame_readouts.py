"""Readouts of simulated scans over time: golden-angle spokes, lines of the Cartesian grid, or points of a file.

Called by `simulate.frames` and the command line; reads the file of points that it is given, and touches nothing else.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.pattern.grid_lines import points_of_columns
from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.simulate.noncartesian import made_points
from restore.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Lines:
    """Columns of the Cartesian grid, other ones in every frame (k-t): a mask of `masks.MASKS`, drawn anew for each.

    acceleration: columns of the grid over those of a frame. center_fraction: of the columns, measured in every frame.
    """

    mask: str = "random"
    acceleration: float = 4
    center_fraction: float = 0.08

    def columns(self, frames: int, shape: tuple[int, int], seed: int) -> NDArray[np.intp]:
        """Of each frame in turn, from left to right, (frames, lines). shape: (rows, columns) of the grid.

        Raises ConfigError for masks of points, and for frames that would not have as many lines each.
        """
        draws = np.random.default_rng([seed, LINES_STREAM]).integers(2**31, size=frames)
        masks = [
            make_mask(self.mask, shape, self.acceleration, self.center_fraction, int(draw))
            for draw in draws
        ]
        if masks[0].ndim != 1:
            raise ConfigError(
                f"mask {self.mask!r} is of points, and frames have lines: use random, gaussian1d or equispaced"
            )
        counts = {int(np.count_nonzero(mask)) for mask in masks}
        if len(counts) > 1:
            raise ConfigError(
                f"mask {self.mask!r}: frames of {min(counts)} to {max(counts)} lines, and every frame has as many; use "
                "random or gaussian1d, or an acceleration that divides the columns"
            )
        return np.stack([np.flatnonzero(mask) for mask in masks])


LINES_STREAM = 3
"""Of a seed: the masks of the frames."""


def readouts_of_frames(
    trajectory: str | Lines, frames: int, shape: tuple[int, int, int], seed: int, notes: list[str]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Points of all frames (readouts, samples, 2), as many readouts each, and what a record says of them.

    trajectory: "radial:N" for N golden-angle spokes a frame, lines, or a file of all readouts' points in the order of
    time. shape: (slices, rows, columns). Raises ConfigError, InputError.
    """
    if isinstance(trajectory, Lines):
        columns = trajectory.columns(frames, shape[1:], seed).reshape(-1)
        told = {"trajectory": "Cartesian lines", **dataclasses.asdict(trajectory)}
        return points_of_columns(columns, shape[1:]), told
    kind, colon, number = trajectory.partition(":")
    if colon and kind != "radial" and number.isdecimal():
        raise ConfigError(
            f"trajectory {trajectory!r}: frames are along radial:N, N golden-angle spokes each, or a file of points"
        )
    told = {"trajectory": Path(trajectory).name}
    if kind == "radial" and number.isdecimal():
        trajectory = f"radial:{int(number) * frames}"
    points = made_points(trajectory, shape, 1.0, notes)
    if points.shape[-1] != 2 or len(points) % frames:
        raise ConfigError(
            f"trajectory {trajectory!r}: {len(points)} readouts in {points.shape[-1]} dimensions; {frames} frames of "
            "slices have as many each, in two"
        )
    return points, told
