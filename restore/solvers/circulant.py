"""A preconditioner for data terms whose A^H A nearly is a convolution: the circulant matrix of its response.

May be called by solvers and benchmarks. Pure functions of tensors; touches nothing.

A^H Lambda A of a scan that goes round answers a point by nearly the same blurred point wherever it lies. Conjugate
gradients on I + w A^H Lambda A therefore take fewer steps where the residual is first divided by the spectrum of that
answer (Fessler and Booth, "Conjugate-gradient preconditioning methods for shift-variant PET image reconstruction", IEEE
TIP 1999): the ramp filter, as this geometry and these weights have it, for a map that is not quite shift-invariant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import LinearMap

FLOOR = 0.02
"""Share of the largest value below which the spectrum counts as this share.

Of few views it vanishes between the lines that they measure, where the map itself, being no convolution, does not. Of
what was tried on cones of 30 views it took fewest steps (benchmarks/ACQUISITIONS.md); without a floor there were more
than without a preconditioner.
"""


def response_spectrum(normal: LinearMap, like: Tensor, item_ndim: int) -> Tensor | None:
    """The transfer function of A^H Lambda A near the middle of an image, by one product with it.

    normal: the map on images (*batch, *item). like: such an image. Returns real numbers, not negative, of the shape of
    `transformed(like)`; None where the map answers nothing.
    """
    axes, shape = _axes(item_ndim), like.shape[like.ndim - item_ndim :]
    middle = [n // 2 for n in shape]
    point = torch.zeros_like(like)
    place: tuple[Any, ...] = (..., *middle)
    point[place] = 1
    answer = torch.roll(normal(point), [-m for m in middle], axes)
    spectrum = transformed(answer, item_ndim).real.clamp(min=0)
    largest = spectrum.amax(axes, keepdim=True)
    return torch.maximum(spectrum, FLOOR * largest) if bool((largest > 0).all()) else None


def laplacian_spectrum(like: Tensor, item_ndim: int, axes: Sequence[int]) -> Tensor:
    """The transfer function of D* D along some axes, periodic (`restore.solvers.tv.laplacian`). Of the item's shape."""
    shape = like.shape[like.ndim - item_ndim :]
    total = like.new_zeros((), dtype=like.real.dtype)
    for axis in range(-item_ndim, 0):
        n = shape[axis]
        last = n // 2 + 1 if axis == -1 and not like.is_complex() else n
        k = torch.arange(last, device=like.device, dtype=like.real.dtype)
        line = 2 - 2 * torch.cos(2 * math.pi / n * k) if axis in axes else torch.zeros_like(k)
        total = total + line.reshape(-1, *[1] * (-axis - 1))
    return total


def inverse(spectrum: Tensor, item_ndim: int) -> LinearMap:
    """r -> the circulant matrix of a positive spectrum, inverted, times r. r: (*batch, *item), real or complex."""

    def divided(r: Tensor) -> Tensor:
        found = transformed(r, item_ndim) / spectrum
        if r.is_complex():
            return torch.fft.ifftn(found, dim=_axes(item_ndim))
        return torch.fft.irfftn(found, s=r.shape[r.ndim - item_ndim :], dim=_axes(item_ndim))

    return divided


def transformed(x: Tensor, item_ndim: int) -> Tensor:
    """The discrete Fourier transform of each item, of real ones the half that says all."""
    fft = torch.fft.fftn if x.is_complex() else torch.fft.rfftn
    return fft(x, dim=_axes(item_ndim))


def _axes(item_ndim: int) -> tuple[int, ...]:
    return tuple(range(-item_ndim, 0))
