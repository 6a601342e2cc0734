"""Tweedie: one call of the denoiser, the posterior mean where the measurement is the image plus white noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
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
        sigma = _noise_of(problem)
        return sigma, sigma

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for noise that is unknown or not uniform."""
        sigma = _noise_of(problem)
        x0 = prior(problem.data.y, sigma)
        yield self.step(place(0, 1, sigma), x0, prior.evaluations)


def _noise_of(problem: Problem) -> float:
    precision = problem.data.precision
    if precision is None or isinstance(precision, Tensor):
        raise ConfigError("tweedie needs one known noise level; give noise=std")
    return precision**-0.5
