"""A straight, evenly spaced volume out of a sheared or uneven stack of slices, where somebody asked for it.

May be called by the DICOM reader, with `resample=True`. Values are interpolated linearly, as dcm2niix does for a tilted
gantry; nothing is resampled unasked. Pure functions of arrays.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted

from restore.datasets.budget import check_budget

Array = NDArray[np.float64]

_STILL = 1e-3  # pixels: no slice moved by less is interpolated
_EVEN = 0.01  # of the smallest distance: distances that differ by less are one


@dataclasses.dataclass(frozen=True, eq=False)
class Straight:
    """data: (slices, rows, columns). first_mm: of its first voxel. steps_mm: of column, row and slice index.

    notes: what was interpolated, none where nothing was.
    """

    data: NDArray[Any]
    first_mm: Array
    steps_mm: tuple[Array, Array, Array]
    notes: tuple[str, ...]


def straightened(
    data: NDArray[Any],
    positions_mm: Array,
    along_row: Array,
    along_column: Array,
    outside: float,
    path: str | Path,
) -> Straight:
    """The slices on an upright, even grid.

    data: (slices, rows, columns), in order along the normal. positions_mm: (slices, 3), of the first voxels. along_row,
    along_column: step of the column and of the row index, mm. outside: the value of what no slice saw. path: for
    messages.

    Each slice is moved in its plane to where it lies upright above the first; the images grow so that nothing is cut.
    Then the slices are interpolated to the smallest distance between neighbours, where distances differ.
    Raises InputError where the result would not fit into memory.
    """
    normal = np.cross(along_row, along_column)
    normal = normal / np.linalg.norm(normal)
    away = positions_mm - positions_mm[0]
    height = away @ normal
    across = away - height[:, None] * normal
    pixels = [across @ step / (step @ step) for step in (along_column, along_row)]
    data, lowest, notes = _upright(data, np.stack(pixels, axis=1), outside, path)
    if notes:
        tilt = np.degrees(np.arctan2(np.linalg.norm(across[-1]), height[-1]))
        notes = [f"resampled: a shear of {tilt:.3g} degrees taken out, {notes[0]}"]
    first = positions_mm[0] + lowest[0] * along_column + lowest[1] * along_row
    data, pitch, more = _even(data, height, path)
    return Straight(data, first, (along_row, along_column, normal * pitch), (*notes, *more))


def _upright(
    data: NDArray[Any], shifts: Array, outside: float, path: str | Path
) -> tuple[NDArray[Any], Array, list[str]]:
    """Slices whose pixel (i, j) lies at (i, j) + shift on one grid, and the first pixel of the grid."""
    if np.abs(shifts).max() < _STILL:
        return data, np.zeros(2), []
    lowest = np.floor(shifts.min(0) + _STILL)
    grown = [int(n) for n in np.ceil(shifts.max(0) - _STILL) - lowest]
    rows, columns = data.shape[1:]
    check_budget(len(data) * (rows + grown[0]) * (columns + grown[1]) * data.itemsize, path)
    found = np.full((len(data), rows + grown[0], columns + grown[1]), outside, data.dtype)
    for plane, out, by in zip(data, found, shifts - lowest, strict=True):
        padded = np.full(out.shape, outside, np.float64)
        padded[:rows, :columns] = plane
        out[...] = shifted(padded, by, order=1, mode="constant", cval=outside, prefilter=False)
    return found, lowest, [f"images grown by {grown[0]} rows and {grown[1]} columns"]


def _even(
    data: NDArray[Any], height: Array, path: str | Path
) -> tuple[NDArray[Any], float, list[str]]:
    """Slices at even heights, and their distance; height: where the given ones lie, rising from 0."""
    gaps = np.diff(height)
    pitch = float(gaps.min())
    if np.ptp(gaps) <= _EVEN * pitch:
        return data, float(gaps.mean()), []
    count = int(height[-1] / pitch + _STILL) + 1
    check_budget(count * data[0].size * (data.itemsize + 16), path)
    wanted = np.arange(count) * pitch
    above = np.clip(np.searchsorted(height, wanted, side="right"), 1, len(height) - 1)
    share = np.clip((wanted - height[above - 1]) / gaps[above - 1], 0, 1)[:, None, None]
    found = ((1 - share) * data[above - 1] + share * data[above]).astype(data.dtype)
    note = (
        f"resampled: {len(height)} slices {pitch:.4g} to {gaps.max():.4g} mm apart interpolated to {len(wanted)} at "
        f"{pitch:.4g} mm"
    )
    return found, pitch, [note]
