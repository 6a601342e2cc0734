"""Products and norms of the items of a batch, and of the measurements behind them.

An item is what belongs together: a slice, a photograph; its dimensions come last. Called by samplers. Pure functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.problem import Problem


def item_norm(x: Tensor, item_ndim: int, *, keepdim: bool = False) -> Tensor:
    """||x|| of each item. keepdim: shaped to broadcast over x."""
    return torch.linalg.vector_norm(x, dim=tuple(range(-item_ndim, 0)), keepdim=keepdim)


def item_dot(a: Tensor, b: Tensor, item_ndim: int) -> Tensor:
    """Re <a, b> of each item."""
    return (a.conj() * b).real.sum(tuple(range(-item_ndim, 0)))


def item_size(x: Tensor, item_ndim: int) -> Tensor:
    """Largest magnitude of each item, 1 where all is zero, shaped to broadcast over x."""
    largest = x.abs().amax(tuple(range(-item_ndim, 0)), keepdim=True)
    return torch.where(largest > 0, largest, 1)


def over_image(value: Tensor, x: Tensor) -> Tensor:
    """A number of each item, shaped to broadcast over images x."""
    return value.reshape(*value.shape, *[1] * (x.ndim - value.ndim))


def residual_norm(problem: Problem, x: Tensor) -> Tensor:
    """||y - A(x)|| of each item, shaped to broadcast over x; 1 where it is zero, as a divisor."""
    r = item_norm(problem.residual(x), problem.operator.measured_ndim)
    return over_image(torch.where(r > 0, r, 1), x)
