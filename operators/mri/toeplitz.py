"""A^H W A of a non-uniform Fourier transform as a convolution: two zero-padded FFTs an image, no sample touched.

Called by the non-Cartesian operator and the gridded centre. F^H W F is a Toeplitz matrix: its entry for two pixels
depends on their distance alone (Fessler et al., IEEE TSP 53:3393, 2005). Nothing is approximated but the kernel,
which is computed once, in double precision, by one transform of the weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from restore.operators.mri.nonuniform import nufft_adjoint
from restore.operators.mri.trajectories import Trajectory

_CACHE_BYTES, _DEVICE_BYTES = 2**18, 2**28
_FEWEST_COLUMNS = 8


def toeplitz_spectrum(
    trajectory: Trajectory, shape: tuple[int, ...], weights: NDArray[np.float64] | None = None
) -> Tensor:
    """The transfer function of F^H W F for images of `shape`, real float64, about twice as long along each axis.

    weights: (readouts, samples), one where None. Raises ConfigError for samples out of the band or no finufft.
    """
    ones = np.ones(trajectory.shape) if weights is None else weights
    samples = torch.from_numpy(ones).to(torch.complex128)
    lags = tuple(2 * n - 1 for n in shape)  # -(n - 1) to n - 1, so that the middle is no distance
    stretched = Trajectory(trajectory.points * (np.array(lags) / np.array(shape)))
    kernel = nufft_adjoint(samples, stretched, lags) * (
        math.sqrt(math.prod(lags)) / math.prod(shape)
    )
    sizes = [next_fast_len(n) for n in lags]
    padded = kernel.new_zeros(sizes)
    padded[tuple(slice(n) for n in lags)] = kernel
    padded = padded.roll([1 - n for n in shape], tuple(range(len(shape))))
    # A kernel whose opposite lags are conjugate has a real spectrum.
    return torch.fft.fftn(padded).real.clone()


def convolve(x: Tensor, spectrum: Tensor) -> Tensor:
    """F^H W F x of images (*batch, *shape), by the spectrum on the device and in the precision of x.

    Zeros are neither transformed nor kept: each axis is padded just before its FFT and cut just after the inverse
    one. After the last axis, columns are independent: as many of them at a time as stay in the cache.
    """
    length, width = spectrum.shape[-1], x.shape[-1]
    rows = torch.fft.fft(x, n=length, dim=-1)
    held = spectrum[..., 0].numel() * rows[..., 0].numel() * x.element_size()
    held //= math.prod(rows.shape[rows.ndim - spectrum.ndim : -1])
    step = max(_FEWEST_COLUMNS, block_bytes(x) // max(held, 1))
    for start in range(0, length, step):
        part = rows[..., start : start + step]
        part.copy_(_along_columns(part, spectrum[..., start : start + step]))
    return torch.fft.ifft(rows, dim=-1)[..., :width]


def block_bytes(x: Tensor) -> int:
    """How much is worked on at a time where x lies: what a CPU's cache holds; much more elsewhere."""
    return _CACHE_BYTES if x.device.type == "cpu" else _DEVICE_BYTES


def _along_columns(x: Tensor, spectrum: Tensor) -> Tensor:
    """The same along all axes but the last, whose frequencies x and spectrum share."""
    shape, axes = x.shape[x.ndim - spectrum.ndim : -1], range(-spectrum.ndim, -1)
    for axis in reversed(axes):
        x = torch.fft.fft(x, n=spectrum.shape[axis], dim=axis)
    x.mul_(spectrum)
    for axis, n in zip(axes, shape, strict=True):
        x = torch.fft.ifft(x, dim=axis).narrow(axis, 0, n)
    return x
