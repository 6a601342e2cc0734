"""DPS: ancestral sampling pushed, at every step, along the gradient of the data misfit through the denoiser.

Chung, Kim, McCann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite
from restore.samplers.gradients import with_pullback
from restore.samplers.guidance import (
    NoiseRule,
    Schedule,
    Start,
    blank,
    check_prior,
    first_state,
    noise_levels,
    residual_norm,
    reverse_step,
)

_PUBLISHED: dict[str, Any] = {
    "n_steps": 1000, "schedule": "vp", "start": "noise", "eta": 1.0, "noise_rule": "ddim", "guidance": "norm",
    "clip_x0": True, "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DPS(Sampler):
    """Diffusion posterior sampling.

    n_steps: network evaluations, each with one backward pass (the VP grid may add some). schedule: "karras" or "ve"
    (geometric) from sigma_start to sigma_end, or "vp" (the published grid; sigma_start unused). start: from noise, or
    from the degraded image plus noise of sigma_start. eta: stochastic share; noise_rule "ddim" (eta 1: ancestral) or
    "ddnm". With xh = D(x, sigma) and r = y - A(xh) the next state is lowered by
    "norm": zeta c d||r||/dx (algorithm 1 with its step zeta/||r||), c = sqrt((1 + s^2)(1 + s'^2)): the published
    step in variance-preserving coordinates, seen from these;
    "square": zeta c d||r||^2/dx, a constant step;
    "relative": zeta d(||r||^2/2)/dx / ||A||^2, a constant step that suits every image size and linear operator (a
    non-linear one is taken to have ||A|| = 1);
    "likelihood": zeta (s^2 - s'^2) d(||r||^2 / (2 sigma_y^2))/dx, the score of the likelihood at xh (equation 13),
    for known noise.
    clip_x0: xh is clipped to the prior's intensity range, and the gradient passes through the clipping; real images.

    Differs from the paper:
    - one norm per image: released code takes one over the batch.
    - ancestral noise has the variance beta-tilde: priors here do not learn a variance.
    - xh is not clipped unless clip_x0 is set: the presets "published*" set it.
    - the tuned presets start from the degraded image at a low noise level, take few steps, each with fresh noise
      ("ddnm"), and "relative" guidance. PSNR on two photographs (64 x 64, bundled prior; in brackets `dds`): inpainting
      26.9 dB (26.7), deblurring 26.9 (27.8), super-resolution 24.9 (24.9). "ddim" noise loses up to 10 dB there.
    - the network sees the image in another of its eight orientations at every step (turns).
    - first order: on a Gaussian prior the mean is biased and the spread too small, whatever zeta; "likelihood"
      diverges where sigma_y is small. `exact` has neither fault.
    """

    serves: ClassVar[str] = "any operator, non-linear ones included"
    gradients: ClassVar[bool] = True
    reference: ClassVar[str] = "Chung and others: Diffusion posterior sampling, ICLR 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned Inpainting": {"n_steps": 60, "sigma_start": 1.0},
        "tuned Blur": {"zeta": 1.5},
        # zeta of the released configurations by task
        "published": {**_PUBLISHED, "zeta": 0.3},
        "published-inpainting": {**_PUBLISHED, "zeta": 0.5},
        "published-phase-retrieval": {**_PUBLISHED, "zeta": 1.0},
        # The variant in RED-diff's released code: weight 0.5 on ||r||^2/||r||, no clipping
        "published-ddim": {**_PUBLISHED, "start": "degraded", "eta": 0.5, "zeta": 1.0, "clip_x0": False},
    }  # fmt: skip

    n_steps: int = 30
    schedule: Schedule = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    start: Start = "degraded"
    eta: float = 1.0
    noise_rule: NoiseRule = "ddnm"
    guidance: Literal["norm", "square", "likelihood", "relative"] = "relative"
    zeta: float = 1.0
    clip_x0: bool = False
    turns: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"DPS: eta must lie in 0..1, got {self.eta}")
        if not 0 <= self.zeta < math.inf:
            raise ConfigError(f"DPS: zeta must be finite and zero or more, got {self.zeta}")
        self.sigmas()

    def sigmas(self) -> list[float]:
        """The noise levels at which the network is called, descending."""
        return noise_levels(self.schedule, self.n_steps, self.sigma_start, self.sigma_end)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh less the push of that step. Raises ConfigError, DivergenceError."""
        prior, sigmas, k = check_prior("DPS", prior), self.sigmas(), problem.item_ndim
        if self.guidance == "likelihood" and problem.precision is None:
            raise ConfigError(
                "DPS: guidance 'likelihood' needs a noise level; give noise=std, or use 'norm'"
            )
        if self.clip_x0 and problem.operator.is_complex:
            raise ConfigError("DPS: clip_x0 is for real images; set clip_x0=false")
        n = draws.normal_like(blank(problem), k)
        vp = self.schedule == "vp"
        x = first_state(problem, n, sigmas[0], start=self.start, vp=vp)
        for i, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            xh, push = self._push(problem, prior, x, s, s_next, i)
            x0 = finite(self, xh - push, i, len(sigmas), s)
            yield Step(i, len(sigmas), s, x0, prior.evaluations)
            if s_next:
                e, n = (x - xh) / s, draws.normal_like(xh, k)
                x = reverse_step(xh, e, s, s_next, n, self.eta, self.noise_rule) - push

    def _push(
        self, problem: Problem, prior: ImagePrior, x: Tensor, s: float, s_next: float, i: int
    ) -> tuple[Tensor, Tensor]:
        """xh and what is taken off the next state."""
        turn = i if self.turns else 0

        def denoised(v: Tensor) -> Tensor:
            x0 = prior(v, s, turn=turn)
            return x0.clamp(*prior.prior.intensity) if self.clip_x0 else x0

        xh, pull = with_pullback(denoised, x)
        if self.guidance == "likelihood":
            return xh, self.zeta * (s**2 - s_next**2) * pull(problem.gradient(xh))
        step = self.zeta * ((1 + s**2) * (1 + s_next**2)) ** 0.5  # seen from VP coordinates
        gradient = pull(problem.gradient(xh, weighted=False))  # of ||r||^2 / 2
        if self.guidance == "relative":
            return xh, self.zeta / _norm(problem) ** 2 * gradient
        if self.guidance == "square":
            return xh, 2 * step * gradient
        return xh, step * gradient / residual_norm(problem, xh)


def _norm(problem: Problem) -> float:
    operator = problem.operator
    return operator.norm() if isinstance(operator, LinearOperator) else 1.0
