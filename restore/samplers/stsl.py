"""STSL: codes pushed along a surrogate of the likelihood with a trace term, the second-order part of Tweedie's formula.

Rout, Chen, Kumar, Caramanis, Shakkottai, Chu, "Beyond first-order Tweedie: solving inverse problems using latent
diffusion", CVPR 2024; with the gluing term of PSLD as an option: Rout, Raoof, Daras, Caramanis, Dimakis, Shakkottai,
"Solving linear inverse problems provably via posterior sampling with latent diffusion models", NeurIPS 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.latent import LatentPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite
from restore.samplers.consistency import ProximalStep
from restore.samplers.guidance import blank, measured_ndim
from restore.samplers.latent_steps import (
    Level,
    NoiseRule,
    Schedule,
    Transpose,
    backprojection,
    capped,
    ddim_step,
    decoder_gain,
    first_image,
    hessian_trace,
    inversion_levels,
    inverted,
    item_norm,
    karras_grid,
    largest_gain,
    latent_grid,
)

_PSLD: dict[str, Any] = {
    "n_steps": 1000, "schedule": "sd", "start": "noise", "eta_ddim": 0.0, "noise_rule": "ddim", "inner_steps": 1,
    "fresh": False, "apply": "after", "second_order": False, "data_step": "none", "cap": None, "landing": True,
    "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class STSL(Sampler):
    """Second-order Tweedie sampler from a surrogate loss.

    z: codes of a latent prior, or the images themselves under a pixel prior. At each level, inner_steps times
    z <- z - grad L, with xh = D(zh), zh the Tweedie estimate at z, and
    L = lam ||y - A xh|| (mode "norm") or its square ("square")
        + w v^T (g(z + delta v) - g(z)) / delta + gamma ||E(T y + xh - T A xh) - zh||;
    g: the score; its term estimates tr Hess log p with one probe v (second_order; twice the calls). Then `data_step`,
    and a DDIM step.
    n_steps: levels. schedule: "karras" from sigma_start to sigma_end, or the released grids "sd", "ldm" (which may
    add some). start: noise, or the code of the measurement's image, raised to the first level by noise, or by
    inversion_steps calls of DDIM inversion. eta_ddim: stochastic share; noise_rule "ddim" or "ddnm". fresh: a call of
    its own for the DDIM step; without, the noise of the last inner step is used again. apply: "before" the DDIM step,
    or the last push "after" it (PSLD).
    trace_weight: w is eta/d by "const" (the paper); eta s^4/a^2 by "covariance", so that the term is
    eta tr Cov(z0 | z) up to a constant; eta lam ||A dD||^2 s^4/a^2 by "bound" (a lower bound of the likelihood at eta 1
    for lam = 1/(2 sigma_y^2) in mode "square"). delta: "paper" 1, "scaled" delta_scale s, in
    variance-preserving coordinates. transpose: T, `latent_steps.backprojection`. noisy_loss: deviation of noise
    added to the prediction. cap: a push is no longer than cap ||z||; None for no limit.
    data_step "proximal": xh is moved to the data as far as an error of deviation `width` sigma (times the decoder's
    gain) allows, zh by the difference of the codes; by cg_iters steps of CG where there is no closed form.
    landing: the chain ends at the lowest level of the grid, and that state is decoded as it stands. official_offset:
    the network is told a level too high at 1000 steps. Both as in PSLD's released code.

    Differs from the paper:
    - the tuned presets fit the data by `data_step` instead of lam, start from the measurement's image plus noise at a
      low level, and weigh the trace by "covariance". With the bundled pixel prior, against as many calls without the
      trace, that was worth 0.1 dB in inpainting, deblurring and 4x super-resolution (two small photographs).
    - the paper's constant weight eta/d multiplies a gradient that grows as 1/s^4 towards low noise; "covariance" takes
      that growth out.
    - the paper does not say whether the norm is squared; "published" takes the plain norm with weight 1, as PSLD's
      code does.
    - inversion ends at the first level and starts from the lowest; its calls are not counted in the paper's 250.
    - encoders give their mean; pushes, norms and probes are one per image; no clipping; no prompt.
    - pushes are limited (cap), which `info` reports.
    - PSLD's final copy of known pixels is not made: it takes them from the clean image.
    - the network sees a pixel prior's image in another of its eight orientations at every step (turns).
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("denoiser", "latent")
    serves: ClassVar[str] = "any operator, non-linear ones included"
    cost: ClassVar[str] = "inversion_steps + n_steps * (inner_steps * (1 + second_order) + fresh)"
    gradients: ClassVar[bool] = True
    reference: ClassVar[str] = "Rout and others: Beyond first-order Tweedie (STSL), CVPR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned BeerLambert": {"data_step": "none", "inner_steps": 5, "lam": 0.01},
        "published": {
            "n_steps": 50, "schedule": "sd", "start": "degraded", "inversion_steps": 49, "eta_ddim": 0.0,
            "noise_rule": "ddim", "inner_steps": 5, "fresh": False, "apply": "before", "lam": 1.0,
            "second_order": True, "eta": 0.02, "delta": "paper", "trace_weight": "const", "data_step": "none",
            "turns": False,
        },
        "published-psld": {**_PSLD, "lam": 1.0, "gamma": 0.1},
        "published-psld-box": {**_PSLD, "lam": 0.1, "gamma": 0.01},
        "published-psld-ldm": {**_PSLD, "schedule": "ldm", "lam": 0.1, "gamma": 0.1},
    }  # fmt: skip

    n_steps: int = 30
    schedule: Schedule = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    start: Literal["degraded", "noise"] = "degraded"
    inversion_steps: int = 0
    eta_ddim: float = 1.0
    noise_rule: NoiseRule = "ddnm"
    inner_steps: int = 1
    fresh: bool = True
    apply: Literal["before", "after"] = "before"
    mode: Literal["norm", "square"] = "norm"
    lam: float = 0.0
    second_order: bool = True
    eta: float = 0.4
    delta: Literal["paper", "scaled"] = "scaled"
    delta_scale: float = 0.3
    trace_weight: Literal["covariance", "const", "bound"] = "covariance"
    gamma: float = 0.0
    transpose: Transpose = "official"
    noisy_loss: float = 0.0
    cap: float | None = 0.05
    data_step: Literal["proximal", "none"] = "proximal"
    width: float = 1.7
    cg_iters: int = 10
    landing: bool = False
    official_offset: bool = False
    turns: bool = True

    def __post_init__(self) -> None:
        if self.inner_steps < 0 or self.inversion_steps < 0 or self.cg_iters < 1:
            raise ConfigError(
                "STSL: inner_steps and inversion_steps must be zero or more and cg_iters at least 1, got "
                f"{self.inner_steps}, {self.inversion_steps} and {self.cg_iters}"
            )
        if not 0 <= self.eta_ddim <= 1:
            raise ConfigError(f"STSL: eta_ddim must lie in 0..1, got {self.eta_ddim}")
        weights = self.lam, self.eta, self.gamma, self.noisy_loss
        if not all(0 <= w < math.inf for w in weights):
            raise ConfigError(
                f"STSL: lam, eta, gamma and noisy_loss must be finite and zero or more, got {weights}"
            )
        widths = self.delta_scale, self.width, 1.0 if self.cap is None else self.cap
        if not all(0 < w < math.inf for w in widths):
            raise ConfigError(f"STSL: delta_scale, width and cap must be positive, got {widths}")
        self._check_combinations()
        self.levels()

    def _check_combinations(self) -> None:
        if self.apply == "after" and self.fresh:
            raise ConfigError("STSL: apply 'after' steps from the guided estimate; set fresh=False")
        if not self.fresh and self.inner_steps == 0:
            raise ConfigError("STSL: without inner steps there is no estimate to reuse; set fresh=True")  # fmt: skip
        if self.inner_steps and not (self.lam or self.gamma or self.second_order):
            raise ConfigError("STSL: nothing to follow; set lam, gamma or second_order, or inner_steps=0")  # fmt: skip
        if self.second_order and self.trace_weight == "bound" and self.lam == 0:
            raise ConfigError("STSL: trace_weight 'bound' is a share of lam; set lam above zero")

    def levels(self) -> list[Level]:
        """The noise levels of the chain, descending."""
        if self.schedule == "karras":
            return karras_grid(self.n_steps, self.sigma_start, self.sigma_end)
        return latent_grid(
            self.schedule, self.n_steps, landing=self.landing, offset=self.official_offset
        )

    def steps(self, problem: Problem, prior: LatentPrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the decoded estimate (after the data step, where there is one).

        Its info: `loss`, the largest surrogate of an item in the last inner step, and `capped`, how often a push was
        shortened. Raises ConfigError, DivergenceError.
        """
        if prior is None:
            raise ConfigError("STSL needs a latent or a denoising prior; give prior='natural'")
        levels = self.levels()
        run = _Run(self, problem, prior, draws)
        z = run.start(levels)
        for i, level in enumerate(levels):
            moved = run.advance(z, level, i if self.turns else 0, last=i == len(levels) - 1)
            x0 = finite(self, moved.x0, i, len(levels), level.sigma)
            yield Step(i, len(levels), level.sigma, x0, run.evaluations, moved.info)
            z = moved.z


class Guided(NamedTuple):
    """The Tweedie estimate of a code, its noise, its image where it was decoded, the push that lowers the surrogate.

    loss: of each item. capped: items whose push was shortened.
    """

    zh: Tensor
    e: Tensor
    x: Tensor | None
    push: Tensor
    loss: Tensor
    capped: int


class _Moved(NamedTuple):
    z: Tensor
    x0: Tensor
    info: dict[str, Any]


class _Run:
    """One run: what belongs to the problem and the prior, computed once, and the parts of a step."""

    def __init__(self, settings: STSL, problem: Problem, prior: LatentPrior, draws: Draws) -> None:
        self.settings, self.problem, self.prior, self.draws = settings, problem, prior, draws
        self.evaluations, self.code_ndim = 0, prior.code_ndim
        self.measured_ndim = measured_ndim(problem)
        self.back = backprojection(problem, settings.transpose) if settings.gamma else None
        self.consistent: ProximalStep | None = None
        self.width = settings.width
        self.gain: Tensor | None = None
        if settings.data_step == "proximal":
            self.consistent = ProximalStep(problem, cg_iters=settings.cg_iters)
            self.width *= decoder_gain(prior, problem)

    def start(self, levels: list[Level]) -> Tensor:
        """The first code: noise, or the measurement's image, encoded and raised to the first level."""
        s, sigma = self.settings, levels[0].sigma
        if s.start == "noise":
            z = self.prior.encode(blank(self.problem).fill_(0))
            n = self.draws.normal_like(z, self.code_ndim)
            return n * ((1 + sigma**2) ** 0.5 if s.schedule != "karras" else sigma)
        z = self.prior.encode(first_image(self.problem, self.prior))
        if s.inversion_steps == 0:
            return z + sigma * self.draws.normal_like(z, self.code_ndim)
        upward = inversion_levels(levels, s.inversion_steps)
        return inverted(lambda code, level: self.predict(code, level, 0), z, upward)

    def advance(self, z: Tensor, level: Level, turn: int, *, last: bool) -> _Moved:
        """The inner steps at a level, and the DDIM step to the next."""
        s, after, guided, hits = self.settings, self.settings.apply == "after", None, 0
        stochastic = s.eta_ddim > 0 and level.next > 0
        n = self.draws.normal_like(z, self.code_ndim) if stochastic else None
        for k in range(s.inner_steps):
            late = after and k == s.inner_steps - 1
            guided = self.guide(z, level, level.next if late else level.sigma, turn)
            hits += guided.capped
            z = z if late else z - guided.push
        if s.fresh or guided is None:
            zh, e = self.predict(z, level, turn)
        else:
            zh, e = z - level.sigma * guided.e, guided.e
        x = guided.x if after and guided is not None else None
        x = self.prior.decode(zh) if x is None else x
        zh, x = self.data_step(zh, x, level.sigma)
        z = ddim_step(zh, e, n, level, s.eta_ddim, s.noise_rule)
        if after and guided is not None:
            z = z - guided.push
        if last and (after or level.next > 0):
            # Released code decodes the last state as it stands, without dividing by a.
            x = self.prior.decode(z * (1 + level.next**2) ** -0.5)
        info = {} if guided is None else {"loss": float(guided.loss.max()), "capped": hits}
        return _Moved(z, x, info)

    def predict(self, z: Tensor, level: Level, turn: int) -> tuple[Tensor, Tensor]:
        """zh and e with z = zh + sigma e."""
        self.evaluations += 1
        if level.told == level.sigma:
            zh = self._denoise(z, level.sigma, turn)
            return zh, (z - zh) / level.sigma
        seen = z * ((1 + level.told**2) / (1 + level.sigma**2)) ** 0.5
        e = (seen - self._denoise(seen, level.told, turn)) / level.told
        return z - level.sigma * e, e

    def guide(self, z: Tensor, level: Level, sigma_to: float, turn: int) -> Guided:
        """The push -grad L of the surrogate for a code at sigma_to, found at z.

        The variance-preserving code a z moves by the gradient with respect to itself, which is 1/a times ours, and
        what moves it moves ours by 1/a' as much.
        """
        s, v, m = self.settings, None, None
        if s.noisy_loss:
            y = self.problem.unit_y
            m = s.noisy_loss * self.draws.normal_like(y, self.measured_ndim)
        if s.second_order:
            v = self.draws.normal_like(z, self.code_ndim)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            zh, e, trace = self.estimate(leaf, level, turn, v)
            x, loss, weight = self.misfit(zh, m)
            if trace is not None:
                loss = loss + self._trace_weight(z, level, weight) * trace
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        scale = ((1 + level.sigma**2) * (1 + sigma_to**2)) ** 0.5
        push, hits = capped(scale * gradient, z, s.cap, self.code_ndim)
        return Guided(
            zh.detach(), e.detach(), x if x is None else x.detach(), push, loss.detach(), hits
        )

    def estimate(
        self, z: Tensor, level: Level, turn: int, v: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """zh, e and, with a probe v, the estimate of tr Hess log p of each item. All keep the graph."""
        if v is None:
            return *self.predict(z, level, turn), None
        s = self.settings
        delta = 1.0 if s.delta == "paper" else s.delta_scale * level.s
        moved = torch.add(z, v, alpha=delta / level.a)
        if z.is_complex():  # re and im are a batch of two already
            (zh, e), (_, e_moved) = self.predict(z, level, turn), self.predict(moved, level, turn)
        else:
            both, noises = self.predict(torch.stack([z, moved]), level, turn)
            zh, e, e_moved = both[0], noises[0], noises[1]
            self.evaluations += 1
        return zh, e, hessian_trace(e, e_moved, v, level, delta, self.code_ndim)

    def misfit(self, zh: Tensor, m: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor | float]:
        """x = D(zh), lam ||y - A x|| (or its square) + gamma ||E(T y + x - T A x) - zh|| of each item.

        Also the weight that ||y - A x||^2 has in it to first order. Nothing is decoded where nothing is asked. m: noise
        added to the prediction.
        """
        s = self.settings
        if not (s.lam or s.gamma):
            return None, zh.real.new_zeros(zh.shape[: zh.ndim - self.code_ndim]), 0.0
        x = self.prior.decode(zh)
        seen = self.problem.operator(x)
        r = self.problem.unit_y - seen if m is None else self.problem.unit_y - seen - m
        length = item_norm(r, self.measured_ndim)
        weight: Tensor | float = s.lam
        if s.mode == "square":
            loss = s.lam * length.square()
        else:
            loss, weight = s.lam * length, s.lam / (2 * length.detach().clamp(min=1e-30))
        if self.back is not None:
            glued = self.back(self.problem.unit_y) + x - self.back(seen)
            loss = loss + s.gamma * item_norm(self.prior.encode(glued) - zh, self.code_ndim)
        return x, loss, weight

    def data_step(self, zh: Tensor, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """The image moved to the data, and the code moved by as much.

        Only the difference of the two images' codes is added: what the autoencoder cannot represent is lost once, at
        the end, instead of at every step.
        """
        if self.consistent is None:
            return zh, x
        xh = self.consistent(x, self.width * sigma)
        return zh + (self.prior.encode(xh) - self.prior.encode(x)), xh

    def _trace_weight(self, z: Tensor, level: Level, weight: Tensor | float) -> Tensor | float:
        """What `trace_weight` says; s^4/a^2 tr Hess log p is the trace of Cov(z0 | z) up to a constant."""
        s, level_part = self.settings, level.s**4 / level.a**2
        if s.trace_weight == "const":
            d = math.prod(z.shape[z.ndim - self.code_ndim :]) * (2 if z.is_complex() else 1)
            return s.eta / d
        if s.trace_weight == "covariance":
            return s.eta * level_part
        if self.gain is None:
            v = self.draws.normal_like(z, self.code_ndim)
            self.gain = largest_gain(self._measured, z, v, self.code_ndim)
        return s.eta * level_part * weight * self.gain

    def _measured(self, z: Tensor) -> Tensor:
        return self.problem.operator(self.prior.decode(z))

    def _denoise(self, z: Tensor, sigma: float, turn: int) -> Tensor:
        pixels = self.prior.pixels
        return self.prior.denoise(z, sigma) if pixels is None else pixels(z, sigma, turn=turn)
