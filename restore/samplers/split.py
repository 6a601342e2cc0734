"""Split: one denoiser call a level, then an exact draw of the clean image from a Gaussian around it times the data.

The split of Zhang, Chu, Berner, Meng, Anandkumar, Song, "Improving diffusion inverse problem solving with decoupled
noise annealing" (DAPS), CVPR 2025, and of Wu, Sun, Chen, Zhang, Yue, Bouman, "Principled probabilistic imaging using
diffusion models as plug-and-play priors" (PnP-DM), NeurIPS 2024, with a linear solve and a covariance that fits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import OperatorTraits, Sampler
from restore.samplers.dds import DDS
from restore.samplers.toolbox.chain import Chain, blank, renoised
from restore.samplers.toolbox.consistency import weighted_term
from restore.samplers.toolbox.error_covariance import Matched, Root
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.reverse import (
    flow_end,
    flow_levels,
    reverse_draw,
    reverse_levels,
)
from restore.samplers.toolbox.solved import Solver, SolverName

# What both published samplers share here: R of the level, their own mean, pictures as they lie
_PUBLISHED: dict[str, Any] = {
    "start": "noise", "covariance": "level", "matched": False, "cg_iters": 40, "centre": "none", "turns": False,
}  # fmt: skip

WALK = 0.0025
"""Time of a Langevin chain of DAPS at the first level; it falls to 1 % along the levels. 100 steps of 1e-4 for images
in -1..1, a quarter of that in 0..1."""


@dataclasses.dataclass(frozen=True)
class Split(Chain):
    """Split sampling with an exact inner draw.

    At each level s: d = D(x, s); x0 is drawn from N(d, R) times the likelihood; x' = x0 + s' n. With R = B B, W the
    precision of the data and white e1, e2 of measurement and image, x0 = d + B v where
    (I + B A^H W A B) v = e2 + B A^H (W (y - A d) + W^1/2 e1), by cg_iters steps of CG from v = e2: what the data say
    nothing about has its spread of N(d, R) from the first step, however few are made.

    R is diagonal in Fourier, min(s^2, c inflation E(s, f)) with E the power of the denoiser's error, which the prior
    knows (`restore.priors.error_spectrum`; s^2 where it does not). matched: c follows the residuals of this very run,
    by item and band (`toolbox.error_covariance`), at no further call of prior or operator, whatever image the prior
    is asked about. With the exact error of a Gaussian prior, inflation 1 and many CG steps, every level is
    an exact draw from the posterior at any number of levels.
    centre "dds": several samples are moved to the mean of half as many runs of the tuned `dds`, 1 to 3 dB better than
    their own. Their deviation then is what the error of that mean should be; the interval from the least to the largest
    of K covers somewhat more than (K - 1)/(K + 1) (docs/uncertainty.md). One sample alone is a draw.
    Unknown noise, or none: a deviation of 0.01 s ||A|| is assumed, which fades along the chain.

    Presets "daps" and "pnpdm" have the published levels, for images in 0..1 in place of -1..1.
    daps: d is the end of a probability-flow ODE, R what 100 Langevin steps of the published size reach of s^2 where
    nothing was measured, s^2 (1 - exp(-2 t / s^2)) with t their time (`WALK`). With R = s^2 itself the samples would be
    spread twice too widely on Gaussian priors, because the end of the ODE is no mean of x0 given x, and a network, told
    s, would leave the noise beyond s in the picture: 13 dB where this has 21.
    pnpdm: z is drawn from N(x, s^2) times the likelihood, x from the prior given z by the reverse SDE, and x is kept;
    with the published floor of s the data are trusted as if they had the variance sigma_y^2 + s^2 (floor sigma_y/2 or
    less, `sigma_end`, mends that).

    Differs from the papers:
    - one call of the denoiser a level in place of an ODE or SDE, but for those two presets.
    - the inner draw is exact up to CG; DAPS takes 100 Langevin steps a level. Released code weights the misfit twice
      (the gradient of the square, not of its half), assumes noise of 0.01 where 0.05 is true, gives its Hamiltonian
      steps noise of variance 2 (1 - m) in place of 1 - m^2, and turns what is not finite into zeros in silence.
    - pnpdm: the reverse SDE starts at the noise that z has and takes ancestral steps; released code starts at the next
      level of its grid below and takes Euler-Maruyama steps, which leave more noise than the network is told of (with
      the bundled one x4 ended at 15.8 dB, at 20.8 with these); its last step goes as far beyond D(x, s) as x lay
      before. It names results by the best PSNR of all iterations; here the last one counts.
    """

    error: ClassVar[bool] = True
    takes_start: ClassVar[bool] = False
    explains_exact: ClassVar[bool] = True
    reference: ClassVar[str] = "Zhang and others: DAPS, CVPR 2025, with an exact inner draw"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned mri": {"sigma_start": 1.0},
        "tuned inpaint": {"start": "filled", "sigma_start": 1.0},
        # Twice the calls and draws that have converged
        "posterior": {"n_steps": 40, "cg_iters": 30},
        # The right mean and spread on a Gaussian prior
        "posterior-analytic": {
            "sigma_start": 20.0, "start": "noise", "matched": False, "cg_iters": 40, "centre": "none", "turns": False,
        },
        "daps": {
            **_PUBLISHED, "n_steps": 200, "sigma_start": 50.0, "sigma_end": 0.05, "estimate": "ode", "inner_steps": 5,
            "covariance": "langevin",
        },
        "pnpdm": {
            **_PUBLISHED, "n_steps": 100, "schedule": "decay", "sigma_start": 5.0, "sigma_end": 0.15, "estimate": "sde",
            "inner_steps": 100, "kept": "prior", "start": "zeros",
        },
        # From 5 on the bundled network takes known pixels for noise, and diverges
        "pnpdm inpaint": {"sigma_start": 1.0},
    }  # fmt: skip

    n_steps: int = shared(Chain, "n_steps", 20)
    schedule: Literal["karras", "ve", "vp", "decay"] = setting(
        "karras", "levels: karras or ve (geometric) from sigma_start to sigma_end, vp, or decay (by 0.9 to sigma_end)"
    )  # fmt: skip
    sigma_end: float = shared(Chain, "sigma_end", 0.003)
    start: Literal["degraded", "filled", "noise", "zeros"] = setting(
        "degraded", "noise of the first level is added to the degraded image, to it with lost pixels filled from their "
        "neighbourhood (filled), or to nothing (noise); zeros: an empty image without noise",
    )  # fmt: skip
    covariance: Literal["spectrum", "level", "langevin"] = setting(
        "spectrum", "R before it is matched: E, s^2, or what a Langevin chain reaches of it"
    )
    inflation: float = setting(1.0, "a factor of the prior's error spectrum", above=0)
    matched: bool = setting(True, "R follows the residuals, see above")
    cg_iters: int = setting(15, "CG steps of a draw", at_least=1)
    centre: Literal["dds", "none"] = setting("dds", "whose runs give the mean of several samples")
    estimate: Literal["denoiser", "ode", "sde"] = setting(
        "denoiser", "from a noisy image to a clean one: D(x, s), the end of an ODE, or a draw of the reverse SDE"
    )  # fmt: skip
    inner_steps: int = setting(5, "levels of that ODE, or of the SDE's whole grid", at_least=1)
    inner_solver: SolverName = setting("ddim", "of that ODE; others of order 2 (`toolbox.solved`)")
    kept: Literal["data", "prior"] = setting(
        "data", "the sample is the image drawn with the data, or the prior's answer to it"
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.inner_solver != "ddim" and self.estimate != "ode":
            raise ConfigError(
                f"Split: inner_solver={self.inner_solver} solves the ODE of estimate=ode, got estimate={self.estimate}"
            )

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds x0, a draw. Raises DivergenceError."""
        levels, k = self.levels_for(problem), problem.item_ndim
        x = (
            torch.zeros_like(blank(problem))
            if self.start == "zeros"
            else self.first(problem, draws, levels[0])
        )
        matched = Matched(x, k) if self.matched else None
        for level in levels:
            if self.kept == "prior":
                z = self._drawn(problem, x, self._power(prior, level, x), matched, level, draws)
                x = x0 = self._clean(prior, z, level, draws, k)
            else:
                d = self._clean(prior, x, level, draws, k)
                x0 = self._drawn(problem, d, self._power(prior, level, d), matched, level, draws)
            yield self.step(level, x0, prior.evaluations)
            if level.next and self.kept == "data":
                x = renoised(x0, None, draws.normal_like(x0, k), level.next, 1)

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps; times inner_steps for daps

        Of a sample; the mean of several takes half as many runs of dds besides.
        """
        return sum(len(self._walk(level)) for level in self.levels())

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level that a denoiser hears."""
        heard = [s for level in self.levels_for(problem) for s in self._walk(level)]
        return min(heard), max(heard)

    def mean_by(self, operator: OperatorTraits) -> Sampler | None:
        """The tuned dds, where centre says so."""
        return DDS.configured("tuned", operator, {}) if self.centre == "dds" else None

    def _walk(self, level: NoiseLevel) -> list[float]:
        """The noise levels at which the prior is called within a level."""
        if self.estimate == "denoiser":
            return [level.told]
        walk = flow_levels if self.estimate == "ode" else reverse_levels
        return walk(level.told, self.inner_steps)

    def _clean(self, prior: ImagePrior, x: Tensor, level: NoiseLevel, draws: Draws, k: int) -> Tensor:  # fmt: skip
        def denoise(v: Tensor, sigma: float) -> Tensor:
            return prior(v, sigma, turn=self.turn(level))

        if self.estimate == "sde":
            return reverse_draw(denoise, x, self._walk(level), lambda: draws.normal_like(x, k))
        return flow_end(denoise, x, self._walk(level), Solver(self.inner_solver))

    def _power(self, prior: ImagePrior, level: NoiseLevel, like: Tensor) -> Tensor:
        """inflation E by frequency; s^2 where it is not known."""
        known = prior.error_power(level.told) if self.covariance == "spectrum" else None
        if known is None:
            return torch.full(like.shape[-2:], self._variance(level), dtype=torch.float64)
        return self.inflation * known

    def _variance(self, level: NoiseLevel) -> float:
        """R without a spectrum: s^2; of a Langevin chain of time t from d, s^2 (1 - exp(-2 t / s^2))."""
        if self.covariance != "langevin":
            return level.sigma**2
        t = WALK * (1 + (0.01 - 1) * level.i / level.n)
        return -(level.sigma**2) * math.expm1(-2 * t / level.sigma**2)

    def _drawn(
        self, problem: Problem, d: Tensor, power: Tensor, matched: Matched | None, level: NoiseLevel, draws: Draws
    ) -> Tensor:  # fmt: skip
        """x0 ~ N(d, R) exp(-f), f the data term, up to CG."""
        term, most, k = weighted_term(problem, level.sigma), level.sigma**2, problem.item_ndim
        root = Root(power.clamp(max=most) if matched is None else matched(power, most), d)
        e1 = draws.normal_like(term.y, term.operator.measured_ndim)
        e2 = draws.normal_like(d, k)
        e1 = e1 if term.precision is None else term.precision**0.5 * e1
        noise, found = root(term.operator.adjoint(e1)), root(term.gradient(d))
        spread = root(term.normal(root(e2)))
        if matched is not None:
            matched.follow(found, spread, noise)

        def system(v: Tensor) -> Tensor:
            return v + root(term.normal(root(v)))

        u = cg(system, noise - found - spread, iters=self.cg_iters, item_ndim=k).x
        return d + root(e2 + u)
