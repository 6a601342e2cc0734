"""What samplers of conditional models share: the data step on a bridge's estimate, and first states.

Subclassed by samplers that walk a bridge from the degraded image to the clean one, in the range of intensities that the
model was trained in.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.config import setting
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.base import OperatorTraits, Sampler
from restore.samplers.toolbox.consistency import ProximalStep

TRAINED = "as the network was trained"


@dataclasses.dataclass(frozen=True)
class BridgeSampler(Sampler):
    """Abstract: a sampler of conditional models."""

    prior_kinds: ClassVar[tuple[str, ...]] = ("conditional",)
    fits_data: ClassVar[bool] = False
    takes_start: ClassVar[bool] = True
    components: ClassVar[bool] = False

    n_steps: int = setting(5, "network evaluations", at_least=1)
    data_consistency: bool = setting(True, "pull every estimate of x0 to the measurement")
    prior_std: float = setting(
        0.1, "deviation of the images, in unit intensities: how far an estimate is trusted where the noise is known",
        above=0,
    )  # fmt: skip
    cg_iters: int = setting(
        10, "CG steps of the data step (unknown noise, or no closed form)", at_least=1
    )

    wrap: int = setting(
        16, "pixels of the opposite border that the network is shown beyond each, where the operator is periodic "
        "(circular blur); 0: none, as published", at_least=0,
    )  # fmt: skip

    def wrapped_pixels(self, operator: OperatorTraits) -> int:
        """`wrap` where the operator is known to be periodic."""
        return self.wrap if "periodic" in (operator.abilities or ()) else 0

    def consistency(self, problem: Problem, prior: ConditionalPrior) -> BridgeConsistency | None:
        """The data step of a run, None without."""
        if not self.data_consistency:
            return None
        return BridgeConsistency(problem, prior, prior_std=self.prior_std, cg_iters=self.cg_iters)

    def first(self, y: Tensor, problem: Problem, draws: Draws, c: float) -> Tensor:
        """y + c n, the state at the level where nothing of the image is left."""
        return torch.add(y, draws.normal_like(y, problem.item_ndim), alpha=c)

    def require_real(self, y: Tensor, remedy: str) -> None:
        """Raises ConfigError for complex images, which have no range to clip to. remedy: what to set."""
        if y.is_complex():
            raise ConfigError(
                f"{type(self).__name__}: complex images have no range to clip to; set {remedy}"
            )


class BridgeConsistency:
    """Data consistency of a bridge's clean estimate, in the chain's own range.

    r_t^2 = S^2 c^2 / (S^2 a^2 + c^2), the variance of x0 given x_t for a prior of deviation S (`prior_std`, in unit
    intensities): full trust in the data early, fading with the noise of the chain.
    """

    def __init__(
        self, problem: Problem, prior: ConditionalPrior, *, prior_std: float, cg_iters: int
    ) -> None:
        self.step = ProximalStep(problem, cg_iters=cg_iters)
        self.prior, self.prior_std = prior, prior_std
        self.width = prior.intensity[1] - prior.intensity[0]

    def __call__(self, x0: Tensor, level: Level) -> Tensor:
        """x0: (*batch, *in_shape) in the chain's range."""
        c, s = level.c / self.width, self.prior_std
        r = s * c / (s**2 * level.a**2 + c**2) ** 0.5 if c > 0 else 0.0
        if r == 0 and self.step.weighted:
            return x0
        return self.prior.in_range(self.step(self.prior.to_unit(x0), r**2))
