"""The Fourier transform to a few lines of k-space as a product with a matrix, where an FFT is slow.

Called by the Cartesian operator; imports only torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

_QUICK = 13
"""Prime factors of a length up to which FFTs are quick: of 188 = 4 x 47 they take four times as long as of 256."""
_FEW = 48
"""Lines up to which the product is quicker than such an FFT. 8 coils of 256 x 188, one thread: A^H A takes 2.7 ms with
23 lines, 4.6 with 47, 5.3 by FFTs."""


def transform_to(mask: Tensor) -> Tensor | None:
    """The columns of the orthonormal Fourier matrix that belong to sampled lines, (n, lines) complex.

    mask: (n,) of 0 and 1 in the order of an uncentred FFT, in the precision wanted, on the processor. None where the
    FFT is as quick, and on other devices.
    """
    n, sampled = len(mask), mask.real.nonzero()[:, 0]
    if mask.device.type != "cpu" or len(sampled) > _FEW or largest_factor(n) <= _QUICK:
        return None
    # Reduced modulo n as integers, so that large n loses no digits of the angle.
    turns = (torch.arange(n)[:, None] * sampled) % n
    angle = turns.double() * (-2 * torch.pi / n)
    return torch.polar(torch.full_like(angle, n**-0.5), angle).to(mask.dtype)


def largest_factor(n: int) -> int:
    """The largest prime factor of a whole number above 0; 1 of 1."""
    largest, factor = 1, 2
    while n > 1:
        if n % factor == 0:
            largest, n = factor, n // factor
        elif factor * factor > n:
            return n
        else:
            factor += 1
    return largest
