"""Conjugate gradients for Hermitian positive semidefinite maps, with scalars per item of a batch.

May be called by every layer above operators. Touches nothing but its own buffers: `b`, `x0` and
whatever `apply` returns are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import prod

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.rows import as_rows, from_rows, power_of_two, row_norm

LinearMap = Callable[[Tensor], Tensor]

# Asking "is anybody still running?" is free on the CPU and stalls an accelerator's queue.
_FREE_LOOK = frozenset({"cpu"})
_CHECK_EVERY = 8
_INF = float("inf")
_ROUNDED = 16
"""Roundings: a residual of so many tells nothing (those of an FFT of 512 x 512 samples are three)."""
_AT_ONCE = 2**23
"""Products of numbers that an inner product holds at once."""


class Result(IntEnum):
    """Why an item stopped, from good to bad: the largest of several is the worst."""

    CONVERGED = (
        0  # residual at or below the tolerance or exactly zero, or a step too short to go on
    )
    MAX_ITERATIONS = 1  # all steps that were asked for were made
    BREAKDOWN = 2  # a direction of zero or negative curvature: x is the last good iterate
    NONFINITE = 3  # inf or nan in the input or in what the map returned


_RUNNING = int(Result.MAX_ITERATIONS)  # what becomes of an item that nothing stops


@dataclass(frozen=True, eq=False)
class Solution:
    """What a linear solve found.

    x has the shape of the right-hand side; the others have one entry per item:
    result (int8): values of `Result`. iterations (int64): updates of x that were made.
    residual: ||b - A x|| / ||b|| by the recurrence; inf where b = 0 and x does not solve.
    """

    x: Tensor
    result: Tensor
    iterations: Tensor
    residual: Tensor

    @property
    def worst(self) -> Result:
        """The worst result of all items, CONVERGED where there are none."""
        return Result(int(self.result.max())) if self.result.numel() else Result.CONVERGED


def cg(
    apply: LinearMap,
    b: Tensor,
    x0: Tensor | None = None,
    *,
    iters: int,
    tol: float = 0.0,
    least_step: float = 0.0,
    item_ndim: int,
    precond: LinearMap | None = None,
    singular: bool = False,
) -> Solution:
    """Solve A x = b for Hermitian positive semidefinite A by (preconditioned) conjugate gradients.

    apply: x -> A x, block diagonal over items. b: (*batch, *item), real or complex; an item is
    the last `item_ndim` dimensions. x0: start of the same shape (zero if absent).
    The inner product is Re <a, b>.
    tol: an item stops once ||r|| <= tol ||b||; with 0 exactly `iters` steps are made unless r
    becomes exactly 0. least_step: an item stops after a step d whose length in the norm of A, sqrt(d^H A d), is at most
    this: what the next steps would add is about as much or less (Strakos and Tichy, "On error estimation in the
    conjugate gradient method", ETNA 2002, with a delay of one step); 0 for no such rule.
    precond: r -> M r, Hermitian positive definite approximate inverse of A.
    singular: A may see nothing of some x. An item then stops once its residual is but rounding of b and of A x0: what
    is left lies mostly where A sees nothing, and steps there have no end.

    An item that has stopped keeps its x to the last bit, whatever the rest of the batch does.
    Scalars are formed from the residual divided by a power of two near its size, so that tiny and
    huge units neither underflow nor overflow. Not differentiable. Hestenes and Stiefel 1952.
    Raises ConfigError, ShapeError.
    """
    _check_arguments(b, x0, iters, tol, least_step, item_ndim)
    with torch.no_grad():
        run = _Run(apply, b, x0, tol, least_step, item_ndim, precond, singular)
        del b, x0  # not held where nobody else does
        for k in range(iters):
            if (run.free or k % _CHECK_EVERY == 0) and run.finished():
                break
            run.step()
        return run.solution()


class _Run:
    """Buffers and scalars of one solve; buffers are real, (items, numbers), scalars (items, 1)."""

    def __init__(
        self,
        apply: LinearMap,
        b: Tensor,
        x0: Tensor | None,
        tol: float,
        least_step: float,
        item_ndim: int,
        precond: LinearMap | None,
        singular: bool,
    ) -> None:
        self.free = b.device.type in _FREE_LOOK
        self.lead = b.shape[: b.ndim - item_ndim]
        self.items = prod(self.lead)
        self.apply = _checked(apply, b, "apply")
        self.precond = None if precond is None else _checked(precond, b, "precond")
        self.x_shaped = _own(torch.zeros_like(b) if x0 is None else x0)
        self.x = as_rows(self.x_shaped, self.items)

        residual = as_rows(b if x0 is None else b - self.apply(x0), self.items)
        self.unit = power_of_two(residual) / 2  # just below the largest entry
        self.r = residual / self.unit
        self.r_shaped = from_rows(self.r, b)
        self.scratch = self.r.new_empty(
            self.items, min(self.r.shape[1], _AT_ONCE // max(1, self.items) + 1)
        )
        self.norm = row_norm(as_rows(b, self.items))
        self.limit = tol * self.norm / self.unit
        if singular:
            rounded = _ROUNDED * torch.finfo(b.dtype).eps
            first = torch.maximum(self.norm, row_norm(residual))
            self.limit = torch.maximum(self.limit, rounded * first / self.unit)
        self.least_step = least_step / self.unit if least_step else None
        self.floor = torch.finfo(b.dtype).eps * self.norm / self.unit

        z = self._conditioned()
        self.p = z.clone()
        self.p_shaped = from_rows(self.p, b)
        self.rr = self._dot(self.r, self.r)
        self.rho = self.rr if precond is None else self._dot(self.r, z)
        self.code = self._judge(torch.full_like(self.rr, _RUNNING, dtype=torch.int8))
        self._silence(self.code == _RUNNING)
        self.done = torch.zeros_like(self.code, dtype=torch.int64)

    def finished(self) -> bool:
        return not bool((self.code == _RUNNING).any())

    def step(self) -> None:
        q = as_rows(self.apply(self.p_shaped), self.items)
        curvature = self._dot(self.p, q)
        self.code = self._judge_direction(curvature)
        active = self.code == _RUNNING
        alpha = torch.where(active, self.rho, 0) / torch.where(active, curvature, 1)
        self.x.addcmul_(alpha * self.unit, self.p)
        self.r.addcmul_(alpha, q, value=-1)
        self.done += active
        self.rr = torch.where(active, self._dot(self.r, self.r), self.rr)
        self.code = self._judge(self.code)
        if self.least_step is not None:
            short = (alpha * self.rho).sqrt() <= self.least_step
            self.code = torch.where(
                active & short & (self.code == _RUNNING), int(Result.CONVERGED), self.code
            )
        active = self.code == _RUNNING
        z = self._conditioned()
        rho = self.rr if self.precond is None else self._dot(self.r, z)
        beta = torch.where(active, rho, 0) / torch.where(active, self.rho, 1)
        torch.addcmul(z, beta, self.p, out=self.p)
        self._silence(active)
        self.rho = torch.where(active, rho, self.rho)

    def solution(self) -> Solution:
        residual, zero = self.rr.sqrt() * self.unit, self.norm == 0
        residual = residual / torch.where(zero, 1, self.norm)
        residual = torch.where(zero & (residual > 0), torch.inf, residual)
        return Solution(
            x=self.x_shaped,
            result=self.code.reshape(self.lead),
            iterations=self.done.reshape(self.lead),
            residual=residual.reshape(self.lead),
        )

    def _silence(self, active: Tensor) -> None:
        """Zero the directions of stopped items: their nan must not meet x, even times zero."""
        if not (self.free and bool(active.all())):
            self.p.masked_fill_(~active, 0)

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        size = self.scratch.shape[1]
        if a.shape[1] <= size:
            return torch.mul(a, b, out=self.scratch).sum(1, keepdim=True)
        total = torch.zeros_like(self.unit)
        for one, other in zip(a.split(size, 1), b.split(size, 1), strict=True):
            products = torch.mul(one, other, out=self.scratch[:, : one.shape[1]])
            total += products.sum(1, keepdim=True)
        return total

    def _conditioned(self) -> Tensor:
        return self.r if self.precond is None else as_rows(self.precond(self.r_shaped), self.items)

    def _judge(self, code: Tensor) -> Tensor:
        """Codes once a residual is known."""
        running = code == _RUNNING
        if self.free and bool((running & (self.rr.sqrt() > self.limit) & (self.rr < _INF)).all()):
            return code  # as nearly always
        code = torch.where(running & ~torch.isfinite(self.rr), int(Result.NONFINITE), code)
        return torch.where(running & (self.rr.sqrt() <= self.limit), int(Result.CONVERGED), code)

    def _judge_direction(self, curvature: Tensor) -> Tensor:
        """Codes before a step, which needs positive curvature and a finite positive length.

        Curvature that underflows when the residual is beyond the precision of b is no breakdown.
        """
        running = self.code == _RUNNING
        if self.free:
            length = self.rho / curvature
            if bool((running & (curvature > 0) & (length > 0) & (length < _INF)).all()):
                return self.code  # as nearly always
        finite = torch.isfinite(self.rho) & torch.isfinite(curvature)
        positive = curvature > 0
        length = torch.where(positive, self.rho, 0) / torch.where(positive, curvature, 1)
        bad = ~((length > 0) & torch.isfinite(length))
        solved = self.rr.sqrt() <= self.floor
        code = torch.where(running & bad, int(Result.BREAKDOWN), self.code)
        code = torch.where(running & bad & solved, int(Result.CONVERGED), code)
        return torch.where(running & ~finite, int(Result.NONFINITE), code)


def _check_arguments(
    b: Tensor, x0: Tensor | None, iters: int, tol: float, least_step: float, item_ndim: int
) -> None:
    shape = tuple(b.shape)
    if not 1 <= item_ndim <= b.ndim:
        raise ShapeError(
            f"cg: item_ndim is {item_ndim}, expected 1 to {b.ndim} for a right-hand side {shape}"
        )
    if x0 is not None and (x0.shape != b.shape or x0.dtype != b.dtype):
        raise ShapeError(
            f"cg: x0 is {tuple(x0.shape)} {x0.dtype}, "
            f"expected {shape} {b.dtype} like the right-hand side"
        )
    if iters < 0 or not tol >= 0 or not least_step >= 0:
        raise ConfigError(
            f"cg: iters={iters}, tol={tol}, least_step={least_step}; expected all to be zero or more"
        )
    if not (b.is_floating_point() or b.is_complex()):
        raise ConfigError(f"cg: right-hand side has dtype {b.dtype}; make it real or complex first")


def _checked(apply: LinearMap, b: Tensor, what: str) -> LinearMap:
    shape, dtype = b.shape, b.dtype

    def checked(x: Tensor) -> Tensor:
        out = apply(x)
        if out.shape != shape or out.dtype != dtype:
            raise ShapeError(
                f"cg: {what} returned {tuple(out.shape)} {out.dtype}, "
                f"expected {tuple(shape)} {dtype} as it was given"
            )
        return out

    return checked


def _own(x: Tensor) -> Tensor:
    return x.detach().resolve_conj().clone(memory_format=torch.contiguous_format)
