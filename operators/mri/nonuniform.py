"""The non-uniform Fourier transform of images on a grid and its adjoint, by finufft, on torch tensors.

Called by the non-Cartesian operator, the density of samples and the gridded centre. finufft (Barnett, Magland and af
Klinteberg, SIAM J Sci Comput 41:C479, 2019) computes on the CPU; tensors of another device are brought there and
back. It is an optional package, imported on first use. One small cache of plans, which hold the sorted samples.

The two directions run on one plan with one kernel, so that they are adjoint to rounding, whatever the accuracy. Each
transform of a batch is computed by one thread, so that results are the same every time.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.extras import load_extra
from restore.operators.mri.trajectories import Trajectory

ACCURACY = {torch.complex64: 2e-5, torch.complex128: 1e-13}
"""Relative error of a transform, near what coordinates of each precision allow (1e-5 in single, 256 pixels a
side)."""

FINER = {torch.complex64: 1.25, torch.complex128: 2.0}
"""The grid inside over the image's: with 1.25, which allows 1e-8 at best, 256 x 256 takes a sixth of the time of
2."""

_CACHED_PLANS = 8
_MOST_AT_ONCE = 64  # images of one plan; more of a batch go one after the other


def nufft(x: Tensor, trajectory: Trajectory, ndim: int) -> Tensor:
    """y(k) = sum over pixels of x(r) exp(-2 pi i k r / n) / sqrt(pixels), r counted from the pixel n // 2.

    x: complex64 or complex128 (*batch, *shape) with `ndim` image axes -> (*batch, readouts, samples). On a
    Cartesian grid the centred orthonormal FFT. Raises ConfigError (no finufft, samples out of the band), ShapeError.
    """
    shape = tuple(x.shape[x.ndim - ndim :])
    return _run(x, trajectory, shape, shape, trajectory.shape, "execute")


def nufft_adjoint(y: Tensor, trajectory: Trajectory, shape: tuple[int, ...]) -> Tensor:
    """The adjoint of `nufft`: (*batch, readouts, samples) -> (*batch, *shape). Raises as it does."""
    return _run(y, trajectory, shape, trajectory.shape, shape, "execute_adjoint")


def require_finufft() -> None:
    """Raise ConfigError, with what to install, where finufft is missing."""
    _finufft()


def _run(
    data: Tensor, trajectory: Trajectory, shape: tuple[int, ...], before: tuple[int, ...],
    after: tuple[int, ...], direction: str,
) -> Tensor:  # fmt: skip
    flat = data.detach().cpu().resolve_conj().reshape(-1, math.prod(before)).contiguous()
    out = flat.new_empty((len(flat), math.prod(after)))
    factor = 1 / math.sqrt(math.prod(shape))
    inner = before if direction == "execute" else (math.prod(before),)
    outer = after if direction != "execute" else (math.prod(after),)
    for start in range(0, len(flat), _MOST_AT_ONCE):
        part, answer = flat[start : start + _MOST_AT_ONCE], out[start : start + _MOST_AT_ONCE]
        count = len(part)
        plan = _plan(trajectory, shape, count, data.dtype)
        lead = (count,) if count > 1 else ()
        plan.run(direction, part.reshape(*lead, *inner), answer.view(*lead, *outer))
    return out.mul_(factor).reshape(*data.shape[: data.ndim - len(before)], *after).to(data.device)


class _Plan:
    """A plan of finufft with its samples, used by one thread of ours at a time."""

    def __init__(
        self, trajectory: Trajectory, shape: tuple[int, ...], count: int, number: torch.dtype
    ) -> None:
        name = str(number).removeprefix("torch.")
        real = np.float32 if number == torch.complex64 else np.float64
        # One thread an image (2): several at one would add up in an order of chance.
        self._plan = _finufft().Plan(
            2, shape, count, ACCURACY[number], -1, name,
            nthreads=torch.get_num_threads(), spread_thread=2, upsampfac=FINER[number],
        )  # fmt: skip
        self._points = [axis.astype(real) for axis in trajectory.radians(shape)]
        self._plan.setpts(*self._points)
        self._lock = threading.Lock()

    def run(self, direction: str, data: Tensor, out: Tensor) -> None:
        with self._lock:
            getattr(self._plan, direction)(data.numpy(), out=out.numpy())


@functools.lru_cache(maxsize=_CACHED_PLANS)
def _plan(trajectory: Trajectory, shape: tuple[int, ...], count: int, number: torch.dtype) -> _Plan:
    return _Plan(trajectory, shape, count, number)


def _finufft() -> Any:
    return load_extra("finufft", "noncartesian", "non-Cartesian MRI")
