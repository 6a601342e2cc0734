"""What linear forward operators promise beyond the contract of all: adjoint, norm, decomposition, exact data step.

Called by `restore.operators.base`, which adds arithmetic to it, and by operators' own `_pinv`. Imports only linear
algebra on functions, the contract of all operators and torch.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.linalg.differentiable import linear
from restore.linalg.lanczos import largest_eigenvalue
from restore.linalg.singular import SVD, ProximalPoint, matrix_svd
from restore.operators.contract import Operator, raised

DENSE_ENTRIES = 2**21  # of a matrix that is decomposed as it is: a second or two


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinearContract(Operator):
    """A linear map x -> A x, see `Operator`; abstract. Operators derive from `LinearOperator`, which adds arithmetic.

    A subclass writes `_apply` and `_adjoint`; the latter receives (*batch, *out_shape). `_normal` (A^H A fused),
    `_pinv`, `_svd` and `proximal_point` are optional: where they are not written they follow from these two.

    `slice_ndim` counts the leading dimensions of `in_shape` along which the operator is block diagonal, such as the
    slices of an MRI stack with a coil map each: solvers keep one set of scalars per slice.
    """

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    def _normal(self, x: Tensor) -> Tensor:
        return self._adjoint(self._apply(x))

    def _pinv(self, y: Tensor) -> Tensor:
        """Regularised least squares by a few CG steps; a subclass with a better answer overrides this."""
        return least_squares(self, y)

    def _svd(self, like: Tensor) -> SVD | None:
        """A decomposition that the operator knows by what it is, at any size; None where there is none."""
        return None

    @property
    def _has_svd(self) -> bool:
        """Whether `_svd` gives one; cheap."""
        return False

    @property
    def abilities(self) -> frozenset[str]:
        """ "linear", and "svd" where there is a decomposition; a subclass adds its own."""
        small = math.prod(self.in_shape) * math.prod(self.out_shape) <= DENSE_ENTRIES
        return frozenset({"linear", "svd"} if small or self._has_svd else {"linear"})

    def __call__(self, x: Tensor) -> Tensor:
        """A x. x: (*batch, *in_shape) -> (*batch, *out_shape). Raises ShapeError, ConfigError."""
        return linear(self._apply, self._adjoint, self._image(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y. y: (*batch, *out_shape) -> (*batch, *in_shape). Raises ShapeError, ConfigError."""
        return linear(self._adjoint, self._apply, self._measured(y))

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x, fused where the operator knows how. x: (*batch, *in_shape)."""
        return linear(self._normal, self._normal, self._image(x))

    def gridded(self, y: Tensor) -> Tensor:
        """The image that a measurement shows by itself: A^H y, with the density of samples where they lie unevenly.

        y: (*batch, *out_shape) -> (*batch, *in_shape). Raises ShapeError, ConfigError.
        """
        return self.adjoint(y)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """A^H v, wherever x is: see `Operator.vjp`."""
        return self.adjoint(v)

    def svd(self, like: Tensor) -> SVD | None:
        """A = U S V^H in the precision and on the device of `like`; None where that would take too long.

        Known for many operators by what they are, and by the matrix for those whose matrix is small (DENSE_ENTRIES).
        Images of photographic operators (Blur, Downsample) are real.
        """
        if "svd" not in self.abilities:
            return None
        own = self._svd(like)
        return (
            own if own is not None else matrix_svd(dense(self), self.in_shape, self.out_shape, like)
        )

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """(x0, weight) -> argmin_v 1/2 ||v - x0||^2 + weight precision/2 ||A v - y||^2, exactly and without
        iterations.

        What depends on y alone is computed once, here. None where the operator knows no decomposition of its own: a
        small matrix is decomposed for `svd` alone, since a solver is quicker. y: (*batch, *out_shape).
        """
        own = self._svd(y) if self._has_svd and y.is_complex() == self.is_complex else None
        return None if own is None else own.proximal_point(y, precision)

    def norm(self) -> float:
        """Largest singular value (Lanczos from a fixed start, cached)."""
        return self._norm

    @cached_property
    def _norm(self) -> float:
        with torch.inference_mode(False), torch.no_grad():
            start = torch.randn(
                self.in_shape, generator=torch.Generator().manual_seed(0), dtype=self._number
            )
            largest = largest_eigenvalue(
                self._normal, start.to(self.device), item_ndim=len(self.in_shape)
            )
        return math.sqrt(float(largest))

    def _measured(self, y: Tensor, what: str = "measurement") -> Tensor:
        return raised(self._checked(y, self.out_shape, what), self._number)


def least_squares(
    op: LinearContract, y: Tensor, *, iterations: int = 20, damping: float = 0.0
) -> Tensor:
    """argmin |A x - y|^2 + damping |x|^2 by conjugate gradients on the normal equations, from zero.

    y: (*batch, *op.out_shape) -> (*batch, *op.in_shape). Every item of the batch, and every slice along `slice_ndim`,
    has scalars of its own, so a batch gives what its items give alone, and scaling y scales the answer. Stopping
    early is the regularisation where `damping` is zero.
    """
    return normal_solution(op, op._adjoint(y), iterations=iterations, damping=damping)


def normal_solution(
    op: LinearContract, right: Tensor, *, iterations: int, damping: float = 0.0
) -> Tensor:
    """`least_squares` of a measurement of which A^H y is there, so that the measurement need not be held meanwhile."""
    enough = 4 * torch.finfo(right.dtype).eps  # a residual below it is rounding of the right side

    def system(x: Tensor) -> Tensor:
        return torch.add(op._normal(x), x, alpha=damping) if damping else op._normal(x)

    return cg(system, right, iters=iterations, tol=enough, item_ndim=op.item_ndim).x


def dense(op: LinearContract) -> Tensor:
    """The matrix of an operator, (measurement entries, image entries), column by column."""
    n = math.prod(op.in_shape)
    eye = torch.eye(n, dtype=op._number, device=op.device).reshape(n, *op.in_shape)
    return op._apply(eye).reshape(n, -1).mT
