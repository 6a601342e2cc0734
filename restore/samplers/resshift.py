"""ResShift: a few steps from the degraded image to the clean one, by a network that is shown both.

Yue, Wang, Loy, "ResShift: efficient diffusion model for image super-resolution by residual shifting", NeurIPS 2023;
the deterministic chain after Wang and others, "SinSR: diffusion-based image super-resolution in a single step",
CVPR 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from restore.bridges.base import HEADS, clean_estimate
from restore.bridges.resshift import InputScaling, Respacing, ResShiftSchedule
from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.bridge import TRAINED, BridgeSampler
from restore.samplers.toolbox.levels import place


@dataclasses.dataclass(frozen=True)
class ResShift(BridgeSampler):
    """Residual shifting.

    From y + kappa sqrt(eta_T) n, at each level with the estimate x0: a draw from the posterior q(x_{t-1} | x_t, x0)
    (the paper), or, without `stochastic`, the step that keeps the first noise throughout (SinSR). The schedule
    (`restore.bridges.resshift`) runs in the chain's range [-1, 1].

    Differs from the paper:
    - sqrt(eta) begins at min_noise/kappa and ends at 0.99, as in the released code; the paper states other ends.
      The start is y + kappa sqrt(eta_T) n, as in the code: the paper's has variance kappa^2.
    - "sound" respacing keeps the last level; the released one loses it, and the start is then biased by 31 % of
      x0 - y (15 levels to 5).
    - no clamp on the result, none on estimates unless `clip`; no draw after the last estimate, where the code
      draws noise that it does not use.
    - of a periodic operator the network is shown what lies beyond each border (`wrap`): 0.9 dB on circular blur.
    - data consistency is ours. It is taken after the clamp, on the estimate, so that the state keeps its level.
    """

    bridge: ClassVar[str] = "resshift"
    heads: ClassVar[tuple[str, ...]] = tuple(h for h in HEADS if h != "velocity")
    intensity: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    reference: ClassVar[str] = "Yue, Wang, Loy: ResShift, NeurIPS 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The last call is at sigma = 0.03 (0.1 as published): 0.1 to 0.3 dB on eight crops of the two photographs of
        # tuning. With the bundled network, which is small, more steps trade PSNR for texture, up to 0.6 dB at ten.
        # prior_std: as `rddm`
        "tuned": {"n_steps": 2, "stochastic": True, "min_noise": 0.06, "prior_std": 0.03},
        "published": {
            "n_steps": 4, "trained_steps": 4, "kappa": 2.0, "power": 0.3, "min_noise": 0.2, "etas_end": 0.99,
            "input_scaling": "latent", "stochastic": True, "data_consistency": False, "wrap": 0,
        },
        "published-15": {
            "n_steps": 15, "trained_steps": 15, "kappa": 2.0, "power": 0.3, "min_noise": 0.04, "etas_end": 0.99,
            "input_scaling": "latent", "stochastic": True, "data_consistency": False, "wrap": 0,
        },
    }  # fmt: skip

    n_steps: int = shared(BridgeSampler, "n_steps", 4)
    trained_steps: int | None = setting(
        None, f"levels of the schedule, {TRAINED}; none: n_steps (networks that serve any level)", at_least=1
    )  # fmt: skip
    kappa: float = shared(ResShiftSchedule, "kappa")
    power: float = shared(ResShiftSchedule, "power")
    min_noise: float = shared(ResShiftSchedule, "min_noise")
    etas_end: float = shared(ResShiftSchedule, "etas_end")
    respacing: Respacing = shared(ResShiftSchedule, "respacing")
    input_scaling: InputScaling = shared(ResShiftSchedule, "input_scaling")
    stochastic: bool = setting(
        False, "draw from the posterior of each step, else keep the first noise"
    )
    clip: bool = setting(False, "clamp estimates to [-1, 1] as published pixel models do")

    def _check_together(self) -> None:
        _ = self.schedule  # refuses what makes no schedule

    @cached_property
    def schedule(self) -> ResShiftSchedule:
        """The levels of a run, ascending; the chain walks them downward. Raises ConfigError."""
        trained = self.n_steps if self.trained_steps is None else self.trained_steps
        return ResShiftSchedule(
            trained, self.kappa, self.power, self.min_noise, self.etas_end, self.n_steps,
            self.respacing, self.input_scaling,
        )  # fmt: skip

    def steps(self, problem: Problem, prior: ConditionalPrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate after clamp and data consistency, sigma in unit intensities.

        Raises ConfigError (`clip` of complex images or codes), DivergenceError.
        """
        y = prior.degraded(problem.observed, problem.y)
        if self.clip:
            self.require_real(y, "clip=False")
            if prior.model.coded:
                raise ConfigError("ResShift: codes have no range to clip to; set clip=False")
        consistent = self.consistency(problem, prior)
        x = self.first(y, problem, draws, self.schedule.level(-1).c)
        width = prior.intensity[1] - prior.intensity[0]
        for k in reversed(range(self.n_steps)):
            level = self.schedule.level(k)
            x0 = clean_estimate(prior.head, prior(x, level, y), x, y, level)
            x0 = x0.clamp(*self.intensity) if self.clip else x0
            x0 = x0 if consistent is None else consistent(x0, level)
            here = place(self.n_steps - 1 - k, self.n_steps, level.sigma / width)
            yield self.step(here, prior.to_unit(x0), prior.evaluations)
            if k > 0 and self.stochastic:
                x = self.schedule.posterior_mean(x, x0, k)
                std = float(self.schedule.variance[k]) ** 0.5
                x = x.add_(draws.normal_like(x, problem.item_ndim), alpha=std)
            elif k > 0:
                x = self.schedule.deterministic(x, x0, y, k)
