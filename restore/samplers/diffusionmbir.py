"""DiffusionMBIR: predictor-corrector diffusion slice by slice, joined into a volume by ADMM-TV across the slices.

Chung, Ryu, McCann, Klasky, Ye, "Solving 3D inverse problems using pre-trained 2D diffusion models", CVPR 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.bridges.roundings import single, single_linspace
from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers import schedules
from restore.samplers.base import Sampler, finite
from restore.samplers.consistency import ProximalStep
from restore.solvers.admm import AdmmTV
from restore.solvers.proximal import krylov_step


@dataclasses.dataclass(frozen=True)
class DiffusionMBIR(Sampler):
    """Model-based iterative reconstruction with a diffusion prior on slices and total variation across them.

    The measurement is a stack of slices, (..., slices, *out_shape). Slices of one volume are coupled: the result of a
    slice depends on its neighbours, and a volume must be given whole. Several volumes at once do not mix.
    Noise is drawn per slice.

    n_steps: levels from sigma_max down to sigma_min, two network calls each; schedule: "ve" (geometric) or "karras".
    consistency: what the data and TV act on. "noisy" (paper): on the noisy volume itself, one unweighted ADMM pass a
    level. "estimate" (ours): on the denoised volume, after each network call, with the noise-weighted data term and a
    proximal term of gamma sigma^2 as in DDS; unknown noise: cg_iters Krylov steps, no proximal term.
    start: "noise", or "degraded": the classical image plus noise of sigma_max.
    snr: Langevin step 2 (snr ||n|| / ||score||)^2. step_norms "slice": norms of each slice; "chunk": means over
    chunks of slices, torch.chunk(x, slices // chunk + 1), as in the released code, where the result depends on it.
    tv_weight (lambda), tv_rho: TV and its penalty; tv_axes "z" or "all" (z and both axes of the slice, one lambda, the
    parts shrunk one by one); tv_boundary. tv_weight 0 leaves the slices uncoupled. In "estimate" lambda grows with the
    noise: it is tv_weight sigma beside a proximal term of weight 1 / gamma. tv_scale "norm": lambda and rho of
    "noisy" are multiplied by ||A||^2, so that they fit an operator of any scale (lambda/rho stays an intensity).
    final: one Kaczmarz step x + A^H (y - A x) / (A^H A 1) at the end; pixels that no ray meets are left alone.
    official_index: level floor(t (N - 1)) of a float32 time grid, which repeats some levels and leaves out others.
    turns: the network sees the image in another of its eight orientations at every call.

    Step.x0 is the denoised volume, except for the last step of "noisy", whose x0 is the volume of the chain.

    Differs from the paper:
    - the Langevin step is one per slice, so that a slice's chunk does not matter; step_norms="chunk" is as published.
    - levels are counted by integers; official_index=True is as published.
    - the preset "tuned" (and the defaults) start from the classical image at a moderate noise level, hold the
      denoised volume to the data instead of the noisy one, weight the data by its noise, take the corrector
      before the predictor, fresh noise of the next level in the predictor, and no periodic wrap: about
      a thirtieth of the 4000 evaluations (benchmarks/VOLUME_3D.md).
    - complex images are served, by Hermitian inner products and shrinking of magnitudes.
    """

    cost: ClassVar[str] = "2 * n_steps"
    serves: ClassVar[str] = "any linear operator, on a stack of slices"
    reference: ClassVar[str] = (
        "Chung, Ryu, McCann, Klasky, Ye: Solving 3D inverse problems using pre-trained 2D diffusion models, CVPR 2023"
    )  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned MultiCoilMRI": {"sigma_max": 0.25, "cg_iters": 15},
        # weights for the projector of the released code; "published-ct" is the same relative to ||A||^2
        "published": {
            "n_steps": 2000, "schedule": "ve", "sigma_max": 378.0, "sigma_min": 0.01, "consistency": "noisy",
            "start": "noise", "snr": 0.16, "cg_iters": 1, "step_norms": "chunk", "chunk": 12, "tv_weight": 0.04,
            "tv_rho": 10.0, "tv_boundary": "periodic", "final": True, "turns": False,
        },
        "published-ct": {
            "n_steps": 2000, "schedule": "ve", "sigma_max": 378.0, "sigma_min": 0.01, "consistency": "noisy",
            "start": "noise", "snr": 0.16, "cg_iters": 1, "step_norms": "chunk", "chunk": 12, "tv_weight": 1e-4,
            "tv_rho": 0.025, "tv_scale": "norm", "tv_boundary": "periodic", "final": True, "turns": False,
        },
        "published-mri": {
            "n_steps": 2000, "schedule": "ve", "sigma_max": 378.0, "sigma_min": 0.01, "consistency": "noisy",
            "start": "noise", "snr": 0.16, "cg_iters": 1, "step_norms": "chunk", "chunk": 20, "tv_weight": 0.005,
            "tv_rho": 0.01, "tv_boundary": "periodic", "final": False, "turns": False,
        },
    }  # fmt: skip

    n_steps: int = 60
    schedule: Literal["karras", "ve"] = "karras"
    sigma_max: float = 0.5
    sigma_min: float = 0.005
    start: Literal["degraded", "noise"] = "degraded"
    consistency: Literal["estimate", "noisy"] = "estimate"
    gamma: float = 3.0
    cg_iters: int = 10
    snr: float = 0.16
    step_norms: Literal["slice", "chunk"] = "slice"
    chunk: int = 12
    tv_weight: float = 0.5
    tv_rho: float = 0.3
    tv_axes: Literal["z", "all"] = "z"
    tv_boundary: Literal["periodic", "neumann"] = "neumann"
    tv_scale: Literal["absolute", "norm"] = "absolute"
    final: bool = False
    official_index: bool = False
    turns: bool = True

    def __post_init__(self) -> None:
        whole = {"n_steps": self.n_steps, "cg_iters": self.cg_iters, "chunk": self.chunk}
        for name, value in whole.items():
            if value < 1:
                raise ConfigError(f"DiffusionMBIR: {name} must be at least 1, got {value}")
        for name in ("gamma", "snr", "tv_rho", "tv_weight"):
            value = getattr(self, name)
            if not (0 <= value < math.inf) or (value == 0 and name in ("gamma", "tv_rho")):
                floor = "zero or more" if name in ("snr", "tv_weight") else "positive"
                raise ConfigError(f"DiffusionMBIR: {name} must be {floor} and finite, got {value}")
        if self.official_index and self.schedule != "ve":
            raise ConfigError("DiffusionMBIR: official_index belongs to schedule='ve'")
        self.levels()

    def levels(self) -> list[tuple[float, float, float]]:
        """Noise level that the network is told, level s and next lower level (0 at the end), in order of the steps."""
        make = schedules.geometric if self.schedule == "ve" else schedules.karras
        s = [0.0, *make(self.n_steps, self.sigma_max, self.sigma_min).flip(0).tolist()]
        if not self.official_index:
            return [(s[k], s[k], s[k - 1]) for k in range(self.n_steps, 0, -1)]
        t = single_linspace(1, 1e-10, self.n_steps)
        told = self.sigma_min * (self.sigma_max / self.sigma_min) ** t
        index = single(t * (self.n_steps - 1)).long().tolist()
        return [(label, s[k + 1], s[k]) for label, k in zip(told.tolist(), index, strict=True)]

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain. Raises ConfigError where there is no prior or no slice dimension, DivergenceError."""
        if prior is None:
            raise ConfigError("DiffusionMBIR needs a denoising prior; give prior='medical'")
        if len(problem.image_shape) <= problem.item_ndim:
            raise ConfigError(
                f"DiffusionMBIR couples the slices of a volume, and the measurement {tuple(problem.y.shape)} has no "
                "slice dimension; give (slices, ...), or use dds for a single image"
            )
        run = self._noisy if self.consistency == "noisy" else self._estimated
        return run(problem, prior, draws)

    def _noisy(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """The published chain: predictor, corrector at the same level, ADMM-TV on the noisy volume."""
        levels, data = self.levels(), _NoisyStep(self, problem)
        x = self._start(problem, draws)
        for i, (told, s, lower) in enumerate(levels):
            variance = s**2 - lower**2
            x0 = prior(x, told, turn=2 * i * self.turns)
            x = x + (variance / told**2) * (x0 - x)  # reverse diffusion, score (x0 - x) / sigma^2
            x = x.add_(draws.normal_like(x, problem.item_ndim), alpha=variance**0.5)
            x0 = prior(x, told, turn=(2 * i + 1) * self.turns)
            x = self._langevin(x, (x0 - x) / told**2, draws, problem)
            x = finite(self, data(x), i, self.n_steps, told)
            if i == self.n_steps - 1:
                x0 = _kaczmarz(x, problem) if self.final else x
            yield Step(i, self.n_steps, told, x0, prior.evaluations)

    def _estimated(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Ours: corrector, then predictor by fresh noise of the next level, both from the consistent estimate."""
        levels, consistent = self.levels(), _EstimateStep(self, problem)
        x = self._start(problem, draws)
        for i, (told, s, lower) in enumerate(levels):
            xh = consistent(prior(x, told, turn=2 * i * self.turns), s)
            x = self._langevin(x, (xh - x) / s**2, draws, problem)
            xh = consistent(prior(x, told, turn=(2 * i + 1) * self.turns), s)
            finite(self, xh, i, self.n_steps, told)
            x0 = _kaczmarz(xh, problem) if self.final and i == self.n_steps - 1 else xh
            yield Step(i, self.n_steps, told, x0, prior.evaluations)
            x = torch.add(xh, draws.normal_like(x, problem.item_ndim), alpha=lower)

    def _start(self, problem: Problem, draws: Draws) -> Tensor:
        n = draws.normal_like(torch.empty_like(problem.data.rhs), problem.item_ndim)
        base = problem.degraded if self.start == "degraded" else 0.0
        return base + self.sigma_max * n

    def _langevin(self, x: Tensor, score: Tensor, draws: Draws, problem: Problem) -> Tensor:
        """x + eps score + sqrt(2 eps) n, eps = 2 (snr ||n|| / ||score||)^2; a zero score gives no step."""
        n = draws.normal_like(x, problem.item_ndim)
        pull, push = self._norm(score, problem), self._norm(n, problem)
        eps = torch.where(pull > 0, 2 * (self.snr * push / torch.where(pull > 0, pull, 1)) ** 2, 0)
        return x + eps * score + (2 * eps).sqrt() * n

    def _norm(self, x: Tensor, problem: Problem) -> Tensor:
        """Norm of each slice, or its mean over a chunk of slices, shaped to broadcast over x."""
        rank = problem.item_ndim
        norms = torch.linalg.vector_norm(x, dim=tuple(range(-rank, 0)), keepdim=True)
        if self.step_norms == "slice":
            return norms
        axis = x.ndim - rank - 1
        parts = norms.chunk(x.shape[axis] // self.chunk + 1, axis)
        return torch.cat([p.mean(axis, keepdim=True).expand_as(p) for p in parts], axis)


class _NoisyStep:
    """The published data step: one ADMM-TV pass on the volume as it is; the split variables persist."""

    def __init__(self, settings: DiffusionMBIR, problem: Problem) -> None:
        self.term, self.iters = problem.unweighted, settings.cg_iters
        unit = problem.linear.norm() ** 2 if settings.tv_scale == "norm" else 1.0
        self.admm = _admm(settings, problem, self.term.normal, self.term.rhs, unit)

    def __call__(self, x: Tensor) -> Tensor:
        if self.admm is None:
            return krylov_step(self.term, x, iters=self.iters).x
        return self.admm.step(x, iters=self.iters).x


class _EstimateStep:
    """D -> argmin_v gamma sigma^2 f(v) + 1/2 ||v - D||^2 + lambda sigma TV(v), by one ADMM pass a call.

    The split variables persist. The scaled multiplier u is proportional to lambda sigma and follows it.
    """

    def __init__(self, settings: DiffusionMBIR, problem: Problem) -> None:
        self.settings, self.term = settings, problem.data
        self.weighted = problem.precision is not None
        self.admm = _admm(settings, problem, self.term.normal, self.term.rhs, 1.0)
        self.proximal = ProximalStep(problem, cg_iters=settings.cg_iters)
        self.last = settings.sigma_max

    def __call__(self, estimate: Tensor, sigma: float) -> Tensor:
        s, admm = self.settings, self.admm
        if admm is None:
            return self.proximal(estimate, s.gamma**0.5 * sigma)
        admm.weight, admm.u = s.tv_weight * sigma, admm.u * (sigma / self.last)
        self.last = sigma
        if not self.weighted:
            return admm.step(estimate, iters=s.cg_iters).x
        w = s.gamma * sigma**2
        admm.normal, admm.rhs = (lambda v: w * self.term.normal(v)), w * self.term.rhs
        return admm.step(estimate, iters=s.cg_iters, proximal=1.0).x


def _admm(
    settings: DiffusionMBIR, problem: Problem, normal: Any, rhs: Tensor, unit: float
) -> AdmmTV | None:
    """The splitting for whole volumes: one dimension more than a slice, one set of CG scalars each."""
    if settings.tv_weight == 0:
        return None
    depth = problem.item_ndim + 1
    axes = (-depth, -2, -1) if settings.tv_axes == "all" else (-depth,)
    return AdmmTV(
        normal, rhs, settings.tv_weight * unit, settings.tv_rho * unit,
        axes=axes, item_ndim=depth, boundary=settings.tv_boundary,
    )  # fmt: skip


def _kaczmarz(x: Tensor, problem: Problem) -> Tensor:
    """x + A^H (y - A x) / (A^H A 1), elementwise; nothing where A^H A 1 vanishes."""
    reach = problem.unweighted.normal(torch.ones_like(x))
    size = reach.abs()
    met = size > 1e-6 * size.amax()
    return x - torch.where(met, problem.unweighted.gradient(x) / torch.where(met, reach, 1), 0)
