"""FBP: filtered back-projection, the analytic inverse of parallel-beam CT."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class FBP(Sampler):
    """Ramp filter (optionally apodised) and back-projection; Kak and Slaney, 1988, chapter 3."""

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    fits_data: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ("ct",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "backprojects"})
    reference: ClassVar[str] = "Kak, Slaney: Principles of computerized tomographic imaging, 1988"

    filter: Literal["ramp", "hann", "shepp-logan", "cosine"] = setting(
        "ramp", "the ramp, or damped by a window"
    )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step."""
        yield Step(0, 1, 0.0, problem.operator.backproject(problem.unit_y, self.filter), 0)
