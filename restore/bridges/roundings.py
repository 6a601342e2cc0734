"""Single precision computed in double: schedules as released code has them, the same on every processor.

Released code computes its schedules in float32. What exp, log, cos and pow answer there, and in which order sums run,
differs from one vector kernel to the next, and the differences grow where digits cancel. A schedule here is computed in
float64 and rounded to float32 at the places that are named, one correct rounding each. Called by schedules.
"""

from __future__ import annotations

import torch
from torch import Tensor


def single(x: Tensor | float) -> Tensor:
    """x rounded to float32, as float64 of the same shape."""
    return torch.as_tensor(x, dtype=torch.float64).float().double()


def single_linspace(start: float, end: float, count: int) -> Tensor:
    """What torch.linspace gives in float32 with fused steps: (count,) float64.

    The step is rounded; the first half counts from `start`, the second back from `end`, one rounding an entry. torch's
    own result depends on the width of the vectors: without them one in ten entries is another.
    """
    first, last = single(start), single(end)
    step = single(single(last - first) / max(count - 1, 1))
    k = torch.arange(count, dtype=torch.float64)
    return single(
        torch.where(k < max(count // 2, 1), first + k * step, last - (count - 1 - k) * step)
    )
