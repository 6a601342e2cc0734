"""Weights of particles: effective size, systematic resampling, and picking of what was resampled.

Called by samplers that walk several particles of each item, which lie along the first dimension: (K, *items). Pure
functions; random numbers are handed in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def shares(log_weights: Tensor) -> Tensor:
    """Weights that sum to one over the particles. log_weights: (K, *items), up to a constant of each item."""
    return torch.softmax(log_weights, dim=0)


def effective_size(log_weights: Tensor) -> Tensor:
    """1 / sum of squared shares, 1..K, of each item (Kong, Liu, Wong, "Sequential imputations", JASA 1994)."""
    return 1 / shares(log_weights).square().sum(0)


def uniform(normal: Tensor) -> Tensor:
    """Standard normal numbers as uniform ones in [0, 1): an item's own generator makes the former alone."""
    below_one = 1 - torch.finfo(torch.float64).eps
    return torch.special.ndtr(normal.double()).clamp(max=below_one)


def systematic(log_weights: Tensor, u: Tensor, count: int | None = None) -> Tensor:
    """Ancestors (count, *items) of new particles: those where the summed shares pass (j + u)/count, j = 0, 1, ...

    A particle of share w has count w descendants up to one, and exactly so on average (Kitagawa, "Monte Carlo filter
    and smoother", JCGS 1996). u: (*items) in [0, 1). count: K by default; 1: a single draw.
    """
    size = log_weights.shape[0]
    count = size if count is None else count
    summed = shares(log_weights.double()).cumsum(0).reshape(size, -1).mT.contiguous()
    offsets = torch.arange(count, dtype=torch.float64, device=summed.device)
    points = (offsets + u.to(summed).reshape(-1, 1)) / count
    # By rounding the last sum falls short of one and the last point reaches it: it stays below, where weight is.
    points = torch.minimum(
        points, torch.nextafter(summed[:, -1:], torch.zeros_like(summed[:, -1:]))
    )
    found = torch.searchsorted(summed, points, right=True)
    return found.mT.reshape(count, *log_weights.shape[1:])


def picked(x: Tensor, ancestors: Tensor) -> Tensor:
    """The particles of those numbers. x: (K, *items, ...); ancestors: (count, *items). Returns (count, *items, ...)."""
    extra = x.ndim - ancestors.ndim
    index = ancestors.to(x.device).reshape(*ancestors.shape, *[1] * extra)
    return torch.gather(x, 0, index.expand(*ancestors.shape, *x.shape[x.ndim - extra :]))


def log_normal_ratio(d: Tensor, n: Tensor, v: float, item_ndim: int) -> Tensor:
    """log N(x; m, v I) - log N(x; m + d, v I) at x = m + d + sqrt(v) n, of each item; re and im of variance v each."""
    dims = tuple(range(-item_ndim, 0))
    product = (d.conj() * n).real.sum(dims)
    return -(d.abs().square().sum(dims) + 2 * math.sqrt(v) * product) / (2 * v)
