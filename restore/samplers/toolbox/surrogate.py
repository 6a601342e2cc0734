"""A surrogate of the likelihood in the space of codes, and the push that lowers it.

Subclassed and called by samplers of latent priors. Codes are z = z0 + sigma n; the released chains of latent models
preserve variance, a z here, with a = 1/sqrt(1 + sigma^2), and s = a sigma is their noise. The trace term is that of
Rout, Chen, Kumar, Caramanis, Shakkottai, Chu, CVPR 2024; the gluing term that of PSLD (Rout, Raoof, Daras, Caramanis,
Dimakis, Shakkottai, NeurIPS 2023).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.priors.latent import LatentPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.toolbox.chain import Chain
from restore.samplers.toolbox.codes import Transpose, backprojection, capped, largest_gain
from restore.samplers.toolbox.items import item_dot, item_norm
from restore.samplers.toolbox.levels import NoiseLevel


@dataclasses.dataclass(frozen=True)
class SurrogateChain(Chain):
    """Abstract: a chain of codes that are pushed along -grad L, with x = D(zh), zh the Tweedie estimate at z, and

    L = lam ||y - A x|| (mode "norm") or its square ("square")
        + w v^T (g(z + delta v) - g(z)) / delta + gamma ||E(T y + x - T A x) - zh||;
    g: the score; its term estimates tr Hess log p with one probe v. w is eta/d by "const" (the paper);
    eta s^4/a^2 by "covariance", so that the term is eta tr Cov(z0 | z) up to a constant; eta lam ||A dD||^2 s^4/a^2 by
    "bound" (a lower bound of the likelihood at eta 1 for lam = 1/(2 sigma_y^2) in mode "square").
    """

    sigma_start: float = shared(Chain, "sigma_start")  # nothing is filled among codes
    mode: Literal["norm", "square"] = setting("norm", "the misfit, or its square")
    lam: float = setting(0.0, "weight of the misfit", at_least=0)
    second_order: bool = setting(True, "the trace term; twice the network evaluations")
    eta: float = setting(0.4, "weight of the trace", at_least=0)
    delta: Literal["paper", "scaled"] = setting(
        "scaled", "probe width in variance-preserving coordinates: 1, or delta_scale s"
    )
    delta_scale: float = setting(0.3, "see delta", above=0)
    trace_weight: Literal["covariance", "const", "bound"] = setting("covariance", "w, see above")
    gamma: float = setting(0.0, "weight of the gluing term (PSLD)", at_least=0)
    transpose: Transpose = setting(
        "official", "T: the adjoint, or as released (`codes.backprojection`)"
    )
    noisy_loss: float = setting(0.0, "deviation of noise added to the prediction", at_least=0)
    cap: float | None = setting(0.05, "a push is no longer than cap ||z||; none: no limit", above=0)


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


class Surrogate:
    """L on one problem; what belongs to the problem and the prior is computed once. `evaluations` counts calls."""

    def __init__(
        self, settings: SurrogateChain, problem: Problem, prior: LatentPrior, draws: Draws
    ) -> None:
        self.settings, self.problem, self.prior, self.draws = settings, problem, prior, draws
        self.evaluations, self.code_ndim = 0, prior.code_ndim
        self.measured_ndim = problem.operator.measured_ndim
        self.back = backprojection(problem, settings.transpose) if settings.gamma else None
        self.gain: Tensor | None = None

    def predict(self, z: Tensor, level: NoiseLevel, turn: int) -> tuple[Tensor, Tensor]:
        """zh and e with z = zh + sigma e."""
        self.evaluations += 1
        if level.told == level.sigma:
            zh = self._denoise(z, level.sigma, turn)
            return zh, (z - zh) / level.sigma
        seen = z * ((1 + level.told**2) / (1 + level.sigma**2)) ** 0.5
        e = (seen - self._denoise(seen, level.told, turn)) / level.told
        return z - level.sigma * e, e

    def guide(self, z: Tensor, level: NoiseLevel, sigma_to: float, turn: int) -> Guided:
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
                loss = loss + self.trace_weight(z, level, weight) * trace
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        scale = ((1 + level.sigma**2) * (1 + sigma_to**2)) ** 0.5
        push, hits = capped(scale * gradient, z, s.cap, self.code_ndim)
        return Guided(
            zh.detach(), e.detach(), x if x is None else x.detach(), push, loss.detach(), hits
        )

    def estimate(
        self, z: Tensor, level: NoiseLevel, turn: int, v: Tensor | None
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

        Also the weight that ||y - A x||^2 has in it to first order. Nothing is decoded where nothing is asked. m:
        noise added to the prediction.
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

    def trace_weight(self, z: Tensor, level: NoiseLevel, weight: Tensor | float) -> Tensor | float:
        """w; s^4/a^2 tr Hess log p is the trace of Cov(z0 | z) up to a constant."""
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


def hessian_trace(
    e: Tensor, e_moved: Tensor, v: Tensor, level: NoiseLevel, delta: float, code_ndim: int
) -> Tensor:
    """<v, g(z + delta v) - g(z)> / delta of each item, g = -e/s the score in variance-preserving coordinates.

    e, e_moved: the noise found in the code and in the code moved by delta v (delta v / a here). With v ~ N(0, I) its
    mean is the trace of the Hessian of log p, smoothed over the width delta (Rout, Chen, Kumar, Caramanis,
    Shakkottai, Chu, CVPR 2024, section 4; Stein's identity).
    """
    return item_dot(v, e - e_moved, code_ndim) / (level.s * delta)
