"""Blur of a volume by a three-dimensional point spread function.

Called by the pipelines for volumes; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import lasting
from restore.operators.contract import check_stored
from restore.operators.volume.circulant import Circulant

_NOISE_TO_SIGNAL = 1e-3  # of the pseudo-inverse, relative to the largest squared gain


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VolumeBlur(Circulant):
    """y[i] = sum_j kernel[j] x[i + centre - j] over the last three dimensions, which repeat periodically.

    kernel: (d, h, w) real, not normalised here, of odd sides about its centre, at most those of shape (D, H, W).
    Whoever has a volume with borders mirrors it beyond them first. The pseudo-inverse is Wiener's filter for noise of
    1/1000 of the signal's power. Raises ShapeError, ConfigError.
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

    @lasting
    def transfer(self) -> Tensor:
        """Half spectrum of the kernel on the volume's grid."""
        grid = torch.zeros(self.shape, dtype=self.kernel.dtype, device=self.kernel.device)
        d, h, w = self.kernel.shape
        grid[:d, :h, :w] = self.kernel
        grid = grid.roll((-(d // 2), -(h // 2), -(w // 2)), (0, 1, 2))
        return torch.fft.rfftn(grid)

    def _pinv(self, y: Tensor) -> Tensor:
        power = self.transfer.abs().square()
        largest = power.amax().clamp(min=torch.finfo(power.dtype).tiny)
        return self.filtered(y, self.transfer.conj() / (power + _NOISE_TO_SIGNAL * largest))
