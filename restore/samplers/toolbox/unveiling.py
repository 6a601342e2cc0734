"""Seek the veil over a picture by what the picture's prior says of the picture without it, or find that there is none.

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
from restore.priors.veil import Veil
from restore.randomness import Draws
from restore.samplers.toolbox.moments import with_pullback
from restore.samplers.toolbox.optimiser import Adam, TailMean

STEPS = 60
LEVELS = 4
RATE = 0.15
"""Of Adam, falling to nothing over the second half; unknowns have deviation one."""
STARTS = (-2.0, -1.0, 0.0, 1.0)
"""Strengths that are tried first, of the veil without patches: deviations of the logarithm."""
EVIDENCE_LEVELS, EVIDENCE_DRAWS = 8, 4
SURE = 2.0
"""Errors of its mean by which evidence must exceed what is asked."""
ODDS = 2.0
"""Nats by which a veil must explain a picture better than none, its own prior counted. Of 30 phantoms none without
haze reached 0.7, and none with haze of 0.1 stayed below 3.6."""
SEARCH_COST = STEPS * LEVELS + (len(STARTS) + 2 * EVIDENCE_DRAWS) * EVIDENCE_LEVELS
"""Evaluations, the first part of them with gradients."""
_LOWEST, _HIGHEST, _ABOVE = 0.03, 3.0, 1.5
_GOLDEN = (math.sqrt(5) - 1) / 2


class Found(NamedTuple):
    """veil: like the pictures, zero for those that show none. nats: of each picture, (items,): by how much a veil
    explains it better than none; below ODDS it is taken for none."""

    veil: Tensor
    nats: Tensor


def level_range(noise: float) -> tuple[float, float]:
    """The lowest and the highest level at which the prior is asked in pictures with noise of such a deviation."""
    ends = _ends(noise)
    asked = levels(*ends, EVIDENCE_LEVELS, 0.5)
    asked += [v for i in range(STEPS) for v in levels(*ends, LEVELS, _jitter(i))]
    return min(asked), max(asked)


def levels(low: float, high: float, count: int, at: float) -> list[float]:
    """So many levels evenly over log v, `at` (0 to 1) the place of each in its part."""
    return [low * (high / low) ** ((k + at) / count) for k in range(count)]


def _ends(noise: float) -> tuple[float, float]:
    lowest = max(_ABOVE * noise, _LOWEST)
    return lowest, max(_HIGHEST, 10 * lowest)


def _jitter(step: int) -> float:
    return _GOLDEN * (step + 1) % 1


def unveil(veil: Veil, y: Tensor, noise: float, prior: ImagePrior, draws: Draws) -> Found:
    """The veil over each plane of pictures y (*batch, *item_shape) with white noise of deviation `noise`.

    Costs STEPS x LEVELS evaluations with gradients, (len(STARTS) + 2 EVIDENCE_DRAWS) x EVIDENCE_LEVELS without.
    """
    search = _Search(veil, y, noise, prior, draws)
    theta = search.best(search.start())
    found = veil.field(theta)
    gains = torch.stack([search.gain(found) for _ in range(EVIDENCE_DRAWS)])
    doubt = SURE * gains.std(0) / EVIDENCE_DRAWS**0.5
    nats = gains.mean(0) - doubt - 0.5 * theta.square().sum((1, 2))
    there = (nats > ODDS).reshape(-1, 1, 1, 1)
    return Found(torch.where(there, found, 0).reshape(y.shape), nats)


class _Search:
    """One run: pictures as (items, planes, H, W), their noise, their prior, and draws for it."""

    def __init__(
        self, veil: Veil, y: Tensor, noise: float, prior: ImagePrior, draws: Draws
    ) -> None:
        self.veil, self.noise, self.prior, self.draws = veil, noise, prior, draws
        self.given, self.planes = y.shape, math.prod(prior.item_shape[:-2])
        self.y = y.reshape(-1, self.planes, *y.shape[-2:])
        self.ends = _ends(noise)

    def start(self) -> Tensor:
        """The best of STARTS for each picture, (items, planes, unknowns)."""
        tried = self.y.new_zeros(len(STARTS), len(self.y), self.planes, self.veil.unknowns)
        tried[..., 0] = tried.new_tensor(STARTS)[:, None, None]
        errors = torch.stack(self._errors([self.veil.field(t) for t in tried]))
        return tried[errors.argmin(0), torch.arange(len(self.y))]

    def best(self, theta: Tensor) -> Tensor:
        """Where error and prior together are least: the mean of the last half of the steps of Adam."""
        adam, mean, out = Adam(theta, 0.9, 0.99, 1e-8), TailMean(STEPS // 2), theta
        for i in range(STEPS):
            veils = self.veil.field(theta)
            slope = torch.zeros_like(veils)
            for sigma in levels(*self.ends, LEVELS, _jitter(i)):
                slope += self._slope(veils, sigma) / LEVELS
            g = theta + self.veil.pulled(veils, slope)
            theta = theta - RATE * min(1.0, 2 * (1 - i / STEPS)) * adam.direction(g)
            out = mean(theta, STEPS - i)
        return out

    def gain(self, veils: Tensor) -> Tensor:
        """By how many nats the pictures without these veils are likelier than as they are, (items,): one draw."""
        bare, under = self._errors([torch.zeros_like(veils), veils])
        return bare - under

    def _errors(self, tried: list[Tensor]) -> list[Tensor]:
        """-log p of the pictures without each of these veils, (items,), but for a number that they share."""
        found = [self.y.new_zeros(len(self.y)) for _ in tried]
        for sigma in levels(*self.ends, EVIDENCE_LEVELS, 0.5):
            n, weight = self._noise(), self._weight(sigma) / EVIDENCE_LEVELS
            for total, veils in zip(found, tried, strict=True):
                z = self.y - veils
                error = z - self._mean(
                    z, n, sigma, self._denoised(self._noised(z, n, sigma), sigma)
                )
                total += weight * error.square().sum((1, 2, 3))
        return found

    def _slope(self, veils: Tensor, sigma: float) -> Tensor:
        """The gradient of -log p for the veils, from one level and one draw."""
        z, n = self.y - veils, self._noise()
        x0, pull = with_pullback(lambda v: self._denoised(v, sigma), self._noised(z, n, sigma))
        error = z - self._mean(z, n, sigma, x0)
        kept = 1 - (self.noise / sigma) ** 2
        return -2 * self._weight(sigma) * kept * (error - pull(error))

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

    def _denoised(self, z: Tensor, sigma: float) -> Tensor:
        return self.prior(z.reshape(self.given), sigma).reshape(z.shape)

    def _noise(self) -> Tensor:
        return self.draws.normal_like(self.y, 3)
