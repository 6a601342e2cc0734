"""Linear forward operators and the algebra they are closed under: A.H, a * A, A + B, A - B and A @ B.

`LinearOperator` and what its arithmetic makes name each other, hence they stand in one file; what they ask of their
parts lies in `restore.operators.combining`. The contract lies in
`restore.operators.contract` (all operators), `linear` and `nonlinear`; its names are handed on from here. May be
imported by any layer; imports only these, linear algebra on functions, torch and the package's errors.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.singular import SVD, ProximalPoint
from restore.operators.combining import (
    finite_number,
    gain,
    no_operand,
    shared_kind,
    shared_periodicity,
    shared_task,
)
from restore.operators.contract import ABILITIES, KINDS, TASKS, Operator, SameShape, lasting
from restore.operators.linear import LinearContract, dense, least_squares
from restore.operators.nonlinear import NonlinearOperator
from restore.scaling import Scaling

__all__ = [
    "ABILITIES",
    "KINDS",
    "TASKS",
    "Adjoint",
    "Compose",
    "LinearOperator",
    "NonlinearOperator",
    "Operator",
    "SameShape",
    "Scale",
    "Sum",
    "dense",
    "lasting",
    "least_squares",
]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinearOperator(LinearContract):
    """A linear map x -> A x with its arithmetic; abstract. What to write: see `LinearContract` and `Operator`."""

    @property
    def H(self) -> LinearOperator:
        """The adjoint as an operator of its own; A.H.H is A."""
        return Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        """Composition: (A @ B)(x) = A(B(x)). An identity that changes nothing else is left out."""
        other = _operand(self, "@", other)
        product = Compose(self, other)
        bare = product.bare
        return product if bare is None or bare._number != product._number else bare

    def __mul__(self, factor: complex) -> LinearOperator:
        """(a A)(x) = a A(x), for a number a."""
        return Scale(self, finite_number(self, factor))

    __rmul__ = __mul__
    __array_ufunc__ = None  # so that a numpy number leaves `number * A` to `__rmul__`

    def __truediv__(self, divisor: complex) -> LinearOperator:
        """A / a = (1/a) A."""
        number = finite_number(self, divisor)
        if number == 0:
            raise ConfigError(f"{self} / 0: an operator cannot be divided by zero")
        return Scale(self, 1 / number)

    def __neg__(self) -> LinearOperator:
        """-A."""
        return Scale(self, -1.0)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        """(A + B)(x) = A(x) + B(x)."""
        return Sum((*_terms(self), *_terms(_operand(self, "+", other))))

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        """(A - B)(x) = A(x) - B(x)."""
        return Sum((*_terms(self), -_operand(self, "-", other)))


def _operand(left: LinearOperator, sign: str, right: object) -> LinearOperator:
    if isinstance(right, LinearOperator):
        return right
    raise no_operand(left, sign, right)


def _terms(operator: LinearOperator) -> tuple[LinearOperator, ...]:
    return operator.operators if isinstance(operator, Sum) else (operator,)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scale(LinearOperator):
    """A number times an operator: x -> factor A x. The measurement is in other units, the image is not."""

    operator: LinearOperator
    factor: float | complex

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.operator.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of a measurement."""
        return self.operator.out_shape

    @property
    def kind(self) -> str:
        """As the scaled operator."""
        return self.operator.kind

    @property
    def task(self) -> str:
        """As the scaled operator."""
        return self.operator.task

    @property
    def slice_ndim(self) -> int:
        """As the scaled operator."""
        return self.operator.slice_ndim

    @property
    def is_complex(self) -> bool:
        """Complex where the operator or the factor is."""
        return self.operator.is_complex or isinstance(self.factor, complex)

    @property
    def sums_components(self) -> bool:
        """As the scaled operator."""
        return self.operator.sums_components

    def shown(self, x: Tensor) -> Tensor:
        """As the scaled operator."""
        return self.operator.shown(x)

    @property
    def abilities(self) -> frozenset[str]:
        """Those of the scaled operator but for those that say what a sample is."""
        kept = {"interpolates", "backprojects", "periodic", "convolves", "subsets"}
        return super().abilities | (self.operator.abilities & kept if self.factor else set())

    def unit_scale(self, y: Tensor) -> Scaling:
        """That of the operator for its own measurement, y / factor."""
        return self.operator.unit_scale(y / self.factor) if self.factor else super().unit_scale(y)

    def picture(self, y: Tensor) -> Tensor:
        """That of the operator's own measurement, y / factor."""
        return self.operator.picture(y / self.factor) if self.factor else self.pinv(y)

    def project(self, y: Tensor) -> Tensor:
        """As the operator."""
        return self.operator.project(y)

    def interpolate(self, y: Tensor) -> Tensor:
        """The operator's own measurement, enlarged. Raises ConfigError."""
        return self.operator.interpolate(y / self.factor)

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """The operator's own measurement, backprojected. Raises ConfigError."""
        return self.operator.backproject(y / self.factor, filter)

    def subset(self, which: slice) -> Any:
        """The operator's own views, multiplied. Raises ConfigError."""
        return self.operator.subset(which) * self.factor

    def norm(self) -> float:
        """|factor| times that of the operator."""
        return abs(self.factor) * self.operator.norm()

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """That of the operator, for its own measurement and precision."""
        if not self._has_svd or y.is_complex() != self.is_complex:
            return None
        return self.operator.proximal_point(y / self.factor, precision * abs(self.factor) ** 2)

    @property
    def _has_svd(self) -> bool:
        same = self.is_complex == self.operator.is_complex
        return self.factor != 0 and same and self.operator._has_svd

    def _svd(self, like: Tensor) -> SVD | None:
        own = self.operator._svd(like) if self._has_svd else None
        return None if own is None else own.scaled(self.factor)

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

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of a measurement of the original."""
        return self.operator.out_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of an image of the original."""
        return self.operator.in_shape

    @property
    def kind(self) -> str:
        """As the original."""
        return self.operator.kind

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

    @property
    def abilities(self) -> frozenset[str]:
        """Those that every operator has; "periodic" where the original is."""
        return super().abilities | shared_periodicity((self.operator,))

    def unit_scale(self, y: Tensor) -> Scaling:
        """One for real operators: what A^H sees as its image is a measurement, which no prior knows."""
        return Operator.unit_scale(self, y)

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

    @cached_property
    def bare(self) -> LinearOperator | None:
        """The factor that is the whole product, where the other one is an identity."""
        pairs = ((self.outer, self.inner), (self.inner, self.outer))
        whole = (kept for kept, other in pairs if "identity" in other.abilities)
        return next((op for op in whole if op.is_complex == self.is_complex), None)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape that the inner operator takes."""
        return self.inner.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape that the outer operator gives."""
        return self.outer.out_shape

    @property
    def kind(self) -> str:
        """That of the factor which is no plain image; of the outer one where both are none."""
        return shared_kind((self.outer, self.inner))

    @property
    def task(self) -> str:
        """That of the factor which is no identity; "" for two tasks at once."""
        return shared_task((self.outer, self.inner)) if self.bare is None else self.bare.task

    @property
    def slice_ndim(self) -> int:
        """Dimensions that neither operator mixes."""
        if self.bare is not None:
            return self.bare.slice_ndim
        return min(self.outer.slice_ndim, self.inner.slice_ndim)

    @property
    def is_complex(self) -> bool:
        """Complex where either operator is."""
        return self.outer.is_complex or self.inner.is_complex

    @property
    def sums_components(self) -> bool:
        """As the inner operator."""
        return self.inner.sums_components

    def shown(self, x: Tensor) -> Tensor:
        """As the inner operator."""
        return self.inner.shown(x)

    @property
    def abilities(self) -> frozenset[str]:
        """Those of the only factor that is no identity, else those of every product; "periodic" where both are."""
        if self.bare is not None:
            return self.bare.abilities
        return super().abilities | shared_periodicity((self.outer, self.inner))

    def unit_scale(self, y: Tensor) -> Scaling:
        """By the factor that says the kind: its own measurement, or the image that the inner one makes for it."""
        if self.bare is not None:
            return self.bare.unit_scale(y)
        if self.outer.kind != "image":
            found = self.outer.unit_scale(y)
            return Scaling(found.scale / gain(self.inner), found.rule)
        if self.inner.kind != "image":
            return self.inner.unit_scale(self.outer.pinv(y))
        return super().unit_scale(y)

    def picture(self, y: Tensor) -> Tensor:
        """The inner operator's picture of the outer one's."""
        shaped = self.inner.in_shape == self.inner.out_shape
        return self.inner.picture(self.outer.picture(y) if shaped else self.outer.pinv(y))

    def project(self, y: Tensor) -> Tensor:
        """As the outer operator; as the only factor that is no identity."""
        return (self.outer if self.bare is None else self.bare).project(y)

    def interpolate(self, y: Tensor) -> Tensor:
        """As the only factor that is no identity. Raises ConfigError."""
        return super().interpolate(y) if self.bare is None else self.bare.interpolate(y)

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """As the only factor that is no identity. Raises ConfigError."""
        bare = self.bare
        return super().backproject(y, filter) if bare is None else bare.backproject(y, filter)

    def subset(self, which: slice) -> Any:
        """As the only factor that is no identity. Raises ConfigError."""
        return super().subset(which) if self.bare is None else self.bare.subset(which)

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """As the only factor that is no identity."""
        return None if self.bare is None else self.bare.proximal_point(y, precision)

    @property
    def _has_svd(self) -> bool:
        return self.bare is not None and self.bare._has_svd

    def _svd(self, like: Tensor) -> SVD | None:
        return None if self.bare is None else self.bare._svd(like)

    def _apply(self, x: Tensor) -> Tensor:
        return self.outer._apply(self.inner._apply(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._normal(self.inner._apply(x)))

    def _pinv(self, y: Tensor) -> Tensor:
        return super()._pinv(y) if self.bare is None else self.bare._pinv(y)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Several(LinearOperator):
    """Abstract: a combination of one operator or more, which is what they are. Raises ConfigError for none."""

    operators: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        found, name = tuple(self.operators), type(self).__name__
        wrong = next((op for op in found if not isinstance(op, LinearOperator)), None)
        if wrong is not None:
            raise ConfigError(f"{name}: expected linear operators, got a {type(wrong).__name__}")
        if not found:
            raise ConfigError(f"{name}: got no operators, expected at least one")
        object.__setattr__(self, "operators", found)
        self._check_shapes()

    @abstractmethod
    def _check_shapes(self) -> None:
        """Raise ShapeError where the operators do not go together."""

    @property
    def abilities(self) -> frozenset[str]:
        """Those that every combination has; "periodic" where all operators are."""
        return super().abilities | shared_periodicity(self.operators)

    @property
    def kind(self) -> str:
        """That of the first operator which is no plain image."""
        return shared_kind(self.operators)

    @property
    def task(self) -> str:
        """That of all operators, "" where they differ."""
        return shared_task(self.operators)

    @property
    def is_complex(self) -> bool:
        """Complex where any operator is."""
        return any(op.is_complex for op in self.operators)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sum(Several):
    """The sum x -> A_1 x + A_2 x + ... Raises ShapeError where shapes differ, ConfigError for no operators."""

    def _check_shapes(self) -> None:
        first = self.operators[0]
        for op in self.operators[1:]:
            if (op.in_shape, op.out_shape) != (first.in_shape, first.out_shape):
                raise ShapeError(f"{first} + {op}: expected operators of the same shapes")

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The common shape of the images."""
        return self.operators[0].in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The common shape of the measurements."""
        return self.operators[0].out_shape

    @property
    def slice_ndim(self) -> int:
        """Dimensions that no term mixes."""
        return min(op.slice_ndim for op in self.operators)

    def unit_scale(self, y: Tensor) -> Scaling:
        """That of the first term of the sum's kind; complex sums take it from their own classical image."""
        if self.is_complex:
            return super().unit_scale(y)
        return next(op for op in self.operators if op.kind == self.kind).unit_scale(y)

    def _apply(self, x: Tensor) -> Tensor:
        return sum((op._apply(x) for op in self.operators[1:]), self.operators[0]._apply(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return sum((op._adjoint(y) for op in self.operators[1:]), self.operators[0]._adjoint(y))
