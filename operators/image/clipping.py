"""Saturation: what a sensor of limited range makes of a bright scene.

Called by pipelines and tests as a forward model for high dynamic range; imports only the operator contracts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import NonlinearOperator, SameShape


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Clipping(SameShape, NonlinearOperator):
    """Multiply real images of `shape` by `gain`, then clip to low..high.

    The HDR task of Mardani, Song, Kautz, Vahdat, "A variational perspective on solving inverse problems with diffusion
    models", ICLR 2024, is gain 2 on images in -1..1 with low -1; images in 0..1 take low 0. The gradient is zero
    beyond the limits and `gain` up to and on them. `pinv` divides by the gain. Raises ConfigError.
    """

    task = "declip"

    shape: tuple[int, ...]
    gain: float = 2.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain != 0):
            raise ConfigError(
                f"Clipping: gain is {self.gain}, expected a finite number other than 0"
            )
        if not self.low < self.high:
            raise ConfigError(
                f"Clipping: the range is {self.low}..{self.high}, expected low below high"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> Clipping:
        """A tiny instance for tests."""
        return cls((3, 4))

    def _apply(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(self.low, self.high)

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        seen = self.gain * x
        return torch.where((seen >= self.low) & (seen <= self.high), self.gain * v, 0)

    def _pinv(self, y: Tensor) -> Tensor:
        return y / self.gain
