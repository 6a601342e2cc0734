"""IR-SDE's own samplers: Euler-Maruyama, the ODE by Euler, and the posterior of each step.

Luo, Gustafsson, Zhao, Sjölund, Schön, "Image restoration with mean-reverting stochastic differential equations", ICML
2023; the posterior rule after their "Refusion", CVPRW 2023, and DA-CLIP. The slow baselines of the sampler `mrs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.bridges.base import HEADS, clean_estimate, implied_noise
from restore.bridges.irsde import Convention, IRSDESchedule, Roundings, Theta, noise_estimate
from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.bridge import BridgeSampler
from restore.samplers.toolbox.levels import place

_RELEASED: dict[str, Any] = {"n_steps": 100, "roundings": "float32", "data_consistency": False, "wrap": 0}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class IRSDE(BridgeSampler):
    """Mean-reverting diffusion, step by step from y + s_inf n to the clean image.

    rule "sde": x <- mean - g sqrt(dt) z, and "ode": the mean alone, are Euler steps of the reverse equations, which
    need n_steps = trained_steps; "posterior" draws from q(x_s | x_t, x0) and takes any stride. The schedule
    (`restore.bridges.irsde`) runs in the chain's range [0, 1].

    Differs from the paper:
    - fewer steps than T have the coefficients of their stride. Published comparisons at few steps kept those of one
      unit of time, so that only n_steps/T of the way was gone.
    - x0 is taken from any kind of network; the paper's predicts the noise.
    - coefficients in float64; the float32 ones of the released code (roundings) move the last two states of the
      posterior rule by 5e-5.
    - of a periodic operator the network is shown what lies beyond each border (`wrap`).
    - data consistency is ours. It acts on the estimate of x0, and noise and state follow from the corrected one.
    - no clip; rule "sde" adds noise on its last step as the released code does, and the result keeps it.
    """

    bridge: ClassVar[str] = "mrs"
    heads: ClassVar[tuple[str, ...]] = HEADS
    reference: ClassVar[str] = "Luo and others: IR-SDE, ICML 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # Twenty steps leave much of the noise of training in the result, two little; less noise (0.02) gains 0.4 dB
        # with the bundled network, and published ones refuse it. prior_std: as `rddm`
        "tuned": {"n_steps": 2, "prior_std": 0.03},
        # The released settings by task: deraining, deblurring, shadows; super-resolution and inpainting; Refusion
        "published": {**_RELEASED, "rule": "sde", "s_inf": 10 / 255},
        "published-superres": {**_RELEASED, "rule": "sde", "s_inf": 30 / 255},
        "published-refusion": {**_RELEASED, "rule": "posterior", "s_inf": 50 / 255},
    }

    n_steps: int = shared(BridgeSampler, "n_steps", 20)
    rule: Literal["posterior", "sde", "ode"] = setting("posterior", "the step")
    trained_steps: int = shared(IRSDESchedule, "length")
    theta: Theta = shared(IRSDESchedule, "theta")
    s_inf: float = shared(IRSDESchedule, "s_inf")
    eps: float = shared(IRSDESchedule, "eps")
    convention: Convention = shared(IRSDESchedule, "convention", "irsde")
    roundings: Roundings = shared(IRSDESchedule, "roundings")

    def _check_together(self) -> None:
        if self.n_steps > self.trained_steps:
            raise ConfigError(
                f"IRSDE: n_steps must lie in 1..{self.trained_steps}, the steps of the schedule, got {self.n_steps}"
            )
        if self.rule != "posterior" and self.n_steps < self.trained_steps:
            raise ConfigError(
                f"IRSDE: rule '{self.rule}' takes all {self.trained_steps} steps, got {self.n_steps}; for fewer use "
                "rule 'posterior' or the sampler mrs"
            )
        _ = self.schedule.dt  # refuses what makes no schedule

    @cached_property
    def schedule(self) -> IRSDESchedule:
        """The schedule as trained. Raises ConfigError."""
        return IRSDESchedule(
            self.trained_steps, self.theta, self.s_inf, self.eps, self.convention, self.roundings
        )

    def times(self) -> list[int]:
        """The whole times visited, from T down to 0: n_steps + 1 of them, as even as may be."""
        n, length = self.n_steps, self.trained_steps
        return [int(length * k / n + 0.5) for k in reversed(range(n + 1))]

    def steps(self, problem: Problem, prior: ConditionalPrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate of x0, the last one the state at t = 0.

        Raises DivergenceError.
        """
        y, rank = prior.in_range(problem.observed), problem.item_ndim
        consistent = self.consistency(problem, prior)
        x = self.first(y, problem, draws, self.s_inf)
        for i, (t, to) in enumerate(pairwise(self.times())):
            level = self.schedule.level(t)
            out = prior(x, level, y)
            x0 = clean_estimate(prior.head, out, x, y, level, stationary_std=self.s_inf)
            x0 = x0 if consistent is None else consistent(x0, level)
            if self.rule == "posterior":
                x = self._posterior(x, x0, y, t, to, draws, rank)
            elif consistent is not None:
                x = self._euler(x, y, implied_noise(x, x0, y, level), t, draws, rank)
            else:
                n = noise_estimate(prior.head, out, x, y, level, self.s_inf)
                x = self._euler(x, y, n, t, draws, rank)
            result = prior.to_unit(x if to == 0 else x0)
            yield self.step(place(i, self.n_steps, level.sigma), result, prior.evaluations)

    def _posterior(
        self, x: Tensor, x0: Tensor, y: Tensor, t: int, to: int, draws: Draws, rank: int
    ) -> Tensor:
        """A draw from q(x_s | x_t, x0); x0 itself where the schedule ends without noise."""
        end, start = torch.tensor(t), torch.tensor(to)
        mean = self.schedule.posterior_mean(x, x0, y, end, start)
        std = float(self.schedule.posterior_std(end, start))
        return mean.add_(draws.normal_like(x, rank), alpha=std) if std > 0 else mean

    def _euler(self, x: Tensor, y: Tensor, n: Tensor, t: int, draws: Draws, rank: int) -> Tensor:
        """One Euler step of the reverse SDE or ODE; the SDE is x <- mean - g sqrt(dt) z."""
        time, ode = torch.tensor(t), self.rule == "ode"
        mean = self.schedule.euler(x, y, n, time, ode=ode)
        if ode:
            return mean
        return mean.sub_(draws.normal_like(x, rank), alpha=float(self.schedule.euler_std(time)))
