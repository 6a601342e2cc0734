"""The matrix of spherical means: how much of each pixel lies on each shell around a detector.

Called by `spherical_means` alone. Knows positions and radii as arrays in mm, no operator; in double precision.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.sparse import csr_matrix, vstack


def pixel_centres(shape: tuple[int, ...], pixel_mm: float) -> np.ndarray:
    """(pixels, axes) in mm, row by row, about the middle of the grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * pixel_mm for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))


def shell_sizes(radii_mm: np.ndarray, step_mm: float, axes: int) -> np.ndarray:
    """Integral over space of the hat of half-width `step_mm` around each radius: mm^2 in the plane, mm^3 in space."""
    if axes == 2:
        return 2 * math.pi * radii_mm * step_mm
    return 4 * math.pi * (radii_mm**2 + step_mm**2 / 6) * step_mm


def shell_matrix(
    detectors_mm: np.ndarray,
    radii_mm: np.ndarray,
    shape: tuple[int, ...],
    pixel_mm: float,
    points: int,
) -> csr_matrix:
    """(detectors x radii, pixels): the mean of an image over the hat-shaped shell of each detector and radius.

    detectors_mm: (detectors, axes). radii_mm: (radii,), evenly spaced. points: along each axis of a pixel, whose
    content is spread over them. A shell that lies inside the image has weights of sum one, to the spacing of points.
    """
    step, axes = float(radii_mm[1] - radii_mm[0]), len(shape)
    inside = ((np.arange(points) + 0.5) / points - 0.5) * pixel_mm
    offsets = np.array(list(itertools.product(inside, repeat=axes)))
    places = (pixel_centres(shape, pixel_mm)[:, None] + offsets).reshape(-1, axes)
    pixels = np.repeat(np.arange(math.prod(shape)), len(offsets))
    share = (pixel_mm / points) ** axes / shell_sizes(radii_mm, step, axes)
    rows = []
    for detector in detectors_mm:
        at = (np.linalg.norm(places - detector, axis=1) - radii_mm[0]) / step
        lower = np.floor(at).astype(np.int64)
        shells, weights = (
            np.concatenate([lower, lower + 1]),
            np.concatenate([lower + 1 - at, at - lower]),
        )
        kept = (shells >= 0) & (shells < len(radii_mm))
        shells, weights, of = shells[kept], weights[kept], np.tile(pixels, 2)[kept]
        size = (len(radii_mm), math.prod(shape))
        rows.append(csr_matrix((weights * share[shells], (shells, of)), shape=size))
    return vstack(rows, format="csr")
