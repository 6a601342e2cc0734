"""DDS: data consistency by Krylov steps on the Tweedie estimate, in 2-D and, with TV along z, in 3-D.

Chung, Lee, Ye, "Decomposed diffusion sampler for accelerating large-scale inverse problems", ICLR 2024; the 3-D part
after Chung, Ryu, McCann, Klasky, Ye, "Solving 3D inverse problems using pre-trained 2D diffusion models", CVPR 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import Result, Solution
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers import schedules
from restore.samplers.base import Sampler, finite
from restore.solvers.admm import AdmmTV
from restore.solvers.exact_step import closed_form
from restore.solvers.proximal import data_step, krylov_step

ENOUGH_DATA = 2.5
"""Unknowns a measured number up to which the tuned start is right (CT: 30 views of a 122 x 102 slice)."""


@dataclasses.dataclass(frozen=True)
class DDS(Sampler):
    """Decomposed diffusion sampler.

    n_steps: network evaluations (the VP grid may add one). schedule: "karras" or "ve" (geometric) from sigma_start to
    sigma_end, or "vp" (the published grid; sigma_start unused). start: from noise, or from the
    degraded image plus noise of sigma_start. few_data > 0: with u unknowns a measured number, u > 2.5, sigma_start is
    raised by (u / 2.5)^few_data, as the degraded image is the worse.
    eta: stochastic share; noise_rule "ddnm" (code) or "ddim" (paper).
    data_weight: "noise" (gamma_t sigma_t^2 times the precision of the data, gamma_t from gamma to gamma_end with
    log sigma), "fixed" (gamma as is, on A^H A), or "krylov"
    (noiseless: cg_iters steps on A^H A alone); with unknown noise "noise" means "krylov".
    "noise" is solved in closed form where there is one (`solvers.closed_form`), else by cg_iters steps of CG.
    landing: published code adds no noise on the step that lands on the last level.
    tv_weight > 0 couples the slices along z: DDS-3D with penalty tv_rho, boundary tv_boundary.

    Differs from the paper:
    - data step weighted by the noise level, start from the degraded image, eta 1: the tuned presets; worth 1 to 4 dB
      (benchmarks/RESULTS.md). The published settings are the presets "published*".
    - the network sees the image in another of its eight orientations at every step (turns): up to 0.2 dB for nothing.
    - with eta 1 the spread over samples is too small: on a Gaussian prior half the posterior covariance at gamma 1,
      and less at the tuned gamma, which favours the mean. The preset "posterior" has the right spread.
    - Hermitian inner products in CG and a right-hand side x0 + gamma A^H y for complex images: the released MRI code
      has neither and converges to (1 + i) times the image.
    - 3-D: the published data step has no proximal term; the "noise" weight keeps it.
    """

    reference: ClassVar[str] = "Chung, Lee, Ye: Decomposed diffusion sampler, ICLR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # chosen with benchmarks/tune.py; benchmarks/RESULTS.md says on what
        "tuned": {},
        "tuned MultiCoilMRI": {"n_steps": 60, "sigma_start": 0.25, "gamma_end": 1.5, "cg_iters": 20},
        "tuned ParallelBeamCT": {"n_steps": 60, "sigma_start": 0.1, "few_data": 1.2, "cg_iters": 15},
        "tuned Inpainting": {"n_steps": 60, "sigma_start": 1.0},
        "tuned Identity": {"gamma": 1.0},
        # Eta and gamma for which the spread of the samples is right on a Gaussian prior (gamma = 1 - sqrt(1 - eta^2))
        "posterior": {
            "n_steps": 300, "sigma_start": 5.0, "sigma_end": 0.003, "eta": 0.5, "gamma": 0.134, "cg_iters": 20,
        },
        "published": {
            "n_steps": 50, "schedule": "vp", "start": "noise", "eta": 0.85, "cg_iters": 5, "data_weight": "fixed",
            "gamma": 1.0, "landing": True, "turns": False,
        },
        "published-noiseless": {
            "n_steps": 50, "schedule": "vp", "start": "noise", "eta": 0.85, "cg_iters": 5,
            "data_weight": "krylov", "gamma": 1.0,
            "landing": True, "turns": False,
        },
        "published-3d": {
            "n_steps": 50, "schedule": "vp", "start": "noise", "eta": 0.85, "cg_iters": 5,
            "data_weight": "krylov", "gamma": 1.0,
            "landing": True, "turns": False, "tv_weight": 0.04, "tv_rho": 10.0, "tv_boundary": "periodic",
        },
    }  # fmt: skip

    n_steps: int = 30
    schedule: Literal["karras", "ve", "vp"] = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    few_data: float = 0.0
    start: Literal["degraded", "noise"] = "degraded"
    eta: float = 1.0
    noise_rule: Literal["ddnm", "ddim"] = "ddnm"
    data_weight: Literal["noise", "fixed", "krylov"] = "noise"
    gamma: float = 3.0
    gamma_end: float | None = None  # None: gamma throughout
    cg_iters: int = 10
    landing: bool = False
    turns: bool = True
    tv_weight: float = 0.0
    tv_rho: float = 0.1
    tv_boundary: Literal["periodic", "neumann"] = "neumann"

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.cg_iters < 1:
            raise ConfigError(
                f"DDS: n_steps and cg_iters must be at least 1, got {self.n_steps} and {self.cg_iters}"
            )
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"DDS: eta must lie in 0..1, got {self.eta}")
        gamma_end = self.gamma if self.gamma_end is None else self.gamma_end
        limits = (
            self.gamma > 0,
            gamma_end > 0,
            self.tv_rho > 0,
            self.tv_weight >= 0,
            self.few_data >= 0,
        )
        values = self.gamma, gamma_end, self.tv_rho, self.tv_weight, self.few_data
        if not all(limits) or max(values) == math.inf:
            raise ConfigError(
                "DDS: gamma, gamma_end and tv_rho must be positive, tv_weight and few_data zero or more, all finite"
            )
        self.sigmas()

    def sigmas(self) -> Tensor:
        """The noise levels at which the network is called, descending."""
        if self.schedule == "vp":
            return schedules.vp_grid(self.n_steps)
        levels = schedules.karras if self.schedule == "karras" else schedules.geometric
        return levels(self.n_steps, self.sigma_start, self.sigma_end)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate after data consistency."""
        if prior is None:
            raise ConfigError("DDS needs a denoising prior; give prior='medical' or 'natural'")
        if self.few_data and self.start == "degraded":
            raised = dataclasses.replace(
                self, sigma_start=self._raised_start(problem), few_data=0.0
            )
            yield from raised.steps(problem, prior, draws)
            return
        sigmas = [float(s) for s in self.sigmas()]
        consistent = _DataConsistency(self, problem)
        x = self._start(problem, draws, sigmas[0])
        for i, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            x0 = prior(x, s, turn=i if self.turns else 0)  # Tweedie
            xh, code = consistent(x0, s)
            finite(self, xh, i, len(sigmas), s)
            yield Step(i, len(sigmas), s, xh, prior.evaluations, {"cg": code})
            landing = s_next == 0 or (self.landing and i == len(sigmas) - 2)
            if landing:
                x = xh * self._landing_scale(s_next)
            else:
                x = self._renoise(xh, x, x0, s, s_next, draws, problem.item_ndim)

    def _raised_start(self, problem: Problem) -> float:
        """sigma_start for the share of unknowns that nothing was measured of."""
        unknowns = math.prod(problem.operator.in_shape) / math.prod(problem.operator.out_shape)
        return self.sigma_start * max(1.0, unknowns / ENOUGH_DATA) ** self.few_data

    def _start(self, problem: Problem, draws: Draws, sigma: float) -> Tensor:
        """The published chain begins with pure N(0, I) in VP coordinates, which is n sqrt(1 + sigma^2) here."""
        n = draws.normal_like(torch.empty_like(problem.data.rhs), problem.item_ndim)
        if self.start == "degraded":
            return problem.degraded + sigma * n
        return n * ((1 + sigma**2) ** 0.5 if self.schedule == "vp" else sigma)

    def _landing_scale(self, s_next: float) -> float:
        """Released code hands xh on as the VP state itself, without sqrt(a): 5e-5 of the image at its last level."""
        return (1 + s_next**2) ** 0.5 if self.schedule == "vp" else 1.0

    def _renoise(
        self,
        xh: Tensor,
        x: Tensor,
        x0: Tensor,
        s: float,
        s_next: float,
        draws: Draws,
        item_ndim: int,
    ) -> Tensor:
        """x' = xh + s' (sqrt(1 - eta^2) eps + eta n), eps = (x - x0) / s.

        The paper's DDIM rule shrinks eta by sqrt(1 - s'^2/s^2).
        """
        eta = self.eta * (1 - (s_next / s) ** 2) ** 0.5 if self.noise_rule == "ddim" else self.eta
        x_next = torch.add(xh, draws.normal_like(xh, item_ndim), alpha=s_next * eta)
        share = s_next * (1 - eta**2) ** 0.5
        return x_next.add_(x - x0, alpha=share / s) if share else x_next


