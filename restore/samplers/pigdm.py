"""PiGDM: guidance by the pseudo-inverse, the likelihood of an estimate that is trusted alike in every direction.

Song, Vahdat, Mardani, Kautz, "Pseudoinverse-guided diffusion models for inverse problems", ICLR 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import ETA, NOISE_RULE, Chain, NoiseRule, fresh_share, renoised
from restore.samplers.toolbox.consistency import ProximalStep
from restore.samplers.toolbox.moments import PosteriorMoments, posterior_moments
from restore.samplers.toolbox.solved import SolvedChain

_PUBLISHED: dict[str, Any] = {
    "n_steps": 100, "schedule": "vp", "start": "degraded", "eta": 1.0, "noise_rule": "ddim", "rule": "published",
    "prior_std": 1.0, "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PiGDM(SolvedChain):
    """Pseudo-inverse guided diffusion.

    With xh = D(x, s), x0 given x is taken as N(xh, r^2 I), r^2 = S^2 s^2/(S^2 + s^2) with S = prior_std (the paper:
    unit variance, r^2 = s^2/(1 + s^2)). With
    d = r^2 A^H (r^2 A A^H + sigma_y^2)^-1 (y - A xh), or A+ y - A+ A xh where the noise is unknown or absent,
    rule "published": the next state is raised by w J^H d, J the denoiser's Jacobian (algorithm 1);
    rule "posterior": xh itself is raised by w (s^2/r^2) J^H d, which is Tweedie's formula for the posterior, and
    the step is taken from there.
    The inverse is solved in closed form where there is one (`solvers.closed_form`), else by cg_iters steps of CG. Each
    evaluation has one backward pass.

    Differs from the paper:
    - any linear operator: without a singular value decomposition the inverse is solved for.
    - the tuned presets start from the degraded image at a low noise level and draw fresh noise at every step ("ddnm").
      PSNR on two photographs (64 x 64, bundled prior; in brackets `dds`): inpainting 26.9 dB (26.7 from the same first
      level), deblurring 27.6 (27.8), super-resolution 24.8 (24.9).
    - keep_seen is what released code does for inpainting, not the paper: the preset "published-inpainting" only.
    - the network sees the image in another of its eight orientations at every step (turns).
    - on a Gaussian prior the posterior mean is missed (by 3 to 22 % of its distance to the prior mean with the rule
      "posterior" at 1000 steps): the real covariance is not r^2 I. `exact` uses it.
    """

    gradients: ClassVar[bool] = True
    reference: ClassVar[str] = "Song and others: Pseudoinverse-guided diffusion models, ICLR 2023"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": 1.0},
        "tuned deblur": {"w": 1.5},
        "published": _PUBLISHED,
        "published-inpainting": {**_PUBLISHED, "keep_seen": True},
    }

    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    start: Literal["degraded", "filled", "noise", "gaussian"] = shared(SolvedChain, "start")
    eta: float = setting(1.0, f"{ETA} (with ddim the paper's c1)", between=(0, 1))
    noise_rule: NoiseRule = setting("ddnm", NOISE_RULE)
    rule: Literal["published", "posterior"] = setting(
        "posterior", "what the guidance raises, see above"
    )
    w: float = setting(1.0, "weight of the guidance", at_least=0)
    prior_std: float = setting(0.5, "deviation of the images, in unit intensities", above=0)
    cg_iters: int = setting(10, "CG steps of an inverse without closed form", at_least=1)
    keep_seen: bool = setting(
        False, "inpainting only: seen pixels of xh are replaced by the measured ones, their J^H d is dropped"
    )  # fmt: skip

    def _check_together(self) -> None:
        super()._check_together()
        if self.rule == "published" and not self.chosen_solver().plain:
            raise ConfigError(
                "PiGDM: rule 'published' moves the state, not the estimate; solvers need rule=posterior"
            )

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the guided estimate. Raises ConfigError, DivergenceError."""
        levels, guidance = self.levels_for(problem), _Guidance(self, problem)
        x, history = self.begun(problem, draws, levels[0], prior), self.history()
        for level in levels:
            s, s_next = level.sigma, level.next
            moments = posterior_moments(prior, x, s, turn=self.turn(level))
            xh, g = guidance(moments)
            x0 = xh + g
            yield self.step(level, x0, prior.evaluations)
            if not s_next:
                return
            k = fresh_share(self.eta, self.noise_rule, level)
            n = draws.normal_like(xh, problem.item_ndim)
            if history:
                x = history.next(x, x0, n, level, k)
            elif self.rule == "posterior":
                x = renoised(x0, (x - x0) / s, n, s_next, k)
            else:
                x = renoised(xh, (x - moments.x0) / s, n, s_next, k) + g


class _Guidance:
    """xh and what is added to it, or to the next state; what depends on the measurement alone is computed once."""

    def __init__(self, settings: PiGDM, problem: Problem) -> None:
        self.settings, self.operator = settings, problem.linear
        self.seen: Tensor | None = None
        if settings.keep_seen:
            if "selects" not in problem.operator.abilities:
                raise ConfigError(f"PiGDM: keep_seen is for inpainting, not for {problem.operator}")
            self.seen = problem.operator(torch.ones_like(problem.degraded))
        self.degraded = problem.degraded
        known = problem.precision is not None
        self.proximal = ProximalStep(problem, cg_iters=settings.cg_iters) if known else None

    def __call__(self, moments: PosteriorMoments) -> tuple[Tensor, Tensor]:
        xh, s, settings = moments.x0, moments.sigma, self.settings
        r = settings.prior_std * s / (settings.prior_std**2 + s**2) ** 0.5
        g = settings.w * moments.pull(self._missing(xh, r))
        if settings.rule == "posterior":
            g = (s / r) ** 2 * g
        if self.seen is None:
            return xh, g
        seen = self.seen.to(xh)
        return xh * (1 - seen) + self.degraded * seen, g * (1 - seen)

    def _missing(self, xh: Tensor, r: float) -> Tensor:
        """d = r^2 A^H (r^2 A A^H + sigma_y^2)^-1 (y - A xh), the way from xh to its proximal point."""
        if self.proximal is None:
            return self.degraded - self.operator.pinv(self.operator(xh))
        return self.proximal(xh, r**2) - xh
