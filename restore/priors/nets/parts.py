"""Small parts that several published networks share: embeddings of time, attention over positions.

Everything is computed in the precision of what is given. Used by the networks of this folder.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def timestep_embedding(t: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of t at `width // 2` frequencies from 1 down to nearly 1/period: (N,) -> (N, width).

    An odd width ends in zeros. Vaswani and others, 2017, as Nichol and Dhariwal, 2021, lay it out.
    """
    half = width // 2
    steps = torch.arange(half, dtype=t.dtype, device=t.device) / half
    phase = t[:, None] * torch.exp(-math.log(period) * steps)[None]
    return F.pad(torch.cat([phase.cos(), phase.sin()], dim=1), (0, width % 2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q^T k / sqrt(c)) v for q, k, v (N, c, T): (N, c, T)."""
    q, k, v = (part.transpose(1, 2)[:, None] for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)


def halved(x: Tensor) -> Tensor:
    """Means over 2 x 2 pixels."""
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """Every pixel twice in both directions."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
