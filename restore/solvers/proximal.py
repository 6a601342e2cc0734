"""The Gaussian data term of a problem and the two data-consistency steps that samplers take.

May be called by samplers and pipelines. Touches nothing; `DataTerm` computes its backprojection and
its Lipschitz constants once, when first asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import Solution, cg
from restore.linalg.lanczos import largest_eigenvalue
from restore.operators.base import LinearOperator
from restore.solvers.circulant import inverse, response_spectrum

_LANCZOS_STEPS = 30


@dataclass(frozen=True, eq=False)
class DataTerm:
    """f(x) = 1/2 (A x - y)^H Lambda (A x - y), the negative log-likelihood for Gaussian noise.

    y: (*batch, *out_shape). precision: the diagonal of Lambda, None (one), a number, or a real
    tensor that broadcasts to y; 1/std^2 where std is the noise per real channel. Values are
    zero or more. Where it is constant within each measurement the fused normal operator is used.
    Raises ShapeError, ConfigError.
    """

    operator: LinearOperator
    y: Tensor
    precision: Tensor | float | None = None

    def __post_init__(self) -> None:
        shape = self.operator.out_shape
        if tuple(self.y.shape[self.y.ndim - len(shape) :]) != shape or self.y.ndim < len(shape):
            raise ShapeError(
                f"data term of {self.operator}: y is {tuple(self.y.shape)}, "
                f"expected (*batch, {', '.join(map(str, shape))})"
            )
        if isinstance(self.precision, Tensor):
            self._check_precision(self.precision)
        elif self.precision is not None and not self.precision >= 0:
            raise ConfigError(f"data term: precision is {self.precision}, expected zero or more")

    @cached_property
    def rhs(self) -> Tensor:
        """A^H Lambda y. (*batch, *in_shape)."""
        return self.operator.adjoint(self._weighted(self.y))

    @property
    def item_ndim(self) -> int:
        """Trailing dimensions of an image that share one set of scalars."""
        return self.operator.item_ndim

    def normal(self, x: Tensor) -> Tensor:
        """A^H Lambda A x. x: (*batch, *in_shape)."""
        uniform = self._uniform
        if uniform is None:
            return self.operator.adjoint(self._weighted(self.operator(x)))
        out = self.operator.normal(x)
        return out if self.precision is None else out * uniform

    def gradient(self, x: Tensor) -> Tensor:
        """A^H Lambda (A x - y). x: (*batch, *in_shape)."""
        return self.normal(x) - self.rhs

    def residual(self, x: Tensor) -> Tensor:
        """A x - y, unweighted. x: (*batch, *in_shape) -> (*batch, *out_shape)."""
        return self.operator(x) - self.y

    @cached_property
    def lipschitz(self) -> Tensor:
        """Largest eigenvalue of A^H Lambda A, per item, shaped to broadcast over an image."""
        if self._uniform is None:
            # From the backprojection, which lies in the range of A^H Lambda A.
            empty = self.rhs.abs().amax(tuple(range(-self.item_ndim, 0)), keepdim=True) == 0
            start = torch.where(empty, torch.ones_like(self.rhs), self.rhs).detach()
            found = largest_eigenvalue(
                self.normal, start, item_ndim=self.item_ndim, iterations=_LANCZOS_STEPS
            )
            return found.reshape(_item_shape(start, self.item_ndim)).to(start.real.dtype)
        ones = self.rhs.real.new_ones(_item_shape(self.rhs, self.item_ndim))
        return ones * self._uniform * self.operator.norm() ** 2

    @cached_property
    def spectrum(self) -> Tensor | None:
        """Of the circulant matrix that A^H Lambda A is near (`circulant`); None where the operator has none."""
        if "convolves" not in self.operator.abilities or not self.rhs.numel():
            return None
        return response_spectrum(self.normal, self.rhs.detach(), self.item_ndim)

    @cached_property
    def _lambda(self) -> Tensor | float:
        if isinstance(self.precision, Tensor):
            return self.precision.to(self.y.device, self.y.real.dtype)
        return 1.0 if self.precision is None else self.precision

    @cached_property
    def _uniform(self) -> Tensor | float | None:
        """Lambda as a factor on images, or None where it varies within a slice."""
        value, op = self._lambda, self.operator
        if not isinstance(value, Tensor):
            return value
        value = value.reshape(*[1] * (self.y.ndim - value.ndim), *value.shape)
        kept = value.ndim - len(op.out_shape) + op.slice_ndim
        slices_agree = op.in_shape[: op.slice_ndim] == op.out_shape[: op.slice_ndim]
        if not slices_agree or any(size != 1 for size in value.shape[kept:]):
            return None
        return value.reshape(*value.shape[:kept], *[1] * op.item_ndim)

    def _weighted(self, y: Tensor) -> Tensor:
        return y if self.precision is None else y * self._lambda

    def _check_precision(self, precision: Tensor) -> None:
        if precision.is_complex() or not bool((precision >= 0).all()):
            raise ConfigError("data term: precision must be real, zero or more everywhere")
        pairs = zip(reversed(precision.shape), reversed(self.y.shape), strict=False)
        if precision.ndim > self.y.ndim or any(p not in (1, n) for p, n in pairs):
            raise ShapeError(
                f"data term: precision is {tuple(precision.shape)}, which does not broadcast to "
                f"the measurement {tuple(self.y.shape)}"
            )


def data_step(
    term: DataTerm,
    x0: Tensor,
    weight: float | Tensor,
    *,
    iters: int,
    tol: float = 0.0,
    least_step: float = 0.0,
    item_ndim: int | None = None,
    preconditioned: bool = True,
    start: Tensor | None = None,
) -> Solution:
    """Minimise 1/2 ||v - x0||^2 + weight f(v): the proximal point of the data term at x0.

    Solves (I + weight A^H Lambda A) v = x0 + weight A^H Lambda y by conjugate gradients from x0,
    until `tol` or `least_step` (`restore.linalg.conjugate_gradients`) or after `iters` steps.
    x0: (*batch, *in_shape). weight: a number, or one per item (broadcasting to the dimensions
    before the item), zero or more. item_ndim: trailing dimensions with common CG scalars, by
    default those of the operator; the whole volume's rank gives one scalar for a volume.
    preconditioned: by `DataTerm.spectrum` where the operator has one, which changes the number of steps alone.
    start: of the iteration, in the place of x0 (`recycling.Corrections`).
    Noisy data consistency of DDS (Chung et al., ICLR 2024), gamma = weight. Raises ShapeError.
    """
    rank = term.item_ndim if item_ndim is None else item_ndim
    w = per_item(weight, x0, rank)

    def system(v: Tensor) -> Tensor:
        if isinstance(w, Tensor):
            return v + w * term.normal(v)
        return torch.add(v, term.normal(v), alpha=w)

    near = term.spectrum if preconditioned and rank == term.item_ndim else None
    begin = x0 if start is None else start
    return cg(
        system, x0 + w * term.rhs, begin, iters=iters, tol=tol, least_step=least_step, item_ndim=rank,
        precond=None if near is None else inverse(1 + w * near, rank),
    )  # fmt: skip


def krylov_step(
    term: DataTerm, x0: Tensor, *, iters: int, tol: float = 0.0, item_ndim: int | None = None
) -> Solution:
    """Take `iters` CG steps on A^H Lambda A v = A^H Lambda y from x0.

    The result is the best fit to y in x0 + Krylov space; stopping early is the regulariser. Fewer steps where the data
    are explained to rounding before, as of one coil after the first.
    Noiseless data consistency of DDS (Chung et al., ICLR 2024). x0: (*batch, *in_shape).
    """
    rank = term.item_ndim if item_ndim is None else item_ndim
    b = _expanded(term.rhs, x0)
    return cg(term.normal, b, x0, iters=iters, tol=tol, item_ndim=rank, singular=True)


def per_item(value: float | Tensor, x: Tensor, item_ndim: int) -> float | Tensor:
    """Shape a number per item so that it broadcasts over x. Raises ShapeError."""
    if not isinstance(value, Tensor):
        return value
    lead = x.shape[: x.ndim - item_ndim]
    pairs = zip(reversed(value.shape), reversed(lead), strict=False)
    if value.ndim > len(lead) or any(v not in (1, n) for v, n in pairs):
        raise ShapeError(
            f"weights have shape {tuple(value.shape)}, expected one number or one per item, "
            f"broadcasting to {tuple(lead)}"
        )
    return value.reshape(*value.shape, *[1] * item_ndim).to(x.device, x.real.dtype)


def _item_shape(x: Tensor, item_ndim: int) -> tuple[int, ...]:
    return (*x.shape[: x.ndim - item_ndim], *[1] * item_ndim)


def _expanded(rhs: Tensor, x0: Tensor) -> Tensor:
    return rhs if rhs.shape == x0.shape else rhs.expand_as(x0)


def image_scale(rhs: Tensor, item_ndim: int) -> Tensor:
    """Largest magnitude per item (1 where all is zero): the unit of relative weights."""
    largest = rhs.detach().abs().amax(tuple(range(-item_ndim, 0)))
    return torch.where(largest > 0, largest, 1)
