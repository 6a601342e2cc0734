"""Bicubic: plain interpolation, the classical answer to super-resolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from restore.errors import ConfigError
from restore.operators.image.downsample import Downsample
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class Bicubic(Sampler):
    """Enlarge the measurement with Keys' cubic (a = -0.5)."""

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[str] = "0"
    operators: ClassVar[tuple[str, ...]] = ("Downsample",)
    serves: ClassVar[str] = "super-resolution"
    reference: ClassVar[str] = "Keys: cubic convolution interpolation, IEEE ASSP 1981"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for other operators than Downsample."""
        if not isinstance(problem.operator, Downsample):
            raise ConfigError(
                f"bicubic enlarges low-resolution images, not {problem.operator}; use tv or dds"
            )
        yield Step(0, 1, 0.0, problem.operator.interpolate(problem.data.y), 0)
