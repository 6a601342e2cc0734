"""The pointwise operators: identity and multiplication by a weight.

Called by anybody who combines operators; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ShapeError
from restore.linalg.singular import SVD
from restore.operators.base import LinearOperator, SameShape
from restore.operators.contract import check_stored


def _no_tensor() -> Tensor:
    return torch.empty(0)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Identity(SameShape, LinearOperator):
    """The map x -> x on images of `shape`; `complex_` says which numbers it works on.

    `like` is an empty tensor that only carries precision and device. `slices` becomes `slice_ndim`.
    """

    task = "denoise"

    shape: tuple[int, ...]
    complex_: bool = False
    slices: int = 0
    like: Tensor = dataclasses.field(default_factory=_no_tensor)

    @classmethod
    def example(cls, generator: torch.Generator) -> Identity:
        """A tiny instance for tests."""
        return cls((3, 4))

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions that do not mix."""
        return self.slices

    @property
    def is_complex(self) -> bool:
        """As given."""
        return self.complex_

    @property
    def abilities(self) -> frozenset[str]:
        """With "identity"."""
        return super().abilities | {"identity"}

    @property
    def H(self) -> LinearOperator:
        """The operator itself."""
        return self

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        return pointwise_svd(torch.ones(()), like)

    def _apply(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _normal(self, x: Tensor) -> Tensor:
        return x.clone()

    def _pinv(self, y: Tensor) -> Tensor:
        return y.clone()


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagonal(SameShape, LinearOperator):
    """Multiply images of `shape` by `weight` (real or complex, broadcastable to `shape`): noise
    weights, masks, phases.

    `slices` becomes `slice_ndim`, so that a product with an operator on slices keeps its
    independence. Raises ShapeError where the weight does not broadcast to `shape`.
    """

    weight: Tensor
    shape: tuple[int, ...]
    slices: int = 0

    def __post_init__(self) -> None:
        check_stored("Diagonal", "weight", self.weight)
        check_broadcast("Diagonal", "weight", self.weight, tuple(self.shape))

    @classmethod
    def example(cls, generator: torch.Generator) -> Diagonal:
        """A tiny instance for tests."""
        return cls(torch.randn(5, generator=generator, dtype=torch.complex64), (3, 5))

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions that do not mix."""
        return self.slices

    def project(self, y: Tensor) -> Tensor:
        """y where the weight is not zero."""
        return torch.where(self.weight == 0, 0, self._measured(y))

    @property
    def is_complex(self) -> bool:
        """Whether the weight is complex."""
        return self.weight.is_complex()

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        return pointwise_svd(self.weight, like)

    def _apply(self, x: Tensor) -> Tensor:
        return x * self.weight

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.weight.conj()

    def _normal(self, x: Tensor) -> Tensor:
        return x * (self.weight * self.weight.conj()).real

    def _pinv(self, y: Tensor) -> Tensor:
        # The reciprocal is not conj(w)/|w|^2, whose square overflows and underflows earlier than w
        # does.
        zero = self.weight == 0
        safe = torch.where(zero, torch.ones_like(self.weight), self.weight)
        return torch.where(zero, torch.zeros_like(safe), 1 / safe) * y


def pointwise_svd(weight: Tensor, like: Tensor) -> SVD:
    """Of the product with a weight: its magnitude, its phase belonging to U; in the precision and place of `like`."""
    real = like.dtype.to_real()
    turn = torch.sgn(weight).to(like.device, real.to_complex() if weight.is_complex() else real)
    back = turn.conj().resolve_conj()
    return SVD(
        weight.abs().to(like.device, real), _same, _same, lambda y: y * back, lambda z: z * turn
    )


def _same(x: Tensor) -> Tensor:
    return x


def check_broadcast(operator: str, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless `tensor` broadcasts to exactly `shape`."""
    sizes = tuple(tensor.shape)
    fits = len(sizes) <= len(shape) and all(
        a in (1, b) for a, b in zip(reversed(sizes), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{operator}: {what} has shape {sizes}, expected one that broadcasts to {shape}"
        )
