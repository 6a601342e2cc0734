"""Tweedie: one call of the denoiser, the posterior mean where the measurement is the image plus white noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from restore.errors import ConfigError
from restore.operators.diagonal import Identity
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite


@dataclasses.dataclass(frozen=True)
class Tweedie(Sampler):
    """x = D(y, sigma_y): exact for the identity operator, where nothing has a smaller squared error.

    Robbins, "An empirical Bayes approach to statistics", 1956; Efron, "Tweedie's formula and selection
    bias", JASA 2011.
    """

    operators: ClassVar[tuple[str, ...]] = ("Identity",)
    serves: ClassVar[str] = "denoising"
    cost: ClassVar[str] = "1"
    reference: ClassVar[str] = "Efron: Tweedie's formula and selection bias, JASA 2011"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for other operators and for noise that is unknown or not uniform."""
        precision = problem.data.precision
        if not isinstance(problem.operator, Identity):
            raise ConfigError(
                f"tweedie denoises images, it cannot invert {problem.operator}; use dds"
            )
        if prior is None or precision is None or isinstance(precision, Tensor):
            raise ConfigError(
                "tweedie needs a denoising prior and one known noise level; give noise=std"
            )
        sigma = precision**-0.5
        x0 = finite(self, prior(problem.data.y, sigma), 0, 1, sigma)
        yield Step(0, 1, sigma, x0, prior.evaluations)
