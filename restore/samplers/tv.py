"""TV: total-variation regularised least squares by ADMM, a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.solvers.admm import admm_tv_steps


@dataclasses.dataclass(frozen=True)
class TV(Sampler):
    """min 1/2 ||A x - y||_Lambda^2 + weight * max|A^H Lambda y| TV(x), isotropic TV in the slice.

    Rudin, Osher, Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 1992. The weight has no
    unit. nonnegative: images without negative values (CT attenuation).
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[str] = "0"
    reference: ClassVar[str] = "Rudin, Osher, Fatemi: nonlinear total variation, Physica D 1992"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned MultiCoilMRI": {"weight": 1e-3},
        "tuned Identity": {
            "weight": 0.05
        },  # for noise of a tenth of the range; goes with the noise
        "tuned ParallelBeamCT": {"weight": 2e-4, "nonnegative": True},
    }
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"weight": (1e-4, 3e-4, 1e-3, 3e-3)}

    n_steps: int = 60
    weight: float = 5e-4
    cg_iters: int = 5
    nonnegative: bool = False

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.cg_iters < 1 or self.weight < 0:
            raise ConfigError("TV: n_steps and cg_iters must be at least 1, weight zero or more")

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per ADMM iteration."""
        iterates = admm_tv_steps(
            problem.data,
            self.weight,
            iters=self.n_steps,
            cg_iters=self.cg_iters,
            nonnegative=self.nonnegative,
        )
        for i, x in enumerate(iterates):
            yield Step(i, self.n_steps, 0.0, x, 0)
