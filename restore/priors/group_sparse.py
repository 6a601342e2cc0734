"""Groups of numbers that are all zero or all Gaussian, as interference is in its own basis: the exact denoiser.

Used by `restore.priors.structured`; touches no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.second import Estimate, StructuredNoise

Transform = Callable[[Tensor], Tensor]


class GroupSparse(StructuredNoise):
    """u = T^H c with T T^H = I; c is zero but for few groups, whose numbers are N(0, std^2), re and im each.

    A group is what shares its place along all but `axes` (the coils of a sample, the lines of a frequency); a share
    `rate` of them is hit, independently. transform, inverse: T and T^H on the last dimensions of u. there: real, 0
    where c can have no number (samples that were not taken), broadcasting to c. The spike-and-slab prior of Mitchell and
    Beauchamp (JASA 1988), by groups. Raises ConfigError for a rate outside 0..1 or a deviation that is not above 0.
    """

    def __init__(
        self,
        std: float,
        rate: float,
        axes: tuple[int, ...],
        there: Tensor,
        *,
        transform: Transform = torch.clone,
        inverse: Transform = torch.clone,
    ) -> None:
        if not (0 < rate < 1 and 0 < std < math.inf):
            raise ConfigError(
                f"structured noise: the rate is {rate:g} and the deviation {std:g}, expected a rate between 0 and 1 and a "
                "deviation above 0"
            )
        self.std, self.rate, self.axes, self.there = std, rate, axes, there
        self.transform, self.inverse = transform, inverse

    def estimate(self, u: Tensor, sigma: float) -> Estimate:
        """E[u0 | u = u0 + sigma n]: a Wiener filter of every group times the probability p that it was hit.

        With t = std^2 + sigma^2, g = std^2/t, d real numbers in a group and e the sum of their squares, p has the log
        odds log(rate/(1 - rate)) + d/2 log(1 - g) + e g/(2 sigma^2). The error's variance, a number c of re or im at a
        time, is sigma^2 p g + p (1 - p) g^2 |c|^2: what it is within a group of numbers together is left out.
        """
        there = self.there.to(u.device, u.real.dtype)
        c = self.transform(u) * there
        gain = self.std**2 / (self.std**2 + sigma**2)
        size = c.abs().square()
        numbers = there.broadcast_to(c.shape).sum(self.axes, keepdim=True) * (1 + c.is_complex())
        energy = size.sum(self.axes, keepdim=True) * gain / sigma**2
        odds = math.log(self.rate / (1 - self.rate)) + (numbers * math.log1p(-gain) + energy) / 2
        p = torch.sigmoid(odds)
        between = p * (1 - p) * (gain / sigma) ** 2 * size / (1 + c.is_complex())
        root = (p * gain + between).sqrt() * there
        return Estimate(self.inverse(p * gain * c), lambda v: self.inverse(root * self.transform(v)))
