"""The data step of a sampler whose estimate is trusted to a given width: in closed form where there is one, else CG.

Called by the samplers, with the checks that the conditional ones share; the measurement's own terms are computed once
per run.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from restore.bridges.base import Level
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem
from restore.solvers.exact_step import closed_form
from restore.solvers.proximal import data_step, krylov_step


class ProximalStep:
    """x0 -> argmin_v f(v) + ||v - x0||^2 / (2 r^2), f the noise-weighted data term.

    With unknown noise (or none) the result is x0 moved by `cg_iters` Krylov steps towards the data, whatever r is.
    """

    def __init__(self, problem: Problem, *, cg_iters: int) -> None:
        self.term, self.cg_iters = problem.data, cg_iters
        self.weighted = problem.precision is not None
        self.closed = closed_form(self.term) if self.weighted else None

    def __call__(self, x0: Tensor, r: float) -> Tensor:
        """x0: (*batch, *in_shape) in unit intensities; r: standard deviation of its error, in the same unit."""
        if not self.weighted:
            return krylov_step(self.term, x0, iters=self.cg_iters).x
        if self.closed is not None:
            return self.closed(x0, r**2)
        return data_step(self.term, x0, r**2, iters=self.cg_iters).x


def bridge_prior(
    sampler: str, bridge: str, heads: Collection[str], prior: ConditionalPrior | None
) -> ConditionalPrior:
    """The prior of a conditional sampler, if it was trained for its bridge (or any) with a head that it takes.

    Raises ConfigError.
    """
    if prior is None:
        raise ConfigError(f"{sampler} needs a conditional prior; give prior='natural-restore'")
    model = prior.model
    if model.bridge not in ("", bridge):
        raise ConfigError(
            f"prior '{model.name}' was trained for the bridge '{model.bridge}', not for {sampler}; use the sampler "
            f"{model.bridge}"
        )
    if prior.head not in heads:
        raise ConfigError(
            f"prior '{model.name}' predicts '{prior.head}'; {sampler} takes {', '.join(heads)}"
        )
    return prior


def check_consistency(sampler: str, spread: float, cg_iters: int) -> None:
    """Raises ConfigError for settings of data consistency that mean nothing."""
    if not 0 < spread < float("inf") or cg_iters < 1:
        raise ConfigError(
            f"{sampler}: spread must be positive and finite and cg_iters at least 1, got {spread} and {cg_iters}"
        )


class BridgeConsistency:
    """Data consistency of a bridge's clean estimate, in the chain's own range.

    r_t^2 = S^2 c^2 / (S^2 a^2 + c^2), the variance of x0 given x_t for a prior of deviation S (`spread`, in unit
    intensities): full trust in the data early, fading with the noise of the chain.
    """

    def __init__(
        self, problem: Problem, prior: ConditionalPrior, *, spread: float, cg_iters: int
    ) -> None:
        self.step = ProximalStep(problem, cg_iters=cg_iters)
        self.prior, self.spread = prior, spread
        self.width = prior.intensity[1] - prior.intensity[0]

    def __call__(self, x0: Tensor, level: Level) -> Tensor:
        """x0: (*batch, *in_shape) in the chain's range."""
        c, s = level.c / self.width, self.spread
        r = s * c / (s**2 * level.a**2 + c**2) ** 0.5 if c > 0 else 0.0
        if r == 0 and self.step.weighted:
            return x0
        return self.prior.in_range(self.step(self.prior.to_unit(x0), r))
