"""Groups of numbers that are all zero or all Gaussian, as interference is in its own basis: the exact denoiser.

Used by `restore.priors.structured`; touches no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.second import Estimate, Seen, StructuredNoise

Transform = Callable[[Tensor], Tensor]


class GroupSparse(StructuredNoise):
    """u = T^H c with T T^H = I; c is zero but for few groups, whose numbers are N(0, std^2), re and im each.

    A group is what shares its place along all but `axes` (the coils of a sample, the lines of a frequency); a share
    `rate` of them is hit, independently. transform, inverse: T and T^H on the last dimensions of u. there: real, 0
    where c can have no number (samples that were not taken), broadcasting to c. Mitchell and Beauchamp's spike and slab
    (JASA 1988), by groups. Raises ConfigError for a rate outside 0..1 or a deviation that is not above 0.
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
                f"structured noise: the rate is {rate:g} and the deviation {std:g}, expected a rate between 0 "
                "and 1 and a deviation above 0"
            )
        self.std, self.rate, self.axes, self.there = std, rate, axes, there
        self.transform, self.inverse = transform, inverse

    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        """E[u0 | u = u0 + sigma n]: a Wiener filter of every group times the probability p that it was hit.

        With t = std^2 + sigma^2, g = std^2/t, d real numbers in a group and e the sum of their squares, p has the log
        odds log(rate/(1 - rate)) + d/2 log(1 - g) + e g/(2 sigma^2). The error's variance, a number c of re or im at a
        time, is sigma^2 p g + p (1 - p) g^2 |c|^2: what it is within a group of numbers together is left out. Of p that
        of `seen` is taken where it is larger: a group that u has lost is free again where the data show it.
        """
        there = self.there.to(u.device, u.real.dtype)
        c = self.transform(u) * there
        gain, p = self._gain(sigma), self._probability(c, sigma)
        between = p * (1 - p) * (gain / sigma) ** 2 * c.abs().square() / (1 + c.is_complex())
        free = p
        if seen is not None:
            shown = self._probability(self.transform(seen.u) * there, seen.sigma)
            free = torch.maximum(p, shown)
        root = (free * gain + between).sqrt() * there
        mean = self.inverse(p * gain * c)
        return Estimate(mean, lambda v: self.inverse(root * self.transform(v)))

    def _probability(self, c: Tensor, sigma: float | Tensor) -> Tensor:
        """p of coefficients c, 1 along `axes`. sigma: a number, or one of each item, broadcasting to c."""
        variance = torch.as_tensor(sigma, device=c.device, dtype=c.real.dtype) ** 2
        total = self.std**2 + variance
        there = self.there.to(c.device, c.real.dtype)
        numbers = there.broadcast_to(c.shape).sum(self.axes, keepdim=True) * (1 + c.is_complex())
        energy = c.abs().square().sum(self.axes, keepdim=True) * (self.std**2 / total / variance)
        odds = (
            math.log(self.rate / (1 - self.rate))
            + (numbers * (variance / total).log() + energy) / 2
        )
        return torch.sigmoid(odds)

    def _gain(self, sigma: float) -> float:
        """g."""
        return self.std**2 / (self.std**2 + sigma**2)
