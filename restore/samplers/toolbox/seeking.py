"""Seek structured noise of few unknowns by what the picture's prior says of the picture without it, or find none.

Called by `restore.samplers.joint` before its chain; draws from what it is given, touches nothing else.

For z = x + s n and a denoiser of x, -log p(z) is, but for a number that all z share, the integral over t of
||z - E[z | z + t n']||^2 / t^3: Guo, Shamai, Verdu, "Mutual information and minimum mean-square error in Gaussian
channels", IEEE Trans. Inf. Theory 51:1261, 2005, pointwise as in Kong, Brekelmans, Ver Steeg, "Information-theoretic
diffusion", ICLR 2023. With v^2 = s^2 + t^2 that mean is z_t + (t/v)^2 (D(z_t, v) - z_t). A few levels v are drawn for
every step of Adam, each with noise of its own, evenly over log v.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from restore.priors.image_prior import ImagePrior
from restore.priors.sought import Sought
from restore.randomness import Draws
from restore.samplers.toolbox.moments import with_pullback
from restore.samplers.toolbox.optimiser import Adam, TailMean

STEPS = 60
LEVELS = 4
EVIDENCE_LEVELS, EVIDENCE_DRAWS = 8, 4
SURE = 2.0
"""Errors of its mean that are taken off evidence."""
_ABOVE = 1.5
_GOLDEN = (math.sqrt(5) - 1) / 2


class Found(NamedTuple):
    """noise: like the measurements, zero for those that show none. nats: of each, (items,): by how much noise explains
    it better than none; below `odds` it is taken for none."""

    noise: Tensor
    nats: Tensor


def seek(sought: Sought, y: Tensor, noise: float, prior: ImagePrior, draws: Draws) -> Found:
    """What of measurements y (*batch, *measured) with white noise of deviation `noise` is such structured noise.

    Costs STEPS x LEVELS evaluations with gradients, EVIDENCE_LEVELS x 2 EVIDENCE_DRAWS without, and EVIDENCE_LEVELS for
    each of several starts.
    """
    search = _Search(sought, y, noise if sought.noisy else 0.0, prior, draws)
    theta = search.best(search.start())
    zero = torch.zeros_like(y)
    gains = torch.stack([search.gain(zero, sought.field(theta)) for _ in range(EVIDENCE_DRAWS)])
    doubt = SURE * gains.std(0) / EVIDENCE_DRAWS**0.5
    nats = gains.mean(0) - doubt - sought.penalty(theta).reshape(len(gains[0]), -1).sum(-1)
    found = sought.field(theta).reshape(len(nats), -1)
    return Found(torch.where((nats > sought.odds)[:, None], found, 0).reshape(y.shape), nats)


class _Search:
    """One run: measurements, their noise, the prior of their pictures, and draws for it."""

    def __init__(
        self, sought: Sought, y: Tensor, noise: float, prior: ImagePrior, draws: Draws
    ) -> None:
        self.sought, self.y, self.noise, self.prior, self.draws = sought, y, noise, prior, draws
        self.ends = _ends(sought, noise)

    def start(self) -> Tensor:
        """The best of the starts for each measurement."""
        tried = self.sought.starts(self.y)
        if len(tried) == 1:
            return tried[0]
        errors = torch.stack(self._errors([self.sought.field(t) for t in tried]))
        best, items = errors.argmin(0), len(errors[0])
        each = torch.stack([t.reshape(items, -1) for t in tried])
        return each[best, torch.arange(items, device=best.device)].reshape(tried[0].shape)

    def best(self, theta: Tensor) -> Tensor:
        """Where error and penalty together are least: the mean of the last half of the steps of Adam."""
        adam, mean, out = Adam(theta, 0.9, 0.99, 1e-8), TailMean(STEPS // 2), theta
        for i in range(STEPS):
            z = self.sought.picture(self.y - self.sought.field(theta))
            slope = torch.zeros_like(z)
            for sigma in levels(*self.ends, LEVELS, _jitter(i)):
                slope += self._slope(z, sigma) / LEVELS
            g = self.sought.slope(theta) + self.sought.pulled(theta, slope)
            stride = self.sought.stride * min(1.0, 2 * (1 - i / STEPS))
            theta = theta - stride * adam.direction(g)
            out = mean(theta, STEPS - i)
        return out

    def gain(self, before: Tensor, after: Tensor) -> Tensor:
        """By how many nats the pictures without the one noise are likelier than without the other, (items,): a draw."""
        bare, under = self._errors([before, after])
        return bare - under

    def _errors(self, tried: list[Tensor]) -> list[Tensor]:
        """-log p of the pictures without each of these noises, (items,), but for a number that they share."""
        pictures = [self.sought.picture(self.y - u) for u in tried]
        found, ndim = [torch.zeros(()) for _ in tried], len(self.prior.item_shape)
        for sigma in levels(*self.ends, EVIDENCE_LEVELS, 0.5):
            n, weight = self._noise(pictures[0]), self._weight(sigma) / EVIDENCE_LEVELS
            for k, z in enumerate(pictures):
                error = z - self._mean(z, n, sigma, self.prior(self._noised(z, n, sigma), sigma))
                sums = error.square().flatten(z.ndim - ndim).sum(-1).flatten()
                found[k] = found[k] + weight * sums
        return found

    def _slope(self, z: Tensor, sigma: float) -> Tensor:
        """The gradient of -log p for the pictures z, from one level and one draw."""
        n = self._noise(z)
        x0, pull = with_pullback(lambda v: self.prior(v, sigma), self._noised(z, n, sigma))
        error = z - self._mean(z, n, sigma, x0)
        kept = 1 - (self.noise / sigma) ** 2
        return 2 * self._weight(sigma) * kept * (error - pull(error))

    def _noised(self, z: Tensor, n: Tensor, sigma: float) -> Tensor:
        """z and as much noise as the level has beside the pictures' own."""
        return z + (sigma**2 - self.noise**2) ** 0.5 * n

    def _mean(self, z: Tensor, n: Tensor, sigma: float, x0: Tensor) -> Tensor:
        """E[z | z_t], between z_t and what the denoiser says of it."""
        noisy = self._noised(z, n, sigma)
        return noisy + (1 - (self.noise / sigma) ** 2) * (x0 - noisy)

    def _weight(self, sigma: float) -> float:
        """Of a squared error, for a mean over levels that are even over log v: dt / t^3 = v^2 / t^4 d log v."""
        low, high = self.ends
        return math.log(high / low) * sigma**2 / (sigma**2 - self.noise**2) ** 2

    def _noise(self, z: Tensor) -> Tensor:
        return self.draws.normal_like(z, len(self.prior.item_shape))


def search_cost(sought: type[Sought]) -> int:
    """Evaluations, of which LEVELS x STEPS have gradients."""
    starts = sought.start_count if sought.start_count > 1 else 0
    return LEVELS * STEPS + EVIDENCE_LEVELS * (2 * EVIDENCE_DRAWS + starts)


def level_range(sought: type[Sought], noise: float) -> tuple[float, float]:
    """The lowest and the highest level at which the prior is asked, for measurements with such noise."""
    ends = _ends(sought, noise if sought.noisy else 0.0)
    asked = levels(*ends, EVIDENCE_LEVELS, 0.5)
    asked += [v for i in range(STEPS) for v in levels(*ends, LEVELS, _jitter(i))]
    return min(asked), max(asked)


def levels(low: float, high: float, count: int, at: float) -> list[float]:
    """So many levels evenly over log v, `at` (0 to 1) the place of each in its part."""
    return [low * (high / low) ** ((k + at) / count) for k in range(count)]


def _ends(sought: Sought | type[Sought], noise: float) -> tuple[float, float]:
    lowest = max(_ABOVE * noise, sought.lowest)
    return lowest, max(sought.highest, 10 * lowest)


def _jitter(step: int) -> float:
    return _GOLDEN * (step + 1) % 1
