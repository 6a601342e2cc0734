"""ResShift: a few steps from the degraded image to the clean one, by a network that is shown both.

Yue, Wang, Loy, "ResShift: efficient diffusion model for image super-resolution by residual shifting", NeurIPS 2023; the
deterministic chain after Wang and others, "SinSR: diffusion-based image super-resolution in a single step",
CVPR 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.bridges.base import clean_estimate
from restore.bridges.resshift import HEADS, InputScaling, Respacing, ResShiftSchedule
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite
from restore.samplers.consistency import BridgeConsistency, bridge_prior, check_consistency

_HEADS = (
    *HEADS,
    "residual+noise",
    "residual+sum",
    "x0+noise",
    "x0+sum",
)  # of two tensors the first is used


@dataclasses.dataclass(frozen=True)
class ResShift(Sampler):
    """Residual shifting.

    n_steps: network calls. trained_steps: T of the schedule that the network was trained on (None: n_steps, for
    networks that serve any level); where n_steps is less, `respacing` chooses the levels. kappa, power, min_noise,
    etas_end: the schedule, in the range [-1, 1] of the chain (`restore.bridges.resshift`). input_scaling: the factor
    that a published network expects on x_t. stochastic: draw from the posterior of each step (the paper), else keep the
    first noise throughout (SinSR). clip: clamp the estimate to [-1, 1] as published pixel models do. data_consistency:
    pull the estimate to the measurement, trusting it to the deviation `spread` (unit intensities, known
    noise) or by `cg_iters` CG steps (unknown noise, or operators without a closed form).

    Differs from the paper:
    - sqrt(eta) begins at min_noise/kappa and ends at 0.99, as in the released code; the paper states other ends.
      The start is y + kappa sqrt(eta_T) n, as in the code: the paper's has variance kappa^2.
    - "sound" respacing keeps the last level; the released one loses it, and the start is then biased by 31 % of
      x0 - y (15 levels to 5).
    - no clamp on the result, none on estimates unless `clip`; no draw after the last estimate, where the code
      draws noise that it does not use.
    - data consistency is ours. It is taken after the clamp, on the estimate, so that the state keeps its level.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("conditional",)
    intensity: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    serves: ClassVar[str] = "what its model was trained on"
    reference: ClassVar[str] = "Yue, Wang, Loy: ResShift, NeurIPS 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # benchmarks/samplers.py on two photographs: with the bundled network, which is small, more
        # steps trade PSNR for texture, up to 0.6 dB at ten
        "tuned": {"n_steps": 2, "stochastic": True},
        "published": {
            "n_steps": 4, "trained_steps": 4, "kappa": 2.0, "power": 0.3, "min_noise": 0.2, "etas_end": 0.99,
            "input_scaling": "latent", "stochastic": True, "data_consistency": False,
        },
        "published-15": {
            "n_steps": 15, "trained_steps": 15, "kappa": 2.0, "power": 0.3, "min_noise": 0.04, "etas_end": 0.99,
            "input_scaling": "latent", "stochastic": True, "data_consistency": False,
        },
    }  # fmt: skip

    n_steps: int = 4
    trained_steps: int | None = None  # None: n_steps
    kappa: float = 2.0
    power: float = 0.3
    min_noise: float = 0.2
    etas_end: float = 0.99
    respacing: Respacing = "sound"
    input_scaling: InputScaling = "none"
    stochastic: bool = False
    clip: bool = False
    data_consistency: bool = True
    spread: float = 0.1
    cg_iters: int = 10

    def __post_init__(self) -> None:
        check_consistency("ResShift", self.spread, self.cg_iters)
        _ = self.schedule  # refuses what makes no schedule

    @cached_property
    def schedule(self) -> ResShiftSchedule:
        """The levels of a run, ascending; the chain walks them downward. Raises ConfigError."""
        trained = self.n_steps if self.trained_steps is None else self.trained_steps
        return ResShiftSchedule(
            trained, self.kappa, self.power, self.min_noise, self.etas_end, self.n_steps,
            self.respacing, self.input_scaling,
        )  # fmt: skip

    def steps(
        self, problem: Problem, prior: ConditionalPrior | None, draws: Draws
    ) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate after clamp and data consistency, sigma in unit intensities.

        Raises ConfigError (no model, one of another bridge or head, `clip` of complex images), DivergenceError.
        """
        prior = bridge_prior("ResShift", "resshift", _HEADS, prior)
        y = prior.in_range(problem.observed)
        if self.clip and y.is_complex():
            raise ConfigError("ResShift: complex images have no range to clip to; set clip=False")
        consistent = self._consistency(problem, prior)
        x = torch.add(y, draws.normal_like(y, problem.item_ndim), alpha=self.schedule.level(-1).c)
        width = prior.intensity[1] - prior.intensity[0]
        for k in reversed(range(self.n_steps)):
            i, level = self.n_steps - 1 - k, self.schedule.level(k)
            x0 = clean_estimate(prior.head, prior(x, level, y), x, y, level)
            if self.clip:
                x0 = x0.clamp(*self.intensity)
            if consistent is not None:
                x0 = consistent(x0, level)
            sigma = level.sigma / width
            finite(self, x0, i, self.n_steps, sigma)
            yield Step(i, self.n_steps, sigma, prior.to_unit(x0), prior.evaluations)
            if k > 0:
                x = self._next(x, x0, y, k, draws, problem.item_ndim)

    def _next(self, x: Tensor, x0: Tensor, y: Tensor, k: int, draws: Draws, rank: int) -> Tensor:
        """x_{t-1} from x_t and the estimate."""
        if not self.stochastic:
            return self.schedule.deterministic(x, x0, y, k)
        mean = self.schedule.posterior_mean(x, x0, k)
        return mean.add_(draws.normal_like(x, rank), alpha=float(self.schedule.variance[k]) ** 0.5)

    def _consistency(self, problem: Problem, prior: ConditionalPrior) -> BridgeConsistency | None:
        if not self.data_consistency:
            return None
        return BridgeConsistency(problem, prior, spread=self.spread, cg_iters=self.cg_iters)
