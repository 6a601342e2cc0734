"""Orthonormal separable wavelet transform of the last two dimensions, periodic, batched.

May be called by solvers and pipelines. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.solvers.tv import soft_threshold

Family = Literal["haar", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8"]
"""Daubechies wavelets; beyond the eighth the spectral factorisation loses digits."""

_DEFAULT_LEVELS = 4


@dataclass(frozen=True)
class Wavelet:
    """Daubechies wavelet transform W with W^H W = W W^H = I, over `levels` octaves.

    name: "haar" or "db1" to "db8" (number of vanishing moments). Images are (*batch, H, W), real
    or complex, with H and W multiples of 2^levels and at least filter length * 2^(levels - 1):
    the transform is periodic and pads nothing (`padded` gives the next size that fits).
    Coefficients have the shape of the image, coarse band in the top left corner, each level's
    bands around it (first letter rows): [[coarse, low-high], [high-low, high-high]].
    Mallat 1989; Daubechies 1992. Raises ConfigError, ShapeError.
    """

    name: str = "db4"
    levels: int = _DEFAULT_LEVELS

    def __post_init__(self) -> None:
        _order(self.name)
        if self.levels < 1:
            raise ConfigError(f"wavelet: levels is {self.levels}, expected one or more")

    @classmethod
    def fitting(cls, name: str, size: tuple[int, int], levels: int = _DEFAULT_LEVELS) -> Wavelet:
        """The transform with at most `levels` octaves that an image of this size allows."""
        length = 2 * _order(name)
        while levels > 1 and min(size) < length << (levels - 1):
            levels -= 1
        return cls(name, levels)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Smallest (H, W) at or above `size` that the transform takes."""
        unit = 1 << self.levels
        least = (2 * _order(self.name)) << (self.levels - 1)
        height, width = (max(-(-n // unit) * unit, least) for n in size)
        return height, width

    def analysis(self, x: Tensor) -> Tensor:
        """W x. x: (*batch, H, W), the coefficients have the same shape."""
        self._check(x)
        planes = _planes(x)
        kernel, margin = _analysis_kernel(self.name, planes)
        out = torch.empty_like(planes)
        coarse = planes
        for _ in range(self.levels):
            bands = F.conv2d(_wrap(coarse, margin), kernel, stride=2)
            height, width = bands.shape[-2:]
            out[..., :height, width : 2 * width] = bands[:, 1:2]
            out[..., height : 2 * height, :width] = bands[:, 2:3]
            out[..., height : 2 * height, width : 2 * width] = bands[:, 3:4]
            coarse = bands[:, :1]
        out[..., : coarse.shape[-2], : coarse.shape[-1]] = coarse
        return _unplanes(out, x)

    def synthesis(self, c: Tensor) -> Tensor:
        """W^H c, the inverse of `analysis`. c: (*batch, H, W)."""
        self._check(c)
        planes = _planes(c)
        kernel, margin = _synthesis_kernel(self.name, planes)
        height, width = (n >> self.levels for n in planes.shape[-2:])
        coarse = planes[..., :height, :width]
        for _ in range(self.levels):
            right, low = slice(width, 2 * width), slice(height, 2 * height)
            details = [
                planes[..., :height, right],
                planes[..., low, :width],
                planes[..., low, right],
            ]
            bands = torch.cat([coarse, *details], dim=1)
            coarse = F.pixel_shuffle(F.conv2d(_wrap(bands, margin), kernel), 2)
            height, width = 2 * height, 2 * width
        return _unplanes(coarse, c)

    def shrink(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """Soft-threshold the details of x by tau, keep the coarse band.

        The proximal map of tau ||details of W x||_1. x: (*batch, H, W); tau: a number or real,
        broadcasting to x.
        """
        c = self.analysis(x)
        coarse = (..., slice(c.shape[-2] >> self.levels), slice(c.shape[-1] >> self.levels))
        shrunk = soft_threshold(c, tau)
        shrunk[coarse] = c[coarse]
        return self.synthesis(shrunk)

    def _check(self, x: Tensor) -> None:
        size = tuple(x.shape[-2:])
        if x.ndim < 2 or self.padded((size[0], size[1])) != size:
            hint = f"; pad to {self.padded((size[0], size[1]))}" if x.ndim >= 2 else ""
            raise ShapeError(
                f"wavelet {self.name}, {self.levels} levels: image is {tuple(x.shape)}, expected "
                f"(*batch, H, W) with multiples of {1 << self.levels}{hint}"
            )


def _order(name: str) -> int:
    if name not in get_args(Family):
        known = ", ".join(get_args(Family))
        raise ConfigError(f"wavelet: no family {name!r}, expected one of {known}")
    return 1 if name == "haar" else int(name.removeprefix("db"))


@lru_cache
def _filters(name: str) -> np.ndarray:
    """Low-pass and high-pass analysis filters, (2, length), float64, unit norm.

    The low-pass has `order` zeros at -1; the other half of its zeros are those inside the unit
    circle of the polynomial P(y) = sum_k C(order - 1 + k, k) y^k, y = (2 - z - 1/z) / 4.
    """
    order = _order(name)
    zeros = [-1.0 + 0j] * order
    for y in np.roots([comb(order - 1 + k, k) for k in range(order - 1, -1, -1)]):
        pair = np.roots([1.0, 4 * y - 2, 1.0])
        zeros.append(pair[np.argmin(np.abs(pair))])
    low = np.poly(zeros).real[::-1]
    low = low * (np.sqrt(2) / low.sum())
    high = low[::-1] * (-1.0) ** np.arange(1, 2 * order + 1)
    return np.stack([low, high])


def _analysis_kernel(name: str, like: Tensor) -> tuple[Tensor, int]:
    """Kernel (4, 1, L, L) of a strided correlation and the periodic margin it needs."""
    taps = torch.from_numpy(_filters(name)[:, ::-1].copy()).to(like.device, like.dtype)
    kernel = torch.einsum("ai,bj->abij", taps, taps)
    return kernel.reshape(4, 1, *kernel.shape[2:]), _order(name) - 1


def _synthesis_kernel(name: str, like: Tensor) -> tuple[Tensor, int]:
    """The adjoint as a correlation of the four bands that gives the four phases of a pixel."""
    filters, order = _filters(name), _order(name)
    margin = order // 2
    taps = np.zeros((2, 2, 2 * margin + 1))  # phase, band, offset
    for phase in range(2):
        for offset in range(-margin, margin + 1):
            tap = 2 * offset + order - phase
            if 0 <= tap < 2 * order:
                taps[phase, :, offset + margin] = filters[:, tap]
    t = torch.from_numpy(taps).to(like.device, like.dtype)
    kernel = torch.einsum("pai,qbj->pqabij", t, t)
    return kernel.reshape(4, 4, *kernel.shape[4:]), margin


def _wrap(x: Tensor, margin: int) -> Tensor:
    return F.pad(x, (margin,) * 4, mode="circular") if margin else x


def _planes(x: Tensor) -> Tensor:
    """Real planes (planes, 1, H, W); complex images become two."""
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj()).movedim(-1, 0)
    return x.reshape(-1, 1, *x.shape[-2:])


def _unplanes(planes: Tensor, like: Tensor) -> Tensor:
    if not like.is_complex():
        return planes.reshape(like.shape)
    real, imaginary = planes.reshape(2, *like.shape)
    return torch.complex(real, imaginary)
