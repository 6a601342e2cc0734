"""CG-SENSE: least squares with a small Tikhonov term, by conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from restore.config import setting
from restore.linalg.conjugate_gradients import cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class CGSense(Sampler):
    """min ||A x - y||^2 + weight ||A||^2 ||x||^2 with n_steps CG iterations.

    Pruessmann, Weiger, Boernert, Boesiger, "Advances in sensitivity encoding with arbitrary k-space trajectories",
    MRM 2001.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = (
        "Pruessmann and others: sensitivity encoding with arbitrary trajectories, MRM 2001"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"weight": (1e-4, 1e-3, 1e-2, 1e-1)}

    n_steps: int = setting(30, "CG iterations", at_least=1)
    weight: float = setting(3e-3, "of ||x||^2, in units of ||A||^2", at_least=0)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step: the whole solve."""
        term = problem.unweighted
        damping = self.weight * problem.linear.norm() ** 2
        solution = cg(
            lambda v: term.normal(v) + damping * v,
            term.rhs,
            iters=self.n_steps,
            item_ndim=problem.item_ndim,
            singular=not damping,
        )
        yield Step(0, 1, 0.0, solution.x, 0, {"cg": int(solution.worst)})
