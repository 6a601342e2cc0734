"""Tweedie: one call of the denoiser, the posterior mean where the measurement is the image plus white noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.levels import place


@dataclasses.dataclass(frozen=True)
class Tweedie(Sampler):
    """x = D(y, sigma_y): exact for the identity operator, where nothing has a smaller squared error.

    Robbins, "An empirical Bayes approach to statistics", 1956; Efron, "Tweedie's formula and selection
    bias", JASA 2011.
    """

    tasks: ClassVar[tuple[str, ...]] = ("denoise",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "identity"})
    reference: ClassVar[str] = "Efron: Tweedie's formula and selection bias, JASA 2011"

    def cost(self, problem: Problem | None = None) -> int:
        """1"""
        return 1

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The noise of the measurement. Raises ConfigError for noise that is unknown or not uniform."""
        levels = _levels_of(problem)
        return min(levels), max(levels)

    @property
    def draws_noise(self) -> bool:
        """None is: the answer is one image."""
        return False

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for noise that is unknown or not uniform."""
        y, levels, k = problem.data.y, _levels_of(problem), problem.item_ndim
        items = y.reshape(problem.items, *y.shape[y.ndim - k :])
        if len(levels) == 1:
            x0 = prior(y, levels[0])
        else:
            x0 = torch.cat([prior(items[i : i + 1], s) for i, s in enumerate(levels)])
        each = max(1, prior.evaluations // len(levels))  # of one image
        yield self.step(place(0, 1, max(levels)), x0.reshape(y.shape), each)


def _levels_of(problem: Problem) -> list[float]:
    """One noise level for all items, or one each. Raises ConfigError."""
    precision = problem.data.precision
    if precision is None:
        raise ConfigError("tweedie finds no noise in an exact measurement; give noise=std")
    if not isinstance(precision, Tensor):
        return [precision**-0.5]
    each = precision.expand(problem.y.shape).reshape(problem.items, -1)
    if not bool((each == each[:, :1]).all()):
        raise ConfigError("tweedie needs white noise: one known level for an image; give noise=std")
    levels: list[float] = each[:, 0].rsqrt().tolist()
    return levels
