"""How much room in k-space each sample of a trajectory has: the weights with which gridding keeps intensities.

Called by the non-Cartesian operator for its starting point, by the gridded centre and by scripts.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.nonuniform import nufft, nufft_adjoint
from restore.operators.mri.trajectories import Trajectory

_ITERATIONS = 30
_CACHED = 8


def density_compensation(
    coordinates: NDArray[np.float64], shape: tuple[int, ...], *, iterations: int = _ITERATIONS
) -> NDArray[np.float64]:
    """Weights of samples by the room each has in k-space, (...) for coordinates (..., ndim): 1 on a Cartesian grid.

    With them A^H (weights y) of an orthonormal transform A has the intensities of the image, where k-space was
    sampled densely enough. Pipe and Menon, MRM 41:179, 1999, w <- w / (w * kernel), with the kernel whose image is
    a pyramid over twice the field of view: it is nowhere negative and zero at the other samples of a Cartesian
    grid. More iterations even out the centre further.
    Raises ShapeError (coordinates of another dimension), ConfigError (no iterations, samples out of the band, no
    finufft).
    """
    if coordinates.ndim < 2 or coordinates.shape[-1] != len(shape):
        raise ShapeError(
            f"density_compensation: coordinates have shape {coordinates.shape}, expected (..., {len(shape)})"
        )
    if iterations < 1:
        raise ConfigError(f"density_compensation: iterations is {iterations}, expected 1 or more")
    trajectory = Trajectory(coordinates.reshape(1, -1, len(shape)))
    return _weights(trajectory, tuple(shape), iterations).reshape(coordinates.shape[:-1])


@functools.lru_cache(maxsize=_CACHED)
def sample_weights(trajectory: Trajectory, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`density_compensation` of a trajectory, (readouts, samples), kept for the next who asks."""
    return _weights(trajectory, shape, _ITERATIONS)


def _weights(
    trajectory: Trajectory, shape: tuple[int, ...], iterations: int
) -> NDArray[np.float64]:
    trajectory.radians(
        shape
    )  # refuses what lies out of the band of the image, not of the finer grid
    wide = tuple(2 * n for n in shape)
    doubled = Trajectory(trajectory.points * 2)
    pyramid = torch.ones((), dtype=torch.float32)
    for n in shape:
        side = 1 - torch.arange(-n, n).abs() / n
        pyramid = pyramid.unsqueeze(-1) * side.to(torch.float32)
    # The sum over the grid of the kernel at no distance; each of two transforms divides by the root of its pixels.
    pyramid = pyramid * (pyramid.numel() / float(pyramid.sum()))
    weights = torch.ones(trajectory.shape, dtype=torch.float32)
    for _ in range(iterations):
        grid = nufft_adjoint(weights.to(torch.complex64), doubled, wide)
        dense = nufft(grid * pyramid, doubled, len(shape)).real
        weights = weights / dense.clamp_min(torch.finfo(torch.float32).tiny)
    return weights.double().numpy()
