"""Readouts that are whole columns of a Cartesian grid: which, and their samples in place.

May be called by scans and simulators; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ON_GRID = 1e-6
"""Of a step of the grid: how far a point that lies on it may be stored from it, single precision included."""


def points_of_columns(columns: NDArray[np.intp], matrix: tuple[int, int]) -> NDArray[np.float64]:
    """A readout for each column of the grid of `matrix` (rows, columns): points (readouts, rows, 2) in cycles per field
    of view, row axis first, from the first row to the last; the centre is row H // 2, column W // 2."""
    rows = np.arange(matrix[0]) - matrix[0] // 2
    down = np.broadcast_to(rows, (len(columns), len(rows)))
    across = np.broadcast_to((columns - matrix[1] // 2)[:, None], down.shape)
    return np.stack([down, across], axis=-1).astype(np.float64)


def columns_of_points(
    points: NDArray[np.float64], matrix: tuple[int, ...]
) -> NDArray[np.intp] | None:
    """The column that each readout (readouts, samples, 2) measures, in the order of `points_of_columns`; None where
    some readout is no whole column of the grid."""
    if points.shape[1:] != (matrix[0], 2) or len(matrix) != 2:
        return None
    columns = np.rint(points[:, 0, 1]).astype(np.intp) + matrix[1] // 2
    if columns.min() < 0 or columns.max() >= matrix[1]:
        return None
    there = points_of_columns(columns, (matrix[0], matrix[1]))
    return columns if float(np.abs(points - there).max()) <= ON_GRID else None
