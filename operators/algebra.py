"""Operators made of other operators: adjoint, product, scaling and stack.

Called by `operators.base` and by anybody who combines operators; imports nothing above the
operators layer. The leaves `Identity` and `Diagonal` and the two iterations that `base` derives
from are passed on from here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Self, final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.iterations import least_squares, power_iteration

__all__ = [
    "Adjoint",
    "Compose",
    "Diagonal",
    "Identity",
    "Scale",
    "Stack",
    "least_squares",
    "power_iteration",
]


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scale(LinearOperator):
    """A number times an operator: x -> factor A x."""

    operator: LinearOperator
    factor: float | complex

    @classmethod
    def example(cls, generator: torch.Generator) -> Scale:
        """A tiny instance for tests."""
        return cls(Diagonal(torch.rand(4, generator=generator), (4,)), -2.5)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.operator.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of a measurement."""
        return self.operator.out_shape

    @property
    def slice_ndim(self) -> int:
        """As the scaled operator."""
        return self.operator.slice_ndim

    @property
    def is_complex(self) -> bool:
        """Complex where the operator or the factor is."""
        return self.operator.is_complex or isinstance(self.factor, complex)

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._apply(x) * self.factor

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._adjoint(y) * self.factor.conjugate()

    def _normal(self, x: Tensor) -> Tensor:
        return self.operator._normal(x) * abs(self.factor) ** 2

    def _pinv(self, y: Tensor) -> Tensor:
        inverse = self.operator._pinv(y)
        return inverse / self.factor if self.factor else torch.zeros_like(inverse)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Adjoint(LinearOperator):
    """A^H as an operator; its own adjoint is the operator it was made from."""

    operator: LinearOperator

    @classmethod
    def example(cls, generator: torch.Generator) -> Adjoint:
        """A tiny instance for tests."""
        return cls(Stack.example(generator))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of a measurement of the original."""
        return self.operator.out_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of an image of the original."""
        return self.operator.in_shape

    @property
    def slice_ndim(self) -> int:
        """As the original: slices lead on both sides."""
        return self.operator.slice_ndim

    @property
    def is_complex(self) -> bool:
        """As the original."""
        return self.operator.is_complex

    @property
    def H(self) -> LinearOperator:
        """The original operator, not a copy."""
        return self.operator

    def norm(self) -> float:
        """The same as the original's."""
        return self.operator.norm()

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._apply(y)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Compose(LinearOperator):
    """The product x -> outer(inner(x)). Raises ShapeError where the two do not fit."""

    outer: LinearOperator
    inner: LinearOperator

    def __post_init__(self) -> None:
        if self.inner.out_shape != self.outer.in_shape:
            raise ShapeError(
                f"{self.outer} @ {self.inner}: the right operator gives {self.inner.out_shape}, "
                f"expected {self.outer.in_shape}"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> Compose:
        """A tiny instance for tests."""
        inner = Diagonal(torch.randn(3, 4, generator=generator), (3, 4))
        return cls(Stack.example(generator), inner)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape that the inner operator takes."""
        return self.inner.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape that the outer operator gives."""
        return self.outer.out_shape

    @property
    def slice_ndim(self) -> int:
        """Dimensions that neither operator mixes."""
        return min(self.outer.slice_ndim, self.inner.slice_ndim)

    @property
    def is_complex(self) -> bool:
        """Complex where either operator is."""
        return self.outer.is_complex or self.inner.is_complex

    def _apply(self, x: Tensor) -> Tensor:
        return self.outer._apply(self.inner._apply(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._normal(self.inner._apply(x)))


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stack(LinearOperator):
    """Several measurements of one image: x -> (A_1 x, A_2 x, ...).

    Measurements of equal shape are stacked along a new leading dimension; unequal ones are
    flattened and joined into a vector. Raises ConfigError for an empty list and ShapeError where
    the operators take different images.
    """

    operators: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))
        if not self.operators:
            raise ConfigError("Stack: got no operators, expected at least one")
        if len({op.in_shape for op in self.operators}) > 1:
            shapes = ", ".join(str(op.in_shape) for op in self.operators)
            raise ShapeError(f"Stack: operators take images of shapes {shapes}, expected one shape")

    @classmethod
    def example(cls, generator: torch.Generator) -> Stack:
        """A tiny instance for tests."""
        weights = torch.randn(2, 3, 4, generator=generator)
        return cls(tuple(Diagonal(w, (3, 4)) for w in weights))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The common shape of the images."""
        return self.operators[0].in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(n, *shape) for equal measurements, (total,) otherwise."""
        if self._even:
            return (len(self.operators), *self.operators[0].out_shape)
        return (sum(math.prod(op.out_shape) for op in self.operators),)

    @property
    def is_complex(self) -> bool:
        """Complex where any operator is."""
        return any(op.is_complex for op in self.operators)

    @property
    def _even(self) -> bool:
        return len({op.out_shape for op in self.operators}) == 1

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy on another device or in another real precision."""
        return dataclasses.replace(self, operators=tuple(op.to(target) for op in self.operators))

    def _tensors(self) -> list[Tensor]:
        return [tensor for op in self.operators for tensor in op._tensors()]

    def _apply(self, x: Tensor) -> Tensor:
        parts = [op._apply(x) for op in self.operators]
        if self._even:
            return torch.stack(parts, dim=x.ndim - len(self.in_shape))
        batch = x.shape[: x.ndim - len(self.in_shape)]
        return torch.cat(
            [p.reshape(*batch, math.prod(op.out_shape)) for p, op in self._with(parts)], -1
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        batch = y.shape[: y.ndim - len(self.out_shape)]
        if self._even:
            parts = y.unbind(len(batch))
        else:
            sizes = [math.prod(op.out_shape) for op in self.operators]
            parts = y.split(sizes, dim=-1)
        images = [op._adjoint(p.reshape(*batch, *op.out_shape)) for p, op in self._with(parts)]
        return torch.stack(images).sum(0)

    def _normal(self, x: Tensor) -> Tensor:
        return torch.stack([op._normal(x) for op in self.operators]).sum(0)

    def _with(
        self, parts: list[Tensor] | tuple[Tensor, ...]
    ) -> list[tuple[Tensor, LinearOperator]]:
        return list(zip(parts, self.operators, strict=True))
