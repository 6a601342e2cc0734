"""DPS: ancestral sampling pushed, at every step, along the gradient of the data misfit through the denoiser.

Chung, Kim, McCann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import ETA, NOISE_RULE, Chain, NoiseRule, fresh_share, renoised
from restore.samplers.toolbox.items import residual_norm
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.moments import with_pullback
from restore.samplers.toolbox.optimiser import curvature

_PUBLISHED: dict[str, Any] = {
    "n_steps": 1000, "schedule": "vp", "start": "noise", "eta": 1.0, "noise_rule": "ddim", "guidance": "norm",
    "clip_x0": True, "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DPS(Chain):
    """Diffusion posterior sampling.

    With xh = D(x, s), e = (x - xh)/s and r = y - A(xh), the state x' = xh + s' (sqrt(1 - k^2) e + k n) is lowered by
    "norm": zeta c d||r||/dx (algorithm 1 with its step zeta/||r||), c = sqrt((1 + s^2)(1 + s'^2)): the published
    step in variance-preserving coordinates, seen from these;
    "square": zeta c d||r||^2/dx, a constant step;
    "relative": zeta d(||r||^2/2)/dx / ||A||^2, a constant step that suits every image size and operator (of a
    non-linear one its Jacobian at the degraded image counts);
    "likelihood": zeta (s^2 - s'^2) d(||r||^2 / (2 sigma_y^2))/dx, the score of the likelihood at xh (equation 13),
    for known noise. Each evaluation has one backward pass.

    Differs from the paper:
    - one norm per image: released code takes one over the batch.
    - ancestral noise has the variance beta-tilde: priors here do not learn a variance.
    - xh is not clipped unless clip_x0 is set: the presets "published*" set it.
    - the tuned presets start from the degraded image at a low noise level, take few steps, each with fresh noise
      ("ddnm"), and "relative" guidance. PSNR on two photographs (64 x 64, bundled prior; in brackets `dds`): inpainting
      26.9 dB (26.7 from the same first level), deblurring 26.9 (27.8), super-resolution 24.9 (24.9). "ddim" noise loses
      up to 10 dB there.
    - the network sees the image in another of its eight orientations at every step (turns).
    - first order: on a Gaussian prior the mean is biased and the spread too small, whatever zeta; "likelihood"
      diverges where sigma_y is small. `exact` has neither fault.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    gradients: ClassVar[bool] = True
    reference: ClassVar[str] = "Chung and others: Diffusion posterior sampling, ICLR 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": 1.0},
        "tuned deblur": {"zeta": 1.5},
        # zeta of the released configurations by task
        "published": {**_PUBLISHED, "zeta": 0.3},
        "published-inpainting": {**_PUBLISHED, "zeta": 0.5},
        "published-phase-retrieval": {**_PUBLISHED, "zeta": 1.0},
        # The variant in RED-diff's released code: weight 0.5 on ||r||^2/||r||, no clipping
        "published-ddim": {**_PUBLISHED, "start": "degraded", "eta": 0.5, "zeta": 1.0, "clip_x0": False},
    }  # fmt: skip

    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    start: Literal["degraded", "filled", "noise"] = shared(Chain, "start")
    eta: float = setting(1.0, ETA, between=(0, 1))
    noise_rule: NoiseRule = setting("ddnm", NOISE_RULE)
    guidance: Literal["norm", "square", "likelihood", "relative"] = setting(
        "relative", "the push, see above"
    )
    zeta: float = setting(1.0, "size of the push", at_least=0)
    clip_x0: bool = setting(
        False, "clip xh to the prior's range, and the gradient with it; real images"
    )

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh less the push of that step. Raises ConfigError, DivergenceError."""
        if self.guidance == "likelihood" and problem.precision is None:
            raise ConfigError(
                "DPS: guidance 'likelihood' needs a noise level; give noise=std, or use 'norm'"
            )
        if self.clip_x0 and problem.operator.is_complex:
            raise ConfigError("DPS: clip_x0 is for real images; set clip_x0=false")
        levels = self.levels_for(problem)
        unit = 1 / _gain(problem) if self.guidance == "relative" else 1.0
        x = self.first(problem, draws, levels[0])
        for level in levels:
            xh, push = self._push(problem, prior, x, level, unit)
            yield self.step(level, xh - push, prior.evaluations)
            if level.next:
                k = fresh_share(self.eta, self.noise_rule, level)
                e, n = (x - xh) / level.sigma, draws.normal_like(xh, problem.item_ndim)
                x = renoised(xh, e, n, level.next, k) - push

    def _push(
        self,
        problem: Problem,
        prior: ImagePrior,
        x: Tensor,
        level: NoiseLevel,
        unit: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """xh and what is taken off the next state. unit: of "relative", 1 / ||A||^2."""

        def denoised(v: Tensor) -> Tensor:
            x0 = self.denoised(prior, v, level)
            return x0.clamp(*prior.prior.intensity) if self.clip_x0 else x0

        xh, pull = with_pullback(denoised, x)
        if self.guidance == "likelihood":
            return xh, self.zeta * (level.sigma**2 - level.next**2) * pull(problem.gradient(xh))
        c = ((1 + level.sigma**2) * (1 + level.next**2)) ** 0.5  # seen from VP coordinates
        gradient = pull(problem.gradient(xh, weighted=False))  # of ||r||^2 / 2
        if self.guidance == "relative":
            return xh, self.zeta * unit * gradient
        if self.guidance == "square":
            return xh, 2 * self.zeta * c * gradient
        return xh, self.zeta * c * gradient / residual_norm(problem, xh)


def _gain(problem: Problem) -> Tensor | float:
    """||A||^2, of a non-linear operator the square of its Jacobian's norm for each item."""
    if "linear" in problem.operator.abilities:
        return problem.linear.norm() ** 2
    return curvature(problem, problem.degraded, weighted=False)
