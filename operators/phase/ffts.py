"""Orthonormal Fourier transforms of the last two dimensions, zero frequency first, also of no images at all.

Called by the operators of this room; imports only torch, whose own transforms refuse empty batches on some processors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fft2(x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The transform of x with zeros behind it up to `size`."""
    if x.numel():
        return torch.fft.fft2(x, s=size, norm="ortho")
    return _nothing(x, size)


def ifft2(k: Tensor) -> Tensor:
    """Inverse (and adjoint) of `fft2` without a size."""
    return torch.fft.ifft2(k, norm="ortho") if k.numel() else _nothing(k, None)


def _nothing(x: Tensor, size: tuple[int, int] | None) -> Tensor:
    return x.new_zeros((*x.shape[:-2], *(size or x.shape[-2:])), dtype=x.dtype.to_complex())
