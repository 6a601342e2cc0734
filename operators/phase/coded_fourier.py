"""Fourier transforms of an image behind masks: what a detector far away would see, if it saw phases.

Called as the linear part of `Magnitudes`; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.contract import check_stored
from restore.operators.phase.ffts import fft2, ifft2


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CodedFourier(LinearOperator):
    """For each mask the orthonormal FFT of mask * x, zeros put behind x up to `oversampling` times its sides.

    Images (..., H, W) become (..., masks, oversampling H, oversampling W), complex, with the zero frequency first.
    masks: (masks, H, W), real or complex. One mask of ones and oversampling 2 is coherent diffraction of an isolated
    object (Fienup, Appl. Opt. 21, 1982), masks of random phases are coded diffraction patterns (Candes, Li,
    Soltanolkotabi, 2015). A^H A multiplies by the sum of |mask|^2, so that `pinv` is exact.

    Raises ShapeError, ConfigError.
    """

    is_complex = True

    masks: Tensor
    shape: tuple[int, ...]
    oversampling: int = 1

    def __post_init__(self) -> None:
        check_stored("CodedFourier", "masks", self.masks)
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise ShapeError(
                f"CodedFourier: image shape is {tuple(self.shape)}, expected (..., H, W)"
            )
        size = tuple(self.shape[-2:])
        if self.masks.ndim != 3 or not len(self.masks) or tuple(self.masks.shape[1:]) != size:
            raise ShapeError(
                f"CodedFourier: masks are {tuple(self.masks.shape)}, expected (masks, {size[0]}, {size[1]})"
            )
        if not bool(torch.isfinite(self.masks).all()):
            raise ConfigError("CodedFourier: masks have values that are not finite")
        if not isinstance(self.oversampling, int) or self.oversampling < 1:
            raise ConfigError(
                f"CodedFourier: oversampling is {self.oversampling}, expected a whole number of at least 1"
            )

    @classmethod
    def plain(cls, shape: tuple[int, ...], oversampling: int = 2) -> CodedFourier:
        """One mask of ones."""
        return cls(torch.ones(1, *shape[-2:]), tuple(shape), oversampling)

    @classmethod
    def random_phases(
        cls, shape: tuple[int, ...], masks: int, generator: torch.Generator, oversampling: int = 1
    ) -> CodedFourier:
        """Masks with phases drawn evenly, of magnitude 1 / sqrt(masks): lengths are kept."""
        size = (masks, *shape[-2:])
        turns = torch.rand(size, generator=generator, device=generator.device) * (2 * math.pi)
        return cls(
            torch.polar(torch.full_like(turns, masks**-0.5), turns), tuple(shape), oversampling
        )

    @classmethod
    def example(cls, generator: torch.Generator) -> CodedFourier:
        """A tiny instance for tests."""
        return cls.random_phases((2, 4, 5), 3, generator, 2)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(..., H, W)."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(..., masks, oversampling H, oversampling W)."""
        return (*self.shape[:-2], len(self.masks), *self._grid)

    @property
    def slice_ndim(self) -> int:
        """All dimensions before the last two."""
        return len(self.shape) - 2

    @property
    def _grid(self) -> tuple[int, int]:
        height, width = self.shape[-2:]
        return height * self.oversampling, width * self.oversampling

    def _apply(self, x: Tensor) -> Tensor:
        return fft2(self.masks * x[..., None, :, :], self._grid)

    def _adjoint(self, y: Tensor) -> Tensor:
        height, width = self.shape[-2:]
        behind = ifft2(y)[..., :height, :width]
        return (self.masks.conj() * behind).sum(-3)

    def _normal(self, x: Tensor) -> Tensor:
        return x * self._power

    def _pinv(self, y: Tensor) -> Tensor:
        power = self._power
        return self._adjoint(y) * torch.where(power > 0, 1 / power, 0)

    @property
    def _power(self) -> Tensor:
        return self.masks.abs().square().sum(0)
