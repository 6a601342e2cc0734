"""Particles: several states of each item walk the levels, are weighed by how they explain the data, and resampled.

Sequential Monte Carlo around any pixel sampler that gives an estimate at a level. Wu, Trippe, Naesseth, Blei,
Cunningham, "Practical and asymptotically exact conditional sampling in diffusion models" (TDS), NeurIPS 2023; Singhal,
Horvitz, Teehan, Ren, Yu, McKeown, Ranganath, "A general framework for inference-time scaling and steering of diffusion
models" (Feynman-Kac steering), ICML 2025; Cardoso, Janati, Le Corff, Moulines, "Monte Carlo guided diffusion for
Bayesian linear inverse problems" (MCGDiff), ICLR 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import OperatorTraits, Planned
from restore.samplers.dds import DDS
from restore.samplers.diffpir import DiffPIR
from restore.samplers.dps import DPS
from restore.samplers.exact import Exact
from restore.samplers.pigdm import PiGDM
from restore.samplers.toolbox.chain import (
    NOISE_RULE,
    Chain,
    NoiseRule,
    blank,
    centre_of,
    fresh_share,
)
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.likelihood import Likelihood
from restore.samplers.toolbox.population import ParticleDraws, estimates, repeated
from restore.samplers.toolbox.weights import (
    effective_size,
    log_normal_ratio,
    picked,
    shares,
    systematic,
    uniform,
)

_INNER: dict[str, type[Chain]] = {
    "dds": DDS, "diffpir": DiffPIR, "pigdm": PiGDM, "dps": DPS, "exact": Exact,
}  # fmt: skip
_DIFFERENTIATED = ("pigdm", "dps", "exact")


@dataclasses.dataclass(frozen=True)
class Particles(Chain):
    """Particles that are weighed and resampled.

    At each level s and for each of K particles x: xh = D(x, s), xg the estimate that `inner` makes of it with the data
    (its preset, run for this level alone), and the potential log G(x) = log p(y | x0 ~ N(xh, r^2 I)),
    r^2 = S^2 s^2/(S^2 + s^2), S = prior_std (r = 0 with potential "tweedie"). x' = (1 - c) xg + c x + s' k n, with
    c = s' sqrt(1 - k^2)/s and k of `noise_rule`. The logarithm of a particle's weight grows by log G(x') - log G(x)
    and, with `ratio`, by that of p(x' | x)/q(x' | x), the step from xh over that from xg. With it the result is
    D(x, s) at the last level, r = 0 there, and the weights are right for the posterior under the prior's chain of these
    levels, the better the more particles, whatever `inner` and the potential are (TDS, theorem 1). Without it the last
    xg counts, and what is selected are good runs of `inner`.
    Where the effective size of an item falls below resample K, its particles are drawn anew in proportion to their
    weights (systematic, from the item's own generator).
    gibbs > 0: so many rounds at each level but the last, after resampling: x0 is drawn from N(xh, r^2 I) times the
    likelihood by langevin_steps of unadjusted Langevin dynamics, and noise s is added again. That leaves the level's
    target as it is where x0 given x is that Gaussian.
    The log has the smallest effective size of the items ("ess") and how many were resampled ("resampled"); the last
    record the "weights" of each item's particles.
    Unknown noise, or none: a deviation of 0.01 s ||A|| is assumed, which fades along the chain.

    Differs from the papers:
    - the potential has the uncertainty r of the estimate, so that high levels do not decide (TDS and FK steering: the
      likelihood at the Tweedie estimate, "tweedie"). It is the minimum of a data step, at no further evaluation.
    - steering's potentials "max" and "sum" are left out; "difference", whose product is the likelihood, is this one.
    - proposals are those of the inner sampler; TDS has the gradient of its potential.
    - the rounds of `gibbs` are ours.
    - in images of many pixels one particle takes all weight at every step, by the ratio and by the potential: the tuned
      presets leave the ratio out, temper the potential, and are no draw from the posterior but hardly more than the
      mean of K runs of `inner` (docs/choosing-a-sampler.md).
    - `inner` has the gamma of its first level throughout where its preset lets that fall (dds for MRI).
    """

    takes_start: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Wu and others: TDS, NeurIPS 2023; Singhal and others: FK steering, ICML 2025"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The levels of dds; so warm that nearly nothing is dropped, since the mean of all gains more than selection
        "tuned": {},
        "tuned mri": {"n_steps": 60, "sigma_start": 0.25},
        "tuned ct": {"n_steps": 60, "sigma_start": 0.1},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": "auto"},
        # Right weights of the modes where unknowns are few: less bias by more levels, less noise by more particles
        "posterior": {
            "particles": 64, "n_steps": 150, "temperature": 1.0, "sigma_start": 20.0, "sigma_end": 0.01,
            "start": "noise", "noise_rule": "ddim", "inner": "pigdm", "ratio": True, "result": "draw", "turns": False,
        },
        # The prior's own steps, selected: works for a denoiser without gradients
        "steering": {
            "particles": 64, "n_steps": 150, "temperature": 1.0, "sigma_start": 20.0, "sigma_end": 0.01,
            "start": "noise", "noise_rule": "ddim", "inner": "prior", "ratio": True, "potential": "tweedie",
            "result": "draw", "turns": False,
        },
    }  # fmt: skip

    schedule: Literal["karras", "ve"] = setting(
        "karras", "levels: karras or ve (geometric) from sigma_start to sigma_end"
    )
    start: Literal["degraded", "filled", "noise"] = shared(Chain, "start")
    noise_rule: NoiseRule = setting("ddnm", f"{NOISE_RULE}, with eta 1")
    particles: int = setting(8, "states of an item", at_least=1, at_most=100_000)
    inner: Literal["prior", "dds", "diffpir", "pigdm", "dps", "exact"] = setting(
        "dds", "the sampler whose estimate a step goes to; prior: none, so that data count by the weights alone"
    )  # fmt: skip
    inner_preset: str = setting("tuned", "its preset; levels, start and turns are ours")
    ratio: bool = setting(False, "weights count the inner sampler's steps against the prior's")
    potential: Literal["wide", "tweedie"] = setting(
        "wide", "likelihood of the estimate, with its uncertainty r or without"
    )
    prior_std: float = setting(0.5, "S: deviation of the images, in unit intensities", above=0)
    temperature: float = setting(
        1000.0, "divides the logarithms of weights; above 1 fewer particles are dropped", above=0
    )
    resample: float = setting(
        0.5, "share of K below which the effective size has particles drawn anew", between=(0, 1)
    )
    gibbs: int = setting(
        0, "rounds at each level but the last, one evaluation each", at_least=0, at_most=1000
    )
    langevin_steps: int = setting(20, "Langevin steps of a round", at_least=1)
    cg_iters: int = setting(10, "CG steps of a potential without closed form", at_least=1)
    result: Literal["mean", "draw"] = setting(
        "mean", "the weighted mean of the last estimates, or one of them drawn by weight"
    )

    def _check_together(self) -> None:
        super()._check_together()
        self.inner_sampler(Planned("image"))
        # Declared of the instance: which inner sampler there is decides.
        object.__setattr__(self, "gradients", self.inner in _DIFFERENTIATED)

    def inner_sampler(self, operator: OperatorTraits) -> Chain | None:
        """The inner sampler for an operator. Raises ConfigError for a preset that it does not have."""
        if self.inner == "prior":
            return None
        return _INNER[self.inner].configured(self.inner_preset, operator, {})

    def cost(self, problem: Problem | None = None) -> int:
        """particles x (n_steps + gibbs x (n_steps - 1))"""
        levels = super().cost(problem)
        return self.particles * (levels + self.gibbs * (levels - 1))

    @property
    def states(self) -> int:
        """The particles."""
        return self.particles

    def for_samples(self, samples: int) -> tuple[Self, tuple[str, ...]]:
        """With a particle drawn, where there are several samples: means have too little spread."""
        if samples == 1 or self.result == "draw":
            return self, ()
        return dataclasses.replace(self, result="draw"), (
            "several samples: each is one particle drawn by weight (result=draw), not the particles' mean",
        )

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the weighted mean of xg, or one drawn by weight.

        Raises ConfigError, DivergenceError.
        """
        levels, walk = self.levels_for(problem), _Walk(self, problem, prior, draws)
        x = walk.first(levels[0])
        log_weights = last = torch.zeros(x.shape[: x.ndim - walk.k], dtype=torch.float64)
        for level in levels:
            xh, xg = walk.estimates(x, level)
            if self.ratio and not level.next:
                xg = xh
            potential = walk.potential(xh, level)
            log_weights = log_weights + (potential - last) / self.temperature
            info = walk.record(log_weights, level)
            yield self.step(level, walk.result(xg, log_weights), walk.evaluations, **info)
            if not level.next:
                return
            ancestors, log_weights = walk.resampled(log_weights)
            if ancestors is not None:
                x, xh, xg, potential = (picked(v, ancestors) for v in (x, xh, xg, potential))
            for _ in range(self.gibbs):
                x = walk.gibbs_round(xh, level)
                xh, xg = walk.estimates(x, level)
                potential = walk.potential(xh, level)
            x, gained = walk.next(x, xh, xg, level)
            log_weights, last = log_weights + gained / self.temperature, potential


class _Walk:
    """One run: what its particles are, (K, *batch, *in_shape), and what is done to them at a level."""

    def __init__(
        self, settings: Particles, problem: Problem, prior: ImagePrior, draws: Draws
    ) -> None:
        self.settings, self.one, self.prior, self.draws = settings, problem, prior, draws
        self.k, self.inner = problem.item_ndim, settings.inner_sampler(problem.operator)
        self.all = repeated(problem, settings.particles)
        self.particle_draws = ParticleDraws(draws)
        self.likelihood = Likelihood(self.all, settings.cg_iters)

    @property
    def evaluations(self) -> int:
        """Of an item, all its particles."""
        return self.settings.particles * self.prior.evaluations

    def first(self, level: NoiseLevel) -> Tensor:
        """Noise of the first level, about the degraded image or nothing."""
        n = level.sigma * self._noise(blank(self.all))
        start = self.settings.start
        return n if start == "noise" else centre_of(self.one, start) + n

    def estimates(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """xh and xg."""
        turn = self.settings.turn(level)
        xh, xg = estimates(self.inner, self.all, self.prior, x, level, turn, self.draws)
        return self.settings.finite(xh, level), xg

    def potential(self, xh: Tensor, level: NoiseLevel) -> Tensor:
        """log G, (K, *items); with the ratio r is 0 at the last level, where xh is the image."""
        s = self.settings
        certain = s.potential == "tweedie" or (s.ratio and not level.next)
        return self.likelihood.log(xh, level.sigma, 0.0 if certain else self._width(level))

    def _width(self, level: NoiseLevel) -> float:
        """r^2."""
        return 1 / (self.settings.prior_std**-2 + level.sigma**-2)

    def record(self, log_weights: Tensor, level: NoiseLevel) -> dict[str, Any]:
        """Effective size (the least of the items) and the items that will be resampled; at the end the weights too."""
        size = effective_size(log_weights)
        found: dict[str, Any] = {"ess": float(size.min())}
        if level.next:
            return found | {"resampled": int(self._poor(log_weights).sum())}
        return found | {"weights": shares(log_weights).reshape(len(log_weights), -1).mT.tolist()}

    def result(self, xg: Tensor, log_weights: Tensor) -> Tensor:
        """The weighted mean, or one particle of each item, so that a run that is ended early has one too."""
        if self.settings.result == "draw":
            return picked(xg, systematic(log_weights, self._uniform(log_weights), 1))[0]
        weights = shares(log_weights).to(xg.device, xg.real.dtype if xg.is_complex() else xg.dtype)
        return (weights.reshape(*weights.shape, *[1] * self.k) * xg).sum(0)

    def resampled(self, log_weights: Tensor) -> tuple[Tensor | None, Tensor]:
        """The ancestors of the particles, None where no item is resampled, and the weights that are left."""
        u, poor = self._uniform(log_weights), self._poor(log_weights)
        if not bool(poor.any()):
            return None, log_weights
        own = torch.arange(len(log_weights)).reshape(-1, *[1] * poor.ndim)
        ancestors = torch.where(poor, systematic(log_weights, u), own)
        return ancestors, log_weights.masked_fill(poor, 0.0)

    def gibbs_round(self, xh: Tensor, level: NoiseLevel) -> Tensor:
        """x0 given x and y, by Langevin steps; x given x0."""
        steps, width = self.settings.langevin_steps, self._width(level)
        x0 = self.likelihood.langevin(xh, level.sigma, width, steps, self._noise)
        return x0 + level.sigma * self._noise(x0)

    def next(
        self, x: Tensor, xh: Tensor, xg: Tensor, level: NoiseLevel
    ) -> tuple[Tensor, Tensor | float]:
        """The particles of the next level, and what their weights gain by the ratio."""
        share = fresh_share(1.0, self.settings.noise_rule, level)
        n, v = self._noise(x), (level.next * share) ** 2
        c = level.next * (1 - share**2) ** 0.5 / level.sigma
        after = (1 - c) * xg + c * x + v**0.5 * n
        if not self.settings.ratio:
            return after, 0.0
        return after, log_normal_ratio((1 - c) * (xg - xh), n, v, self.k).double().cpu()

    def _poor(self, log_weights: Tensor) -> Tensor:
        """Which items have too small an effective size."""
        return effective_size(log_weights) < self.settings.resample * len(log_weights)

    def _noise(self, like: Tensor) -> Tensor:
        return self.particle_draws.normal_like(like, self.k)

    def _uniform(self, log_weights: Tensor) -> Tensor:
        """A number in 0..1 of each item, (*items)."""
        items = torch.empty(*log_weights.shape[1:], 1, dtype=torch.float64)
        return uniform(self.draws.normal_like(items, 1))[..., 0]