class _DataConsistency:
    """The data step of one run: proximal, Krylov, or ADMM-TV along z whose split variables persist over the steps."""

    def __init__(self, settings: DDS, problem: Problem) -> None:
        self.settings = settings
        weighted = settings.data_weight == "noise" and problem.noise is not None
        self.mode = (
            "krylov" if settings.data_weight == "noise" and not weighted else settings.data_weight
        )
        self.term = problem.data if weighted else problem.unweighted
        self.admm: AdmmTV | None = None
        if settings.tv_weight > 0:
            depth = problem.item_ndim + 1
            if len(problem.image_shape) < depth:
                raise ConfigError(
                    "DDS-3D couples slices: the measurement needs a slice dimension, or tv_weight=0"
                )
            self.admm = AdmmTV(
                self.term.normal, self.term.rhs, settings.tv_weight, settings.tv_rho,
                axes=(-depth,), item_ndim=depth, boundary=settings.tv_boundary,
            )  # fmt: skip

        exact = self.mode == "noise" and self.admm is None
        self.closed = closed_form(self.term) if exact else None

    def __call__(self, x0: Tensor, sigma: float) -> tuple[Tensor, int]:
        """The consistent image and the worst `solvers.cg.Result` of its items."""
        if self.closed is not None:
            return self.closed(x0, self._weight(sigma)), int(Result.CONVERGED)
        solution = self._iterated(x0, sigma)
        return solution.x, int(solution.worst)

    def _weight(self, sigma: float) -> float:
        """gamma as is, or sigma^2 times a gamma that goes from `gamma` to `gamma_end` with log sigma."""
        s = self.settings
        if self.mode != "noise":
            return s.gamma
        if s.gamma_end is None:
            return s.gamma * sigma**2
        first, last = float(s.sigmas()[0]), float(s.sigmas()[-1])
        late = math.log(first / sigma) / math.log(first / last) if first > last else 0.0
        return s.gamma * (s.gamma_end / s.gamma) ** late * sigma**2

    def _iterated(self, x0: Tensor, sigma: float) -> Solution:
        s, weight = self.settings, self._weight(sigma)
        if self.admm is None:
            if self.mode == "krylov":
                return krylov_step(self.term, x0, iters=s.cg_iters)
            return data_step(self.term, x0, weight, iters=s.cg_iters)
        if self.mode == "krylov":
            return self.admm.step(x0, iters=s.cg_iters)
        self.admm.normal, self.admm.rhs = (
            (lambda v: weight * self.term.normal(v)),
            weight * self.term.rhs,
        )
        return self.admm.step(x0, iters=s.cg_iters, proximal=1.0)
