"""A picture or volume filled from its neighbourhood by a pyramid of means. Called by priors and samplers; pure."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def push_pull(x: Tensor, weight: Tensor) -> Tensor:
    """weight x + (1 - weight) m, m of the weighted means of squares of 2, 4, ... pixels about a pixel, up to all of x.

    Each size is the answer for what the size below says nothing of, and is interpolated between its squares: Gortler,
    Grzeszczuk, Szeliski, Cohen, "The lumigraph", SIGGRAPH 1996, section 3.4.2. x: (N, C, H, W), or (N, C, D, H, W) with
    cubes; weight: (N, 1 or C, ...), above 0 and at most 1.
    """
    if max(x.shape[2:]) == 1:
        return x
    total = _means(weight)
    of_a_square = math.prod(_square(x))
    wider = push_pull(_means(weight * x) / total, (of_a_square * total).clamp(max=1))
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return torch.lerp(F.interpolate(wider, size=x.shape[2:], mode=mode), x, weight)


def _means(x: Tensor) -> Tensor:
    """Over squares of 2 x 2 pixels, or cubes, of what of one lies inside."""
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    return pool(x, _square(x), ceil_mode=True, count_include_pad=False)


def _square(x: Tensor) -> tuple[int, ...]:
    return tuple(min(2, n) for n in x.shape[2:])
