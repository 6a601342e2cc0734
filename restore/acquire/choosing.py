"""Which lines to measure next: particles of the posterior, and where they disagree most.

For scripts that measure (`next_measurements`), and for `measuring`, which plays one. Asks the front door for the
particles; touches no file.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from restore.acquire.candidates import Candidates
from restore.acquire.disagreement import ADAPTIVE, squared_distances
from restore.config import check_settings, setting
from restore.errors import ConfigError, DivergenceError
from restore.front_door import solve_problem
from restore.priors.choosing import Given
from restore.problem import Problem

FEW: dict[str, dict[str, Any]] = {"split": {"centre": "none"}, "dds": {}}
"""Samplers of particles, with what each is told: of `split` the draws themselves, not moved to another's mean."""


@dataclasses.dataclass(frozen=True)
class Particles:
    """How the posterior is drawn from. Raises ConfigError for values out of range."""

    count: int = setting(8, "posterior draws that are compared", between=(2, 1000))
    sampler: Literal["split", "dds"] = setting("split", "whose draws; those of dds spread less")
    steps: int = setting(5, "steps of each", at_least=1)
    seed: int = setting(7, "seed of the draws", at_least=0)

    def __post_init__(self) -> None:
        check_settings(self)

    def of(self, problem: Problem, prior: Given) -> Tensor:
        """Draws (count, *batch, *in_shape) in unit intensities. Raises as `restore.solve`."""
        found = solve_problem(
            problem, prior=prior, sampler=self.sampler, samples=self.count, seed=self.seed,
            n_steps=self.steps, **FEW[self.sampler],
        )  # fmt: skip
        if found.samples is None:
            raise ConfigError("one particle has nothing to disagree with; take 2 or more")
        return problem.scaling.to_unit(found.samples)


def next_measurements(
    problem: Problem,
    prior: Given = "auto",
    budget: int = 1,
    *,
    candidates: Candidates | None = None,
    policy: str = "ads",
    particles: Particles | None = None,
) -> tuple[int, ...]:
    """The `budget` lines to measure next, the most wanted first.

    problem: what was measured so far. prior: as for `restore.solve`. candidates: what could be; by default the columns
    of k-space that the mask leaves out. One choice for all items of the problem. policy: "ads" or "variance"
    (`disagreement`). Several lines are those of the largest score now: neighbours often say the same, so one at a time
    is the better, and dearer. Costs `particles.count` runs of `particles.steps` evaluations.
    With a Gaussian prior, exact draws and many of them, "variance" takes the line of the largest posterior predictive
    variance, and so does "ads" for lines of equal shape of covariance. Raises ConfigError where fewer lines are open,
    or for an unknown policy, DivergenceError, and what `restore.solve` raises.
    """
    if policy not in ADAPTIVE:
        raise ConfigError(f"policy is {policy!r}, expected one of: {', '.join(ADAPTIVE)}")
    known = Candidates.of_problem(problem) if candidates is None else candidates
    if not 1 <= budget <= len(known.open):
        raise ConfigError(
            f"budget is {budget}, expected 1 to {len(known.open)}, the lines not yet measured"
        )
    if tuple(known.whole.in_shape) != tuple(problem.operator.in_shape):
        raise ConfigError(
            f"candidates measure images {tuple(known.whole.in_shape)}, the problem has "
            f"{tuple(problem.operator.in_shape)}"
        )
    drawn = (particles or Particles()).of(problem, prior)
    with torch.no_grad():
        apart = squared_distances(known.predicted(drawn, problem.items))
    scores = ADAPTIVE[policy](apart, _noise_variance(problem))[list(known.open)]
    if not bool(torch.isfinite(scores).all()):
        raise DivergenceError("the particles' predictions are not finite; take more steps")
    best = torch.argsort(scores, descending=True, stable=True)[:budget]
    return tuple(known.open[i] for i in best.tolist())


def _noise_variance(problem: Problem) -> float:
    """Of a real number in unit intensities: the median over those measured, 0 where there is no noise or none known."""
    found = problem.precision
    if found is None:
        return 0.0
    weights = torch.as_tensor(found, dtype=torch.float64)
    weights = weights[weights > 0]
    return float(1 / weights.median()) if weights.numel() else 0.0
