"""Centred orthonormal Fourier transform over the last dimensions, two or three, and how to do without its
shifts.

Called by the MRI operators, the readers of k-space and everything that draws it; imports only
torch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def fft2c(x: Tensor) -> Tensor:
    """Centred orthonormal 2-D FFT of the last two dimensions; the zero frequency lies at index n //
    2, odd n included.
    """
    return fftc(x, 2)


def ifft2c(k: Tensor) -> Tensor:
    """Inverse (and adjoint) of `fft2c`."""
    return ifftc(k, 2)


def fftc(x: Tensor, ndim: int) -> Tensor:
    """As `fft2c`, of the last `ndim` dimensions."""
    dims = tuple(range(-ndim, 0))
    shifted = torch.fft.ifftshift(x, dim=dims)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=dims, norm="ortho"), dim=dims)


def ifftc(k: Tensor, ndim: int) -> Tensor:
    """Inverse (and adjoint) of `fftc`."""
    dims = tuple(range(-ndim, 0))
    shifted = torch.fft.ifftshift(k, dim=dims)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=dims, norm="ortho"), dim=dims)


def shift_ramps(
    n: int, *, dtype: torch.dtype = torch.complex64, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Two unit-modulus vectors of length n with centred_fft(x) = after * fft(before * x), exact for
    every n.

    A rotation by c = n // 2 on one side of a Fourier transform is a linear phase on the other: with
    before[m] = exp(2 pi i m c / n) and after[k] = exp(2 pi i (k - c) c / n), no sample has to be
    moved. For even n both are plus or minus one.
    """
    centre = n // 2
    # Reduced modulo n as integers, so that large n loses no digits of the angle.
    index = torch.arange(n, dtype=torch.int64)
    turn = 2 * torch.pi / n
    before = torch.polar(torch.ones(n, dtype=torch.float64), turn * ((index * centre) % n).double())
    shifted = ((index - centre) * centre) % n
    after = torch.polar(torch.ones(n, dtype=torch.float64), turn * shifted.double())
    if n % 2 == 0:  # exactly real: no rounding of sin(pi)
        before, after = before.real.round() + 0j, after.real.round() + 0j
    return before.to(device=device, dtype=dtype), after.to(device=device, dtype=dtype)


def shift_grid(
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The products of `shift_ramps` along all axes: arrays of `shape` with fftc(x) = after * fftn(before * x)."""
    ramps = [shift_ramps(n, dtype=dtype, device=device) for n in shape]
    before, after = (
        functools.reduce(lambda a, b: a.unsqueeze(-1) * b, side)
        for side in zip(*ramps, strict=True)
    )
    return before, after
