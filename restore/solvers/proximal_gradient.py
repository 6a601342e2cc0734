"""Accelerated proximal gradients with adaptive restart, for any smooth term and any proximal map.

May be called by solvers and pipelines. Touches nothing; the proximal map may hold a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from restore.errors import ConfigError


def fista_steps(
    gradient: Callable[[Tensor], Tensor],
    prox: Callable[[Tensor], Tensor],
    x0: Tensor,
    step: float | Tensor,
    iters: int,
    *,
    item_ndim: int | None = None,
) -> Iterator[Tensor]:
    """Iterates of FISTA for min f(x) + g(x), one after each step.

    gradient: x -> grad f(x). prox: v -> argmin_u 1/2 ||u - v||^2 + step g(u). x0: (*batch, *item),
    real or complex. step: at most 1 / Lipschitz constant of the gradient, a number or a tensor
    that broadcasts to x0. The momentum of an item (the last `item_ndim` dimensions, all by default)
    is dropped whenever it points uphill. Beck and Teboulle 2009, algorithm FISTA with constant
    step; O'Donoghue and Candes 2015, gradient scheme. Raises ConfigError.
    """
    if iters < 0:
        raise ConfigError(f"fista: iters is {iters}, expected zero or more")
    rank = x0.ndim if item_ndim is None else item_ndim
    dims = tuple(range(-rank, 0))
    x, y = x0, x0
    t = x0.real.new_ones([*x0.shape[: x0.ndim - rank], *[1] * rank])
    for _ in range(iters):
        new = prox(y - step * gradient(y))
        move = new - x
        uphill = _inner(y - new, move, dims) > 0
        t = torch.where(uphill, 1.0, t)
        t_new = (1 + (1 + 4 * t**2).sqrt()) / 2
        y = new + ((t - 1) / t_new) * move
        x, t = new, t_new
        yield x


def _inner(a: Tensor, b: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Re <a, b> per item."""
    product = a.conj() * b if a.is_complex() else a * b
    return product.real.sum(dims, keepdim=True)
