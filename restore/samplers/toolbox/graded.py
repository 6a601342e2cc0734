"""A denoiser for noise whose level varies smoothly over an image, from one that is asked at a single level.

Called by samplers of denoising that count their levels in the noise of the measurement. Answers at a few levels of a
ladder are joined pixel by pixel: a denoiser looks at a neighbourhood, in which the level is nearly the same.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem

RUNG = 1.5
"""The ratio of neighbouring levels, at most."""

MOST_RUNGS = 8
"""Of the ladder; levels that span more than 1.5^7 = 17 are cut off at the lower end."""

ONE_LEVEL = 1.1
"""Levels within this ratio are one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Graded:
    """A prior asked at `ratios` of a level, and the weight of every answer at every pixel, (rungs, *noise's shape)."""

    prior: ImagePrior
    ratios: tuple[float, ...]
    weights: Tensor

    @classmethod
    def of(cls, prior: ImagePrior, problem: Problem) -> ImagePrior | Graded:
        """For the noise of a problem: the prior itself where that has one level.

        The level that it is asked at stands for the root of one over the mean precision. Raises ConfigError where the
        level varies and the measurement is not the image itself.
        """
        precision = problem.precision
        if not isinstance(precision, Tensor) or not precision.numel():
            return prior
        relative = (
            (precision / precision[precision > 0].mean())
            .clamp(min=RUNG ** (-2 * MOST_RUNGS))
            .rsqrt()
        )
        low, high = float(relative.min()), float(relative.max())
        if high <= ONE_LEVEL * low:
            return prior
        if "identity" not in problem.operator.abilities:
            raise ConfigError(
                f"{problem.operator}: noise of several levels is taken out of images alone"
            )
        low = max(low, high / RUNG ** (MOST_RUNGS - 1))
        count = 1 + math.ceil(math.log(high / low) / math.log(RUNG) - 1e-6)
        at = torch.log(relative / low).clamp(min=0) / math.log(high / low) * (count - 1)
        rungs = torch.arange(count, device=at.device).reshape(-1, *[1] * at.ndim)
        ratios = tuple(low * (high / low) ** (k / (count - 1)) for k in range(count))
        return cls(prior, ratios, (1 - (at - rungs).abs()).clamp(min=0))

    @property
    def planes(self) -> tuple[int, ...]:
        """Of the prior."""
        return self.prior.planes

    @property
    def evaluations(self) -> int:
        """Of the prior: one a rung."""
        return self.prior.evaluations

    def __call__(self, x: Tensor, sigma: float, *, turn: int = 0) -> Tensor:
        """E[x0 | x] for noise of sigma times the relative level of each pixel; arguments as of `ImagePrior`."""
        total = torch.zeros_like(x)
        for ratio, weight in zip(self.ratios, self.weights, strict=True):
            total += weight * self.prior(x, sigma * ratio, turn=turn)
        return total


def of_one_level(problem: Problem) -> Problem:
    """The problem with noise of its mean precision everywhere: data and prior are weighed alike at every pixel."""
    if problem.noise is None:
        return problem
    precision = torch.as_tensor(problem.noise.precision(problem.y))
    return dataclasses.replace(
        problem, noise=Gaussian(float(precision[precision > 0].mean()) ** -0.5)
    )
