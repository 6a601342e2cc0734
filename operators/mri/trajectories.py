"""Non-Cartesian trajectories and the density of their samples, by sigpy, as plain arrays.

Called by whoever builds a non-Cartesian operator, today from a `sigpy.linop.NUFFT` (docs/interop.md). sigpy is optional
and imported on first use. Coordinates are in cycles per field of view: a Cartesian scan of n x n pixels has the
whole numbers from -n/2 to n/2 - 1, and what a transform of sigpy, BART or finufft (times 2 pi / n) takes.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError
from restore.extras import load_extra

_CALIBRATION = 32  # pixels a side of the Cartesian scan that density is measured against


def radial(
    spokes: int, samples: int, shape: tuple[int, ...], *, golden: bool = True
) -> NDArray[np.float64]:
    """Spokes from the centre outwards: (spokes, samples, len(shape)), in cycles per field of view, row axis first.

    golden: each spoke turned by the golden angle from the one before (Winkelmann et al., IEEE TMI 2007; in three
    dimensions Chan et al., MRM 2009), else evenly over the whole turn (two dimensions only).
    Raises ConfigError (no spokes or samples, other than two or three dimensions, no sigpy).
    """
    if spokes < 1 or samples < 1 or len(shape) not in (2, 3) or (len(shape) == 3 and not golden):
        raise ConfigError(
            f"radial: {spokes} spokes of {samples} samples in {len(shape)} dimensions, golden={golden}: expected at "
            "least one of each, in two dimensions, or in three with the golden means"
        )
    made = _mri("radial").radial((spokes, samples, len(shape)), shape, golden)
    return np.asarray(made, np.float64)


def spiral(
    interleaves: int,
    size: int,
    fov_mm: float,
    *,
    undersampling: float = 1.0,
    density: float = 1.0,
    gradient_mt_per_m: float = 30.0,
    slew_t_per_m_s: float = 120.0,
) -> NDArray[np.float64]:
    """Spiral interleaves: (interleaves, samples, 2), in cycles per field of view.

    size: pixels a side, which sets the reach, size / 2. density: the power of the radius along the spiral, 1 for even
    turns, more for a denser centre. As fast as gradient and slew rate allow (Kim, Adalsteinsson and Spielman,
    MRM 2003). Raises ConfigError (values out of range, no sigpy).
    """
    limits = (fov_mm, undersampling, density, gradient_mt_per_m, slew_t_per_m_s)
    if interleaves < 1 or size < 2 or not all(v > 0 and math.isfinite(v) for v in limits):
        raise ConfigError(
            f"spiral: {interleaves} interleaves for {size} pixels with {limits}: expected at least one and two, and "
            "positive numbers for the rest"
        )
    fov_m = fov_mm / 1000
    if interleaves * undersampling >= size / 2:  # one turn of an interleaf would pass the edge
        raise ConfigError(
            f"spiral: {interleaves} interleaves, undersampled {undersampling} times, leave no turn to each "
            f"within {size} pixels; use fewer than {size / 2 / undersampling:g}"
        )
    made = _mri("spiral").spiral(
        fov_m,
        size,
        1.0,
        undersampling,
        interleaves,
        density,
        gradient_mt_per_m / 1000,
        slew_t_per_m_s,
    )
    return np.asarray(made, np.float64).reshape(interleaves, -1, 2) * fov_m


def density_compensation(
    coordinates: NDArray[np.float64], shape: tuple[int, ...], *, iterations: int = 30
) -> NDArray[np.float64]:
    """Weights of samples by the room each has in k-space, (...) for coordinates (..., ndim): 1 on a Cartesian grid.

    With them A^H (weights y) of an orthonormal transform A has the intensities of the image, where k-space was sampled
    densely enough. Pipe and Menon, MRM 1999; more iterations even out the centre further.
    Raises ShapeError (coordinates of another dimension), ConfigError (no iterations, no sigpy).
    """
    if coordinates.ndim < 2 or coordinates.shape[-1] != len(shape):
        raise ShapeError(
            f"density_compensation: coordinates have shape {coordinates.shape}, expected (..., {len(shape)})"
        )
    if iterations < 1:
        raise ConfigError(f"density_compensation: iterations is {iterations}, expected 1 or more")
    return _pipe_menon(coordinates, shape, iterations) / _unit(len(shape), iterations)


def _pipe_menon(
    coordinates: NDArray[np.float64], shape: tuple[int, ...], iterations: int
) -> NDArray[np.float64]:
    mri = _mri("density_compensation")
    return mri.pipe_menon_dcf(coordinates, img_shape=shape, max_iter=iterations, show_pbar=False)


@functools.lru_cache(maxsize=16)
def _unit(ndim: int, iterations: int) -> float:
    """What the iteration gives the middle of a Cartesian grid: its scale depends on the kernel alone."""
    side = _CALIBRATION if ndim == 2 else _CALIBRATION // 2
    axes = np.meshgrid(*[np.arange(-side // 2, side // 2, dtype=np.float64)] * ndim, indexing="ij")
    grid = np.stack(axes, axis=-1)
    return float(_pipe_menon(grid, (side,) * ndim, iterations)[(side // 2,) * ndim])


def _mri(purpose: str) -> Any:
    return load_extra("sigpy.mri", "sigpy", purpose)
