"""The middle of k-space on a Cartesian grid, from samples of any trajectory: what coil maps are estimated from.

Called by the set-up of non-Cartesian scans and by scripts; imports the transforms of this folder.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import cg
from restore.operators.mri.density import sample_weights
from restore.operators.mri.fourier import fftc
from restore.operators.mri.nonuniform import nufft_adjoint
from restore.operators.mri.toeplitz import convolve, toeplitz_spectrum
from restore.operators.mri.trajectories import Trajectory

WIDTH = 24
"""Cartesian lines along each axis that maps are estimated from, as for Cartesian scans at most."""

_STEPS, _DAMPING = 15, 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class _Centre:
    """Of a trajectory: which samples (flat) lie in the middle, these alone, and their weighted normal operator."""

    chosen: Tensor
    part: Trajectory
    weights: Tensor
    spectrum: Tensor


def gridded_centre(
    y: Tensor, trajectory: Trajectory, shape: tuple[int, ...], width: int = WIDTH
) -> tuple[Tensor, tuple[slice, ...]]:
    """Centred orthonormal k-space (*batch, *shape) of the pixels `shape`, zero but for `width` lines about the centre
    of each axis, and which these are.

    y: (*batch, readouts, samples) complex. The lines are those of the image of twice as many pixels that explains the
    samples up to `width` cycles best (conjugate gradients, weighted by density): its outer ones, which samples beyond
    would change, are left out. Raises ConfigError where the centre has no samples, ShapeError.
    """
    if len(shape) != trajectory.ndim:
        raise ShapeError(f"gridded_centre: {trajectory.ndim} dimensions for images {tuple(shape)}")
    small = tuple(min(n, 2 * width) for n in shape)
    centre = _centre(trajectory, small, width)
    samples = y.flatten(-2)[..., centre.chosen.to(y.device)].unsqueeze(-2)
    weights = centre.weights.to(y.device, y.real.dtype)
    spectrum = centre.spectrum.to(y.device, y.real.dtype)
    right = nufft_adjoint(samples * weights, centre.part, small)

    def system(x: Tensor) -> Tensor:
        return torch.add(convolve(x, spectrum), x, alpha=_DAMPING)

    image = cg(system, right, iters=_STEPS, tol=1e-6, item_ndim=len(shape)).x
    lines = fftc(image, len(shape))
    inner = tuple(_middle(min(width, m), m) for m in small)
    region = tuple(_middle(i.stop - i.start, n) for i, n in zip(inner, shape, strict=True))
    full = y.new_zeros((*y.shape[:-2], *shape))
    there: tuple[Any, ...] = (..., *region)
    here: tuple[Any, ...] = (..., *inner)
    full[there] = lines[here]
    return full, region


@functools.lru_cache(maxsize=4)
def _centre(trajectory: Trajectory, small: tuple[int, ...], width: int) -> _Centre:
    """Kept for the next slice of the scan. Raises ConfigError."""
    chosen = trajectory.middle(tuple(n / 2 for n in small)).reshape(-1)
    if int(chosen.sum()) < width**trajectory.ndim / 4:
        raise ConfigError(
            f"calibration region: {int(chosen.sum())} samples within {width} cycles of the centre of k-space are too "
            "few to estimate coil maps from; give maps"
        )
    part = Trajectory(trajectory.points.reshape(-1, trajectory.ndim)[None, chosen])
    weights = sample_weights(part, small)
    spectrum = toeplitz_spectrum(part, small, weights)
    return _Centre(torch.from_numpy(chosen), part, torch.from_numpy(weights), spectrum)


def _middle(count: int, n: int) -> slice:
    """`count` of n lines about the zero frequency, n // 2."""
    start = n // 2 - count // 2
    return slice(start, start + count)
