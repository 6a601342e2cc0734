"""Several unknowns in one measurement: the row [A_1 A_2 ...], whose images lie side by side in one vector.

Called by whoever looks for more than an image in a measurement (`restore.samplers.joint`); imports only the contract.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import Several
from restore.operators.diagonal import Diagonal
from restore.scaling import Scaling


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Superposition(Several):
    """The sum of several unknowns' measurements: (x_1, x_2, ...) -> A_1 x_1 + A_2 x_2 + ..., x_1 being the image.

    The unknowns may have any shapes; they are flattened, slice by slice where no operator mixes slices (`slice_ndim`),
    and joined into a vector, by `joined`, from which `parted` takes them again. What it is, its units and its
    pseudo-inverse are those of the first operator, which explains the measurement alone; the others' unknowns are
    zero there. Raises ConfigError for no operators, or real and complex ones together, ShapeError where measurements
    have different shapes.
    """

    def _check_shapes(self) -> None:
        shapes = {op.out_shape for op in self.operators}
        if len(shapes) > 1:
            found = ", ".join(map(str, sorted(shapes)))
            raise ShapeError(
                f"Superposition: operators give measurements of shapes {found}, expected one shape"
            )
        if len({op.is_complex for op in self.operators}) > 1:
            found = ", ".join(map(str, self.operators))
            raise ConfigError(f"Superposition: {found}: real and complex images do not go together")

    @classmethod
    def example(cls, generator: torch.Generator) -> Superposition:
        """A tiny instance for tests."""
        weights = torch.randn(2, 3, 4, generator=generator)
        return cls(tuple(Diagonal(w, (3, 4)) for w in weights))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*slices, total)."""
        return (*self.operators[0].in_shape[: self.slice_ndim], sum(self._sizes))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The common shape of the measurements."""
        return self.operators[0].out_shape

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions that no operator mixes and all keep."""
        lead = [
            op.slice_ndim if op.in_shape[: op.slice_ndim] == op.out_shape[: op.slice_ndim] else 0
            for op in self.operators
        ]
        return min(lead)

    @property
    def kind(self) -> str:
        """As the first operator."""
        return self.operators[0].kind

    @property
    def task(self) -> str:
        """As the first operator."""
        return self.operators[0].task

    def unit_scale(self, y: Tensor) -> Scaling:
        """As the first operator."""
        return self.operators[0].unit_scale(y)

    def shown(self, x: Tensor) -> Tensor:
        """The image, as the first operator shows it."""
        return self.operators[0].shown(self.parted(x)[0])

    def project(self, y: Tensor) -> Tensor:
        """y, zero where no operator measures anything."""
        first, *others = (op.project(y) for op in self.operators)
        for other in others:
            first = torch.where(first == 0, other, first)
        return first

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The unknowns as one: (*batch, *in_shape of each) -> (*batch, *in_shape)."""
        batch = parts[0].ndim - len(self.operators[0].in_shape)
        return torch.cat([part.flatten(batch + self.slice_ndim) for part in parts], -1)

    def parted(self, x: Tensor) -> list[Tensor]:
        """The unknowns of one: (*batch, *in_shape) -> (*batch, *in_shape) of each operator."""
        k = self.slice_ndim
        pairs = zip(self.operators, x.split(self._sizes, dim=-1), strict=True)
        return [part.unflatten(-1, op.in_shape[k:]) for op, part in pairs]

    @property
    def _sizes(self) -> list[int]:
        k = self.slice_ndim
        return [math.prod(op.in_shape[k:]) for op in self.operators]

    def _apply(self, x: Tensor) -> Tensor:
        first, *others = (
            op._apply(part) for op, part in zip(self.operators, self.parted(x), strict=True)
        )
        for other in others:
            first = first + other
        return first

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.joined([op._adjoint(y) for op in self.operators])

    def _pinv(self, y: Tensor) -> Tensor:
        alone = self.operators[0]._pinv(y)
        batch = y.shape[: y.ndim - len(self.out_shape)]
        empty = [alone.new_zeros((*batch, *op.in_shape)) for op in self.operators[1:]]
        return self.joined([alone, *empty])
