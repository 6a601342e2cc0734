"""Centred orthonormal Fourier transform over the last two dimensions, and how to do without its
shifts.

Called by the MRI operators, the readers of k-space and everything that draws it; imports only
torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DIMS = (-2, -1)


def fft2c(x: Tensor) -> Tensor:
    """Centred orthonormal 2-D FFT of the last two dimensions; the zero frequency lies at index n //
    2, odd n included.
    """
    shifted = torch.fft.ifftshift(x, dim=_DIMS)
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=_DIMS)


def ifft2c(k: Tensor) -> Tensor:
    """Inverse (and adjoint) of `fft2c`."""
    shifted = torch.fft.ifftshift(k, dim=_DIMS)
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=_DIMS)


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


def shift_planes(
    height: int,
    width: int,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The products of two `shift_ramps`: (height, width) arrays with fft2c(x) = after * fft2(before
    * x).
    """
    rows = shift_ramps(height, dtype=dtype, device=device)
    columns = shift_ramps(width, dtype=dtype, device=device)
    before, after = (a[:, None] * b for a, b in zip(rows, columns, strict=True))
    return before, after
