"""DiffusionMBIR: predictor-corrector diffusion slice by slice, joined into a volume by ADMM-TV across the slices.

Chung, Ryu, McCann, Klasky, Ye, "Solving 3D inverse problems using pre-trained 2D diffusion models", CVPR 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from restore.bridges.roundings import single, single_linspace
from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox import levels
from restore.samplers.toolbox.chain import Chain
from restore.samplers.toolbox.consistency import TV_AXES, ProximalStep, SliceTV, VolumeStep
from restore.samplers.toolbox.items import item_norm
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.neighbours import Z_NOISE, independent, neighbouring
from restore.solvers.tv import Boundary

_PAPER: dict[str, Any] = {
    "n_steps": 2000, "schedule": "ve", "sigma_start": 378.0, "sigma_end": 0.01, "consistency": "noisy",
    "start": "noise", "snr": 0.16, "cg_iters": 1, "step_norms": "chunk", "tv_boundary": "periodic", "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DiffusionMBIR(Chain):
    """Model-based iterative reconstruction with a diffusion prior on slices and total variation across them.

    The measurement is of a stack of slices, (..., slices, *out_shape), or of volumes. Slices of one volume are coupled:
    the result of a slice depends on its neighbours, and a volume must be given whole. Several volumes at once do not
    mix.
    Noise is drawn per slice.

    Each level has two network calls: a predictor, and a Langevin corrector x + eps score + sqrt(2 eps) n with
    eps = 2 (snr ||n|| / ||score||)^2. consistency says what the data and TV act on. "noisy" (paper): on the noisy
    volume itself, one unweighted ADMM pass a level. "estimate" (ours): on the denoised volume, after each network call:
    argmin_v gamma s^2 f(v) + ||v - D||^2 / 2 + tv_weight s TV(v), f the noise-weighted data term; unknown noise:
    cg_iters Krylov steps, no proximal term. tv_weight 0 leaves the slices uncoupled.
    final: one Kaczmarz step x + A^H (y - A x) / (A^H A 1) at the end; pixels that no ray meets are left alone.

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

    on: ClassVar[str] = "on a stack of slices"
    explains_exact: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Chung, Ryu, McCann, Klasky, Ye: Solving 3D inverse problems using pre-trained 2D diffusion models, CVPR 2023"
    )  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {"z_noise": -0.9},
        "tuned mri": {"sigma_start": 0.25, "cg_iters": 15},
        # weights for the projector of the released code; "published-ct" is the same relative to ||A||^2
        "published": {**_PAPER, "chunk": 12, "tv_weight": 0.04, "tv_rho": 10.0, "final": True},
        "published-ct": {
            **_PAPER, "chunk": 12, "tv_weight": 1e-4, "tv_rho": 0.025, "tv_scale": "norm", "final": True,
        },
        "published-mri": {**_PAPER, "chunk": 20, "tv_weight": 0.005, "tv_rho": 0.01},
    }  # fmt: skip

    n_steps: int = setting(60, "noise levels, two network evaluations each", at_least=1)
    schedule: Literal["karras", "ve"] = shared(Chain, "schedule")
    sigma_start: float = shared(Chain, "sigma_start", 0.5)
    start: Literal["degraded", "noise"] = shared(Chain, "start")
    consistency: Literal["estimate", "noisy"] = setting("estimate", "what data and TV act on")
    gamma: float = setting(3.0, "weight of the data in estimate", above=0)
    cg_iters: int = setting(10, "CG steps of a data step without closed form", at_least=1)
    snr: float = setting(0.16, "size of the Langevin step", at_least=0)
    step_norms: Literal["slice", "chunk"] = setting(
        "slice", "norms of the Langevin step: of each slice, or means over chunks (released code, where results depend "
        "on the chunk)",
    )  # fmt: skip
    chunk: int = setting(12, "torch.chunk(x, slices // chunk + 1)", at_least=1)
    tv_weight: float = setting(
        0.5, "lambda of TV; in estimate it is multiplied by s, beside 1 / gamma", at_least=0
    )
    tv_rho: float = setting(0.3, "its penalty", above=0)
    tv_axes: Literal["z", "all"] = setting("z", TV_AXES)
    tv_boundary: Boundary = setting("neumann", "its boundary")
    tv_scale: Literal["absolute", "norm"] = setting(
        "absolute",
        "norm: lambda and rho of noisy are multiplied by ||A||^2, to fit an operator of any scale",
    )
    z_noise: float = setting(0.0, Z_NOISE, between=(-1, 1))
    final: bool = setting(False, "end with a Kaczmarz step")
    official_index: bool = setting(
        False,
        "level floor(t (N - 1)) of a float32 time grid, which repeats some levels and leaves out others (ve)",
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.official_index and self.schedule != "ve":
            raise ConfigError("DiffusionMBIR: official_index belongs to schedule='ve'")

    def levels(self) -> list[NoiseLevel]:
        """The steps of a run."""
        if not self.official_index:
            return super().levels()
        s = [0.0, *levels.geometric(self.n_steps, self.sigma_start, self.sigma_end)[::-1]]
        t = single_linspace(1, 1e-10, self.n_steps)
        told = self.sigma_end * (self.sigma_start / self.sigma_end) ** t
        index = single(t * (self.n_steps - 1)).long().tolist()
        steps = enumerate(zip(index, told.tolist(), strict=True))
        return [NoiseLevel(i, self.n_steps, s[k + 1], s[k], label) for i, (k, label) in steps]

    @property
    def couples_slices(self) -> bool:
        """By total variation, or by their noise."""
        return self.tv_weight > 0 or self.z_noise != 0

    def for_samples(self, samples: int) -> tuple[Self, tuple[str, ...]]:
        """With independent noise of slices where there are several."""
        return independent(self, samples)

    def cost(self, problem: Problem | None = None) -> int:
        """2 n_steps"""
        return 2 * self.n_steps

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain. Raises ConfigError where there is no slice dimension, DivergenceError."""
        if problem.slice_axis is None:
            raise ConfigError(
                f"DiffusionMBIR couples the slices of a volume, and the measurement {tuple(problem.y.shape)} has no "
                "slice dimension; give (slices, ...), or use dds for a single image"
            )
        run = self._noisy if self.consistency == "noisy" else self._estimated
        return run(problem, prior, neighbouring(draws, self.z_noise, problem))

    def _noisy(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """The published chain: predictor, corrector at the same level, ADMM-TV on the noisy volume."""
        chain, data = self.levels(), self._data_step(problem, noisy=True)
        x = self.first(problem, draws, chain[0])
        for level in chain:
            told, variance = level.told, level.sigma**2 - level.next**2
            x0 = prior(x, told, turn=self.turn(level, 0))
            x = x + (variance / told**2) * (x0 - x)  # reverse diffusion, score (x0 - x) / sigma^2
            x = x.add_(draws.normal_like(x, problem.item_ndim), alpha=variance**0.5)
            x0 = prior(x, told, turn=self.turn(level, 1))
            x = self._langevin(x, (x0 - x) / told**2, draws, problem)
            x = self.finite(data(x, level), level._replace(sigma=told))
            if level.i == level.n - 1:
                x0 = _kaczmarz(x, problem) if self.final else x
            yield Step(level.i, level.n, told, x0, prior.evaluations)

    def _estimated(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Ours: corrector, then predictor by fresh noise of the next level, both from the consistent estimate."""
        chain, consistent = self.levels(), self._data_step(problem, noisy=False)
        x = self.first(problem, draws, chain[0])
        for level in chain:
            xh = consistent(prior(x, level.told, turn=self.turn(level, 0)), level)
            x = self._langevin(x, (xh - x) / level.sigma**2, draws, problem)
            xh = consistent(prior(x, level.told, turn=self.turn(level, 1)), level)
            x0 = _kaczmarz(xh, problem) if self.final and level.i == level.n - 1 else xh
            yield self.step(level._replace(sigma=level.told), x0, prior.evaluations)
            x = torch.add(xh, draws.normal_like(x, problem.item_ndim), alpha=level.next)

    def turn(self, level: NoiseLevel, call: int = 0) -> int:
        """The orientation that the network sees at the first or second call of a level."""
        return (2 * level.i + call) * self.turns

    def _data_step(
        self, problem: Problem, *, noisy: bool
    ) -> Callable[[Tensor, NoiseLevel], Tensor]:
        """The data step of one run, with TV where it has a weight."""
        tv = SliceTV(self.tv_weight, self.tv_rho, self.tv_boundary, self.tv_axes)
        if noisy:
            term, unit = (
                problem.unweighted,
                problem.linear.norm() ** 2 if self.tv_scale == "norm" else 1.0,
            )
            if tv.weight == 0:
                krylov = ProximalStep(problem, cg_iters=self.cg_iters, term=term)
                return lambda x, level: krylov(x, None)
            once = VolumeStep(problem, tv, cg_iters=self.cg_iters, term=term, unit=unit)
            return lambda x, level: once(x, None)
        if tv.weight == 0:
            step = ProximalStep(problem, cg_iters=self.cg_iters)
            return lambda x, level: step(x, self.gamma * level.sigma**2)
        joint = VolumeStep(problem, tv, cg_iters=self.cg_iters)
        return lambda x, level: joint(x, self.gamma * level.sigma**2, lam=tv.weight * level.sigma)

    def _langevin(self, x: Tensor, score: Tensor, draws: Draws, problem: Problem) -> Tensor:
        """The corrector; a zero score gives no step."""
        n = draws.normal_like(x, problem.item_ndim)
        pull, push = self._norm(score, problem), self._norm(n, problem)
        eps = torch.where(pull > 0, 2 * (self.snr * push / torch.where(pull > 0, pull, 1)) ** 2, 0)
        return x + eps * score + (2 * eps).sqrt() * n

    def _norm(self, x: Tensor, problem: Problem) -> Tensor:
        """Norm of each slice, or its mean over a chunk of slices, shaped to broadcast over x."""
        axis = problem.slice_axis or -x.ndim  # `steps` has refused images without one
        norms = item_norm(x, -axis - 1, keepdim=True)
        if self.step_norms == "slice":
            return norms
        parts = norms.chunk(x.shape[axis] // self.chunk + 1, axis)
        return torch.cat([p.mean(axis, keepdim=True).expand_as(p) for p in parts], axis)


def _kaczmarz(x: Tensor, problem: Problem) -> Tensor:
    """x + A^H (y - A x) / (A^H A 1), elementwise; nothing where A^H A 1 vanishes."""
    reach = problem.unweighted.normal(torch.ones_like(x))
    size = reach.abs()
    met = size > 1e-6 * size.amax()
    return x - torch.where(met, problem.unweighted.gradient(x) / torch.where(met, reach, 1), 0)
