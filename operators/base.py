"""The contract of every linear forward operator: two methods to write, everything else derived.

May be imported by any layer; imports only torch and the package's errors.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from restore.errors import ShapeError


@dataclasses.dataclass(frozen=True, eq=False)
class LinearOperator(ABC):
    """A linear map x -> A x between tensors, immutable and free of noise, solvers and configuration.

    A subclass is a frozen dataclass that gives `in_shape` and `out_shape` (without batch dimensions) and writes
    `_apply` and `_adjoint`; both receive tensors of shape (*batch, *in_shape) or (*batch, *out_shape) with any
    number of leading batch dimensions, and must not change them. `_normal` (A^H A fused) and `_pinv` are optional.

    `slice_ndim` counts the leading dimensions of `in_shape` along which the operator is block diagonal, such as the
    slices of an MRI stack with a coil map each: solvers keep one set of scalars per slice.
    """

    @property
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one image, without batch dimensions."""

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one measurement, without batch dimensions."""

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    def _normal(self, x: Tensor) -> Tensor:
        return self._adjoint(self._apply(x))

    def _pinv(self, y: Tensor) -> Tensor:
        """Regularised least squares by a few CG steps; a subclass with a better answer overrides this."""
        from restore.operators.iterations import least_squares

        return least_squares(self, y)

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions of `in_shape` that do not mix."""
        return 0

    @property
    def item_ndim(self) -> int:
        """Trailing dimensions of an image that belong together (one slice, one photograph)."""
        return len(self.in_shape) - self.slice_ndim

    @property
    def is_complex(self) -> bool:
        """Whether images are complex (MRI) or real."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        """Real precision of the stored tensors (float32 where there are none)."""
        for tensor in self._tensors():
            if tensor.is_complex() or tensor.is_floating_point():
                return tensor.real.dtype if tensor.is_complex() else tensor.dtype
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Device of the stored tensors (CPU where there are none)."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    def __call__(self, x: Tensor) -> Tensor:
        """A x. x: (*batch, *in_shape) -> (*batch, *out_shape). Raises ShapeError."""
        self._check(x, self.in_shape, "input")
        return _differentiable(self._apply, self._adjoint, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y. y: (*batch, *out_shape) -> (*batch, *in_shape). Raises ShapeError."""
        self._check(y, self.out_shape, "measurement")
        return _differentiable(self._adjoint, self._apply, y)

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x, fused where the operator knows how. x: (*batch, *in_shape)."""
        self._check(x, self.in_shape, "input")
        return _differentiable(self._normal, self._normal, x)

    def pinv(self, y: Tensor) -> Tensor:
        """A stable approximate inverse of y (zero-filled/SENSE image, FBP, least squares), for starting points."""
        self._check(y, self.out_shape, "measurement")
        return self._pinv(y)

    @property
    def H(self) -> LinearOperator:
        """The adjoint as an operator of its own; A.H.H is A."""
        from restore.operators.algebra import Adjoint

        return Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        """Composition: (A @ B)(x) = A(B(x))."""
        from restore.operators.algebra import Compose

        return Compose(self, other)

    def norm(self) -> float:
        """Largest singular value (power iteration from a fixed start, cached)."""
        return self._norm

    @cached_property
    def _norm(self) -> float:
        from restore.operators.iterations import power_iteration

        return power_iteration(self)

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy on another device or in another real precision (complex tensors follow)."""
        return dataclasses.replace(
            self,
            **{
                f.name: _move(getattr(self, f.name), target)
                for f in dataclasses.fields(self)
                if f.init
            },
        )

    def _tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, LinearOperator):
                found.extend(value._tensors())
        return found

    def _check(self, x: Tensor, shape: tuple[int, ...], what: str) -> None:
        if x.ndim < len(shape) or tuple(x.shape[x.ndim - len(shape) :]) != shape:
            wanted = ", ".join(["*batch", *map(str, shape)])
            raise ShapeError(f"{self}: {what} has shape {tuple(x.shape)}, expected ({wanted})")

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, s)) for s in (self.in_shape, self.out_shape)]
        return f"{type(self).__name__}({sizes[0]} -> {sizes[1]})"


class _Linear(torch.autograd.Function):
    """Backward of a linear map is its adjoint, and the backward of that is the map again."""

    @staticmethod
    def forward(ctx: Any, apply: Any, adjoint: Any, x: Tensor) -> Tensor:
        # Not under the name `apply`: autograd calls ctx.apply itself to run the backward.
        ctx.map, ctx.adjoint, ctx.real = apply, adjoint, not x.is_complex()
        return apply(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        g = _differentiable(ctx.adjoint, ctx.map, grads[0])
        return None, None, g.real if ctx.real and g.is_complex() else g


def _differentiable(apply: Any, adjoint: Any, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        return _Linear.apply(apply, adjoint, x)
    return apply(x)


def _move(value: Any, target: torch.device | str | torch.dtype) -> Any:
    if isinstance(value, LinearOperator):
        return value.to(target)
    if not isinstance(value, Tensor):
        return value
    if isinstance(target, torch.dtype):
        if value.is_complex():
            return value.to(torch.complex128 if target == torch.float64 else torch.complex64)
        return value.to(target) if value.is_floating_point() else value
    return value.to(target)
