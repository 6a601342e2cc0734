"""The Fourier transform to a few lines of k-space and back as products with matrices, where FFTs are slow.

Called by the Cartesian operator; imports only torch.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

_QUICK = 13
"""Prime factors of a length up to which FFTs are quick: of 188 = 4 x 47 they take four times as long as of 256."""
_FEW = 56
"""Lines up to which products are quicker than such FFTs of an even length, and two thirds of it of an odd one."""
_EVENLY = 8
"""Lines are filled up with zeros to a multiple of it: products with 24 columns take half the time of 23."""


@dataclasses.dataclass(frozen=True, eq=False)
class FewLines:
    """F^H M F along one axis, M the mask of lines.

    matrices: the columns of the orthonormal Fourier matrix that belong to sampled lines, (n, lines) complex. Of an
    even length two of (n / 2, lines), of the even lines and of the odd ones: both halves of an image are the same to a
    line but for the sign, so that their sum and their difference are all that has to be transformed (the first step of
    an FFT, Cooley and Tukey 1965), in half the time.
    """

    matrices: tuple[Tensor, ...]

    def conjugate(self, images: Tensor, axis: int) -> Tensor:
        """The conjugate of F^H M F z along axis -1 or -2 of images z, which may be overwritten."""
        if len(self.matrices) == 1:
            return _conjugate(images, self.matrices[0], axis)
        (first, second), (even, odd) = images.chunk(2, axis), self.matrices
        total = _conjugate(first + second, even, axis)
        difference = _conjugate(first - second, odd, axis)
        torch.add(total, difference, out=first)
        torch.sub(total, difference, out=second)
        return images


def few_lines_of(mask: Tensor) -> FewLines | None:
    """The products of a mask: (n,) of 0 and 1 in the order of an uncentred FFT, in the precision wanted.

    None where FFTs are as quick, and on other devices than the processor.
    """
    n, sampled = len(mask), mask.real.nonzero()[:, 0]
    few = _FEW if n % 2 == 0 else _FEW * 2 // 3
    if mask.device.type != "cpu" or len(sampled) > few or largest_factor(n) <= _QUICK:
        return None
    if n % 2:
        return FewLines((_columns(n, n, sampled, mask.dtype),))
    halves = (sampled[sampled % 2 == odd] for odd in (0, 1))
    return FewLines(tuple(_columns(n, n // 2, half, mask.dtype) for half in halves))


def _columns(n: int, rows: int, lines: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the orthonormal Fourier matrix of length n, the first rows, and columns of zeros after the lines."""
    # Reduced modulo n as integers, so that large n loses no digits of the angle.
    turns = (torch.arange(rows)[:, None] * lines) % n
    angle = turns.double() * (-2 * torch.pi / n)
    found = torch.polar(torch.full_like(angle, n**-0.5), angle).to(dtype)
    return torch.cat([found, found.new_zeros(rows, -len(lines) % _EVENLY)], dim=1)


def _conjugate(images: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """The conjugate of matrix* matrix^T z along an axis: there and back."""
    if axis == -1:
        return (images @ matrix).conj_physical_() @ matrix.mT
    return matrix @ (matrix.mT @ images).conj_physical_()


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
