"""RDDM: a few steps that remove the residual and the noise of a degraded image side by side.

Liu, Wang, Fan, Wang, Tang, Qu, "Residual denoising diffusion models", CVPR 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from restore.bridges import rddm
from restore.bridges.base import Level
from restore.bridges.rddm import Clip, Growth, Prediction, RDDMSchedule, Stage, Update, Variance
from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.conditional import ConditionalPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.bridge import BridgeSampler
from restore.samplers.toolbox.levels import place

_PUBLISHED: dict[str, Any] = {
    "n_steps": 5, "trained_steps": 1000, "sum_scale": 0.01, "alpha": "decreased", "beta": "increased",
    "eta": 0.0, "update": "use_pred_noise", "clip": "official", "data_consistency": False, "wrap": 0,
}  # fmt: skip


class _Move(NamedTuple):
    """One network call at time t and the step to time u (-1: the estimate is the next state)."""

    t: int
    u: int
    stage: Stage


@dataclasses.dataclass(frozen=True)
class RDDM(BridgeSampler):
    """Residual denoising diffusion model.

    The state I_t = I_0 + A_t I_res + B_t n (`restore.bridges.rddm`, in the chain's range [-1, 1]) loses residual and
    noise in n_steps strides; a sequential run walks the chain twice, first for the residual, then for the noise
    (experiment 0). Where n_steps is trained_steps, each step is drawn from the posterior (DDPM-like) and eta, variance
    and update are unused. With data consistency residual and noise follow from the state and the corrected estimate.

    Differs from the paper:
    - eta > 0 is allowed with a degraded image, where released code sets it to 0.
    - no clamps by default: a residual lives in [-2, 2], and the released clamp to [-1, 1] saturates large changes.
    - a noise head at A = 1 is refused; the released code divides by 1e-6 there (clip "official").
    - a sequential run keeps the fault of experiment 0: the network is told B_t while the state still holds B_T, and
    the
      second pass starts from the clean estimate of the first.
    - no clamp on the result; no draw of noise that is not used.
    - of a periodic operator the network is shown what lies beyond each border (`wrap`): 0.9 dB on circular blur.
    - data consistency is ours. It is taken before the clamps.
    """

    bridge: ClassVar[str] = "rddm"
    heads: ClassVar[tuple[str, ...]] = tuple(rddm.HEADS)
    intensity: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    reference: ClassVar[str] = "Liu and others: Residual denoising diffusion models, CVPR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The second call is at sigma = 0.03 (0.1 as published): 0.1 to 0.3 dB on eight crops of the two photographs of
        # tuning. With the bundled network, which is small, more steps trade PSNR for texture, up to 0.6 dB at ten.
        # prior_std: what the estimate is off by, on which 0.15 to 0.2 dB of deblurring depend (0.015 to 0.05: alike).
        "tuned": {"n_steps": 2, "sum_scale": 0.001, "prior_std": 0.03},
        "published": _PUBLISHED,
        "published-noise1": {**_PUBLISHED, "sum_scale": 1.0},
        "published-ddpm": {**_PUBLISHED, "sum_scale": 1.0, "alpha": "ddpm", "beta": "ddpm"},
        "published-generation": {**_PUBLISHED, "n_steps": 10, "sum_scale": 1.0, "start": "noise"},
        "published-sequential": {
            **_PUBLISHED, "n_steps": 10, "sum_scale": 1.0, "start": "noise", "alpha": "ddpm", "beta": "ddpm",
            "sequential": True,
        },
    }  # fmt: skip

    trained_steps: int = shared(RDDMSchedule, "length")
    sum_scale: float = shared(RDDMSchedule, "sum_scale")
    alpha: Growth = shared(RDDMSchedule, "alpha")
    beta: Growth = shared(RDDMSchedule, "beta")
    alpha_power: float | None = shared(RDDMSchedule, "alpha_power")
    beta_power: float | None = shared(RDDMSchedule, "beta_power")
    eta: float = setting(0.0, "stochastic share", between=(0, 1))
    variance: Variance = setting("rddm", "eta scales the variance (rddm), or counts as in DDIM")
    update: Update = setting("use_pred_noise", "form of the step (`restore.bridges.rddm.reverse`)")
    start: Literal["degraded", "noise"] = setting(
        "degraded", "noise: generation from grey and noise; the network is shown grey, and only data_consistency ties "
        "the result to the measurement",
    )  # fmt: skip
    start_time: int | None = setting(
        None, "first time; none: the last one. Networks that predict the noise alone need it where A = 1", at_least=0
    )  # fmt: skip
    sequential: bool = setting(False, "remove first the residual, then the noise")
    clip: Clip = setting(
        "none",
        "official: clamp residual and x0 to [-1, 1]; wide: the residual to the [-2, 2] that it lives in",
    )

    def _check_together(self) -> None:
        count = self.schedule.length if self.start_time is None else self.start_time + 1
        if count > self.trained_steps or self.n_steps > count:
            raise ConfigError(
                f"RDDM: start_time must lie in 0..{self.trained_steps - 1} and n_steps in 1..start_time + 1, got "
                f"start_time {self.start_time} and n_steps {self.n_steps}"
            )
        if self.sequential and self.data_consistency:
            raise ConfigError(
                "RDDM: in a sequential chain the state is not at the level that the network is told, so that no "
                "noise follows from a corrected estimate; set data_consistency=False or sequential=False"
            )
        if self.sequential and self.update != "use_pred_noise":
            raise ConfigError(
                "RDDM: a sequential chain moves residual and noise one at a time, which only "
                "update='use_pred_noise' can"
            )

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps, twice if sequential"""
        return self.n_steps * (1 + self.sequential)

    @cached_property
    def schedule(self) -> RDDMSchedule:
        """The levels that the network was trained on. Raises ConfigError."""
        return RDDMSchedule(
            self.trained_steps, self.sum_scale, self.alpha, self.beta, self.alpha_power, self.beta_power
        )  # fmt: skip

    @property
    def ancestral(self) -> bool:
        """Whether every step is drawn from the posterior: a chain through all times."""
        return self.n_steps == self.trained_steps and not self.sequential

    def moves(self) -> list[_Move]:
        """The network calls of a run in order."""
        times = self.schedule.times(self.n_steps, self.start_time)
        stages: tuple[Stage, ...] = ("residual", "noise") if self.sequential else ("joint",)
        return [_Move(t, u, s) for s in stages for t, u in pairwise(times)]

    def steps(self, problem: Problem, prior: ConditionalPrior, draws: Draws) -> Iterator[Step]:
        """Run the chain. A Step holds the estimate after data consistency and clamps, its sigma the noise of the state.

        Both in unit intensities. Raises ConfigError (a noise head at A = 1, clamps of complex images),
        DivergenceError.
        """
        moves = self.moves()
        levels = [self.schedule.level(m.t) for m in moves]
        self._refuse_blind(prior, levels)
        y = prior.in_range(problem.observed)
        y = torch.zeros_like(y) if self.start == "noise" else y
        if self.clip != "none":
            self.require_real(y, "clip='none'")
        consistent = self.consistency(problem, prior)
        width = prior.intensity[1] - prior.intensity[0]
        x = self.first(y, problem, draws, self._first_noise())
        for i, (move, level) in enumerate(zip(moves, levels, strict=True)):
            out = prior(x, level, y)
            if consistent is None:
                found = rddm.predictions(prior.head, out, x, y, level, self.clip)
            else:
                x0 = rddm.predictions(prior.head, out, x, y, level).x0
                found = rddm.rederived(x, consistent(x0, level), y, level, self.clip)
            here = place(i, len(moves), level.c / width)
            yield self.step(here, prior.to_unit(found.x0), prior.evaluations)
            if i + 1 < len(moves):
                x = self.finite(self._next(x, found, move, draws, problem.item_ndim), here)

    def _first_noise(self) -> float:
        """sqrt(sum_scale) at the last time, as released: with "ddpm" B_T is 2e-5 less."""
        if self.start_time is None:
            return self.sum_scale**0.5
        return self.schedule.level(self.start_time).c

    def _next(self, x: Tensor, found: Prediction, move: _Move, draws: Draws, rank: int) -> Tensor:
        """The next state."""
        if move.u < 0:
            return found.x0
        if self.ancestral:
            of_x, of_r, of_x0, variance = (float(v[move.t]) for v in self.schedule.posterior)
            mean = of_x * x + of_r * found.residual + of_x0 * found.x0
            return mean.add_(draws.normal_like(x, rank), alpha=variance**0.5)
        here, there = self.schedule.level(move.t), self.schedule.level(move.u)
        drawn = self.eta > 0 and self.update != "special_eta_0"
        return rddm.reverse(
            x, found, here, there, draws.normal_like(x, rank) if drawn else None,
            variance=rddm.reverse_variance(here, there, self.eta, self.variance),
            update=self.update, stage=move.stage,
        )  # fmt: skip

    def _refuse_blind(self, prior: ConditionalPrior, levels: list[Level]) -> None:
        """Raises ConfigError for a noise head that would be asked where nothing of the image is left."""
        as_released = self.clip == "official" and not self.data_consistency
        blind = [level for level in levels if level.a == 0]
        if prior.head == "noise" and blind and not as_released:
            raise ConfigError(f"prior '{prior.model.name}': {rddm.no_image_left(blind[0])}")
