"""The contract of non-linear forward models: a map and its vector-Jacobian product.

May be imported by any layer; imports only torch and the package's errors.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from restore.errors import ShapeError
from restore.operators.base import _move


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NonlinearOperator(ABC):
    """A differentiable map x -> f(x) between tensors, immutable and free of noise and solvers.

    A subclass is a frozen dataclass that gives `in_shape` and `out_shape` (without batch
    dimensions) and writes `_apply` out of torch operations; `_vjp` may be overridden by a closed
    form.
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

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._apply(x), x, v)
        return gradient

    def __call__(self, x: Tensor) -> Tensor:
        """f(x). x: (*batch, *in_shape) -> (*batch, *out_shape). Raises ShapeError."""
        self._check(x, self.in_shape, "input")
        return self._apply(x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """J(x)^H v, the gradient of Re<v, f(x)> at x. v: (*batch, *out_shape) -> (*batch,
        *in_shape). Raises ShapeError.
        """
        self._check(x, self.in_shape, "input")
        self._check(v, self.out_shape, "cotangent")
        return self._vjp(x, v)

    def pinv(self, y: Tensor) -> Tensor:
        """A rough inverse, as a starting point. By default the measurement itself, where it has the
        image's shape. Raises ShapeError.
        """
        self._check(y, self.out_shape, "measurement")
        return self._pinv(y)

    def _pinv(self, y: Tensor) -> Tensor:
        if self.in_shape != self.out_shape:
            raise ShapeError(f"{self}: no rough inverse is known; give the sampler a start")
        return y

    @property
    def is_complex(self) -> bool:
        """Whether images are complex."""
        return False

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy on another device or in another real precision."""
        moved = {
            f.name: _move(getattr(self, f.name), target) for f in dataclasses.fields(self) if f.init
        }
        return dataclasses.replace(self, **moved)

    def _check(self, x: Tensor, shape: tuple[int, ...], what: str) -> None:
        if x.ndim < len(shape) or tuple(x.shape[x.ndim - len(shape) :]) != shape:
            wanted = ", ".join(["*batch", *map(str, shape)])
            raise ShapeError(f"{self}: {what} has shape {tuple(x.shape)}, expected ({wanted})")

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, s)) for s in (self.in_shape, self.out_shape)]
        return f"{type(self).__name__}({sizes[0]} -> {sizes[1]})"
