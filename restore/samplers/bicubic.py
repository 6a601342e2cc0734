"""Bicubic: plain interpolation, the classical answer to super-resolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class Bicubic(Sampler):
    """Enlarge the measurement with Keys' cubic (a = -0.5)."""

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    fits_data: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("superres",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "interpolates"})
    reference: ClassVar[str] = "Keys: cubic convolution interpolation, IEEE ASSP 1981"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step."""
        yield Step(0, 1, 0.0, problem.operator.interpolate(problem.unit_y), 0)
