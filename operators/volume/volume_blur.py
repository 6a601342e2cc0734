"""Blur of a volume by a three-dimensional point spread function, its surroundings unknown.

Called by the pipelines for volumes; imports only the operator contract and its iterations.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.contract import check_stored
from restore.operators.volume.circulant import filtered

_NOISE_TO_SIGNAL = 1e-3  # of the pseudo-inverse, relative to the largest squared gain


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VolumeBlur(LinearOperator):
    """y[i] = sum_j kernel[j] x[i + 2 centre - j] over the last three dimensions, where the kernel lies inside x.

    kernel: (d, h, w) real, not normalised here, of odd sides, at most those of shape. shape: of an image (D, H, W); the
    measurement is smaller, (D - d + 1, ...): what lies beyond it and was blurred into it is part of the image. Nothing
    is assumed of it: a volume that were mirrored or repeated beyond its borders contradicts its own blur there, and
    deconvolution rings from them (5 dB of a volume of 40 voxels). Raises ShapeError, ConfigError.
    """

    task = "deblur"

    kernel: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        sides = tuple(self.kernel.shape)
        if self.kernel.ndim != 3 or self.kernel.is_complex() or not all(k % 2 for k in sides):
            raise ShapeError(
                f"VolumeBlur: kernel is {sides} {self.kernel.dtype}, expected a real array with three odd sides"
            )
        if len(self.shape) != 3 or any(k > n for k, n in zip(sides, self.shape, strict=True)):
            raise ShapeError(f"VolumeBlur: a kernel of {sides} is too large for {self.shape}")
        check_stored("VolumeBlur", "kernel", self.kernel)
        if not bool(torch.isfinite(self.kernel).all()):
            raise ConfigError("VolumeBlur: kernel has values that are not finite")

    @classmethod
    def example(cls, generator: torch.Generator) -> VolumeBlur:
        """A tiny instance for tests."""
        return cls(torch.rand(1, 3, 3, generator=generator), (3, 4, 5))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The image's, less the border that the kernel reaches beyond."""
        return tuple(n - k + 1 for n, k in zip(self.shape, self.kernel.shape, strict=True))

    def inside(self, x: Tensor) -> Tensor:
        """The voxels of images that the measurement's lie on. (..., D, H, W) -> (..., *out_shape)."""
        for axis, k in zip((-3, -2, -1), self.kernel.shape, strict=True):
            x = x.narrow(axis, k // 2, x.shape[axis] - k + 1)
        return x

    @lasting
    def transfer(self) -> Tensor:
        """Half spectrum of the kernel, its centre at the origin, on the image's grid."""
        grid = torch.zeros(self.shape, dtype=self.kernel.dtype, device=self.kernel.device)
        d, h, w = self.kernel.shape
        grid[:d, :h, :w] = self.kernel
        grid = grid.roll((-(d // 2), -(h // 2), -(w // 2)), (0, 1, 2))
        return torch.fft.rfftn(grid)

    def picture(self, y: Tensor) -> Tensor:
        """The blurred volume at the image's size, mirrored where nothing was measured."""
        flat = self._measured(y).reshape(-1, 1, *self.out_shape)
        mirrored = F.pad(flat, self._borders, mode="reflect" if self._small else "replicate")
        return mirrored.reshape(*y.shape[:-3], *self.shape)

    @property
    def _small(self) -> bool:
        """Whether the border is smaller than the measurement, so that it can be mirrored."""
        return all(k // 2 < n for k, n in zip(self.kernel.shape, self.out_shape, strict=True))

    @property
    def _borders(self) -> list[int]:
        return [k // 2 for k in reversed(self.kernel.shape) for _ in range(2)]

    def _apply(self, x: Tensor) -> Tensor:
        return self.inside(filtered(x, self.transfer, self.shape))

    def _adjoint(self, y: Tensor) -> Tensor:
        return filtered(F.pad(y, self._borders), self.transfer.conj(), self.shape)

    def _pinv(self, y: Tensor) -> Tensor:
        """From the picture a few steps towards the data, as for a blurred photograph."""
        start = self.picture(y)
        damping = _NOISE_TO_SIGNAL * float(self.transfer.abs().square().amax())
        return start + least_squares(self, y - self._apply(start), iterations=8, damping=damping)
