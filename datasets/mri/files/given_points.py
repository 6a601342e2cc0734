"""Coordinates of k-space samples that a file brings, looked at before they are used: shape, numbers, units.

May be called by the readers of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.errors import InputError
from restore.operators.mri.trajectories import BAND

LEAST_PIXELS = 8
"""Of an axis from which units are told by how far samples reach: half of it is more than pi."""

PART = 0.5
"""Of the band of the matrix, below which the image has fewer details than pixels."""

UNITS = "coordinates are in cycles per field of view: from -n/2 to n/2 along n pixels"


def checked_points(
    points: NDArray[np.float64],
    samples: tuple[int, ...],
    matrix: tuple[int, ...],
    path: Path,
    notes: list[str],
) -> NDArray[np.float64]:
    """The points (readouts, samples, 2 or 3) of a scan whose readouts are `samples` and whose pixels are `matrix`.

    Raises InputError for other shapes, values that are not finite, other units (radians or cycles per pixel), and
    samples outside the band of the matrix. What reaches half of the band at most is noted.
    """
    wanted = (*samples, len(matrix))
    if points.shape != wanted:
        raise InputError(
            path,
            f"'trajectory' has shape {points.shape}, and k-space is {samples} (readouts, samples) of "
            f"{len(matrix)} dimensions",
            f"expected {wanted}: a coordinate along each axis of the image, rows first, for every sample",
        )
    bad = int((~np.isfinite(points)).any(axis=-1).sum())
    if bad:
        raise InputError(
            path, f"'trajectory' holds {bad} samples with NaN or infinite coordinates", UNITS
        )
    reach = np.abs(points).max(axis=(0, 1))
    half = np.array(matrix) / 2
    if reach.max() == 0:
        raise InputError(path, "'trajectory' is zero everywhere", UNITS)
    if min(matrix) >= LEAST_PIXELS:
        _check_units(float(reach.max()), matrix, path)
    if (reach > half + BAND).any():
        axis = int(np.argmax(reach - half))
        raise InputError(
            path,
            f"the trajectory reaches {reach[axis]:.5g} cycles per field of view along axis {axis}, and {matrix[axis]} "
            f"pixels hold {half[axis]:g}",
            f"say the matrix that was measured (attribute 'matrix' of 'trajectory'), or mend the units: {UNITS}",
        )
    if (reach < PART * half).any():
        axis = int(np.argmin(reach / half))
        notes.append(
            f"the trajectory reaches {reach[axis]:.3g} of {half[axis]:g} cycles along axis {axis}: details beyond are "
            "not measured"
        )
    return points


def matrix_of(points: NDArray[np.float64], notes: list[str]) -> tuple[int, ...]:
    """The even matrix whose band the points just fill, where the file says none."""
    reach = np.abs(points[np.isfinite(points).all(axis=-1)]).max(axis=0, initial=0)
    matrix = tuple(2 * max(1, math.ceil(r - BAND)) for r in reach)
    notes.append(
        f"no matrix in the file: {' x '.join(map(str, matrix))} pixels, as far as the trajectory reaches"
    )
    return matrix


def _check_units(reach: float, matrix: tuple[int, ...], path: Path) -> None:
    """Raise InputError for samples that all lie within pi, or half a cycle, of many pixels."""
    for limit, unit, factor in (
        (0.5, "cycles per pixel", "n"),
        (math.pi, "radians per pixel", "n / (2 pi)"),
    ):
        if reach <= limit * (1 + BAND):
            raise InputError(
                path,
                f"the trajectory reaches {reach:.4g} at most, for {' x '.join(map(str, matrix))} pixels: {unit}, it "
                "seems",
                f"{UNITS}; multiply by {factor}, or say a smaller matrix",
            )
