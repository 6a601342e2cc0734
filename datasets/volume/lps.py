"""Positions and directions of slices as scanners give them (LPS, mm), from an affine in RAS.

May be called by the writers of files that place each slice by itself; touches nothing but its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """Unit vectors (3,) in LPS: along a column, from row to row (read); along a row (phase); across slices.

    positions: (slices, 3) in mm, of the pixel (rows // 2, columns // 2) of each.
    """

    read: NDArray[np.float64]
    phase: NDArray[np.float64]
    through: NDArray[np.float64]
    positions: NDArray[np.float64]


def frame_of(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Frame:
    """Where the slices of a volume (slices, rows, columns) lie. affine: voxel (column, row, slice) to RAS mm.

    Rows and columns are at right angles in the formats that are written by it; the direction across slices is their
    normal, turned towards the next slice, wherever that lies.
    """
    columns, rows, across = (RAS_TO_LPS * affine[:3, axis] for axis in range(3))
    phase, read = columns / np.linalg.norm(columns), rows / np.linalg.norm(rows)
    through = np.cross(read, phase)
    through = through / np.linalg.norm(through) * (1 if through @ across >= 0 else -1)
    middle = np.array([shape[2] // 2, shape[1] // 2, 0, 1])
    first = RAS_TO_LPS * (affine @ middle)[:3]
    return Frame(read, phase, through, first + np.arange(shape[0])[:, None] * across)
