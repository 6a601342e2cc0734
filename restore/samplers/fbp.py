"""FBP: filtered back-projection, the analytic inverse of parallel-beam CT."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

from restore.errors import ConfigError
from restore.operators.ct.filtering import fbp
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class FBP(Sampler):
    """Ramp filter (optionally apodised) and back-projection; Kak and Slaney, 1988, chapter 3."""

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[str] = "0"
    operators: ClassVar[tuple[str, ...]] = ("ParallelBeamCT",)
    serves: ClassVar[str] = "parallel-beam CT"
    reference: ClassVar[str] = "Kak, Slaney: Principles of computerized tomographic imaging, 1988"

    filter: Literal["ramp", "hann", "shepp-logan", "cosine"] = "ramp"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for other operators than parallel-beam CT."""
        if not isinstance(problem.operator, ParallelBeamCT):
            raise ConfigError(
                f"fbp inverts sinograms, not {problem.operator}; use cgsense, wavelet or tv"
            )
        yield Step(0, 1, 0.0, fbp(problem.data.y, problem.operator.geometry, self.filter), 0)
