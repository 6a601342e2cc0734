"""Transmission counts: the law of Beer and Lambert on top of any projector of line integrals.

Called by pipelines that model counts before the logarithm; imports only the operator contracts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator, NonlinearOperator
from restore.operators.diagonal import Diagonal


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BeerLambert(NonlinearOperator):
    """Expected counts N0 exp(-A x), with x the attenuation (1/mm where the projector's lengths are
    mm).

    projector: A, line integrals without unit. photons: N0 > 0, counts of an unattenuated ray.
    Raises ConfigError.
    """

    task = "counts"

    projector: LinearOperator
    photons: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.photons) and self.photons > 0):
            raise ConfigError(
                f"BeerLambert: photons is {self.photons}, expected a positive number of counts"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> BeerLambert:
        """A tiny instance for tests."""
        return cls(Diagonal(torch.rand(3, 4, generator=generator), (3, 4)), 1000.0)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.projector.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the counts."""
        return self.projector.out_shape

    @property
    def kind(self) -> str:
        """As the projector."""
        return self.projector.kind

    @property
    def slice_ndim(self) -> int:
        """As the projector."""
        return self.projector.slice_ndim

    def picture(self, y: Tensor) -> Tensor:
        """That of the line integrals."""
        return self.projector.picture(self.line_integrals(y))

    def _apply(self, x: Tensor) -> Tensor:
        return self.photons * torch.exp(-self.projector(x))

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return -self.projector.adjoint(self._apply(x) * v)

    def _pinv(self, y: Tensor) -> Tensor:
        return self.projector.pinv(self.line_integrals(y))

    def line_integrals(self, counts: Tensor, *, floor: float = 0.5) -> Tensor:
        """-log(counts / N0), the usual linearisation; counts below `floor` (dead or starved rays)
        are raised to it.
        """
        counts = self._measured(counts, "counts")
        return -torch.log(counts.clamp(min=floor) / self.photons)
