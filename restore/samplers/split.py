"""Split: one denoiser call a level, then an exact draw of the clean image from a Gaussian around it times the data.

The split of Zhang, Chu, Berner, Meng, Anandkumar, Song, "Improving diffusion inverse problem solving with decoupled
noise annealing" (DAPS), CVPR 2025, with a linear solve in place of their Langevin steps and a measured covariance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.linalg.conjugate_gradients import cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import Chain, renoised
from restore.samplers.toolbox.levels import NoiseLevel
from restore.solvers.proximal import DataTerm

_NOISELESS = 0.01  # deviation of the noise assumed where none is known, relative to s ||A||


@dataclasses.dataclass(frozen=True)
class Split(Chain):
    """Split sampling with an exact inner draw.

    At each level s: d = D(x, s); x0 is drawn from N(d, R) times the likelihood; x' = x0 + s' n. With R = B B, W the
    precision of the data and white e1, e2 of measurement and image, x0 = d + B v where
    (I + B A^H W A B) v = e2 + B A^H (W (y - A d) + W^1/2 e1), by cg_iters steps of CG from v = e2: what the data say
    nothing about has its spread of N(d, R) from the first step, however few are made.

    covariance "spectrum": R is diagonal in Fourier, min(s^2, inflation E(s, f)) with E the power of the denoiser's
    error, which the prior knows (`restore.priors.error_spectrum`); where it does not, and for "level", R = s^2.
    With the exact error of a Gaussian prior, inflation 1 and many CG steps, every level is an exact draw from the
    posterior at any number of levels.
    Unknown noise, or none: a deviation of 0.01 s ||A|| is assumed, which fades along the chain.

    Differs from the paper:
    - one call of the denoiser a level in place of an ODE solve: the end point of the ODE is no mean, and R = s^2 around
      it doubles the variance of the samples.
    - the inner draw is exact up to CG; DAPS takes 100 Langevin steps a level.
    - E is a mean over images: where an image is harder than the others the spread is too small, and inflation 2 makes
      up for it (0.77 to 0.84 of the pixels in the interval of 8 samples, where 0.78 is right).
    - the mean of samples is 1 to 5 dB below that of the tuned `dds`, whose spread is far too small; most where much of
      the image is air, since R is the same everywhere.
    """

    error: ClassVar[bool] = True
    reference: ClassVar[str] = "Zhang and others: DAPS, CVPR 2025, with an exact inner draw"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned mri": {"sigma_start": 1.0},
        "tuned inpaint": {"sigma_start": 1.0},
        # Twice the calls and draws that have converged
        "posterior": {"n_steps": 40, "cg_iters": 30},
        # The right mean and spread on a Gaussian prior
        "posterior-analytic": {
            "sigma_start": 20.0, "start": "noise", "inflation": 1.0, "cg_iters": 40, "turns": False,
        },
    }  # fmt: skip

    n_steps: int = shared(Chain, "n_steps", 20)
    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    sigma_end: float = shared(Chain, "sigma_end", 0.003)
    start: Literal["degraded", "noise"] = shared(Chain, "start")
    covariance: Literal["spectrum", "level"] = setting("spectrum", "R, see above")
    inflation: float = setting(2.0, "a factor of the prior's error spectrum", above=0)
    cg_iters: int = setting(15, "CG steps of a draw", at_least=1)

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds x0, a draw. Raises DivergenceError."""
        levels = self.levels()
        x = self.first(problem, draws, levels[0])
        for level in levels:
            d = self.denoised(prior, x, level)
            root = Root(self._power(prior, level), d)
            x0 = self._drawn(problem, d, root, level, draws)
            yield self.step(level, x0, prior.evaluations)
            if level.next:
                x = renoised(x0, None, draws.normal_like(x0, problem.item_ndim), level.next, 1)

    def _power(self, prior: ImagePrior, level: NoiseLevel) -> Tensor | float:
        """R, by frequency where it differs."""
        known = prior.error_power(level.told) if self.covariance == "spectrum" else None
        most = level.sigma**2
        return most if known is None else (self.inflation * known).clamp(max=most)

    def _drawn(
        self, problem: Problem, d: Tensor, root: Root, level: NoiseLevel, draws: Draws
    ) -> Tensor:
        """x0 ~ N(d, R) exp(-f), f the data term, up to CG."""
        term = self._term(problem, level)
        operator, k = term.operator, problem.item_ndim
        e1 = draws.normal_like(term.y, operator.measured_ndim)
        e2 = draws.normal_like(d, k)
        noise = operator.adjoint(e1 if term.precision is None else term.precision**0.5 * e1)
        shift = root(noise - term.gradient(d))

        def system(v: Tensor) -> Tensor:
            return v + root(term.normal(root(v)))

        return d + root(cg(system, e2 + shift, e2, iters=self.cg_iters, item_ndim=k).x)

    def _term(self, problem: Problem, level: NoiseLevel) -> DataTerm:
        """The weighted data term, with an assumed weight where the noise has none."""
        if problem.precision is not None:
            return problem.data
        deviation = _NOISELESS * level.sigma * problem.linear.norm()
        return DataTerm(problem.linear, problem.unit_y, deviation**-2)


class Root:
    """B = R^1/2 for R constant or diagonal in the 2-D DFT, of re and im alike.

    power: R, a number or (H, W) or (C, H, W), symmetric under frequency reversal. like: an image, for type and device.
    """

    def __init__(self, power: Tensor | float, like: Tensor) -> None:
        real = like.real.dtype if like.is_complex() else like.dtype
        self.gain: Tensor | float = (
            power.sqrt().to(like.device, real) if isinstance(power, Tensor) else power**0.5
        )

    def __call__(self, x: Tensor) -> Tensor:
        """B x. x: (..., H, W)."""
        if isinstance(self.gain, float):
            return self.gain * x
        out = torch.fft.ifft2(torch.fft.fft2(x) * self.gain)
        return out if x.is_complex() else out.real
