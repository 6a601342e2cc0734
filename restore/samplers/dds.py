"""DDS: data consistency by Krylov steps on the Tweedie estimate, in 2-D and, with TV along z, in 3-D.

Chung, Lee, Ye, "Decomposed diffusion sampler for accelerating large-scale inverse problems", ICLR 2024; the 3-D part
after Chung, Ryu, McCann, Klasky, Ye, "Solving 3D inverse problems using pre-trained 2D diffusion models", CVPR 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from restore.config import setting, shared
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import ETA, NOISE_RULE, Chain, NoiseRule, fresh_share, renoised
from restore.samplers.toolbox.consistency import (
    TV_AXES,
    ProximalStep,
    SliceTV,
    VolumeStep,
    edge_weighted,
)
from restore.samplers.toolbox.imaginary import SparedImaginary
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.neighbours import Z_NOISE, independent, neighbouring
from restore.samplers.toolbox.solved import SolvedChain
from restore.solvers.tv import Boundary

ENOUGH_DATA = 2.5
"""Unknowns a measured number up to which the tuned start is right (CT: 30 views of a 122 x 102 slice)."""

_PUBLISHED: dict[str, Any] = {
    "n_steps": 50, "schedule": "vp", "start": "noise", "eta": 0.85, "cg_iters": 5, "data_weight": "fixed",
    "gamma": 1.0, "landing": True, "turns": False,
}  # fmt: skip
_MRI: dict[str, Any] = {
    "n_steps": 60,
    "sigma_start": 0.25,
    "gamma_end": 1.5,
    "cg_iters": 20,
    "cg_residual": 2e-4,
    "recycled": 2,
    "imaginary_every": 2,
}
_CT: dict[str, Any] = {
    "n_steps": 60,
    "sigma_start": 0.1,
    "few_data": 1.2,
    "cg_iters": 10,
    "cg_tol": 0.1,
    "edge_error": 0.05,
}


@dataclasses.dataclass(frozen=True)
class DDS(SolvedChain):
    """Decomposed diffusion sampler.

    At each level s, with x0 = D(x, s) and e = (x - x0)/s:
    xh = argmin_v w f(v) + ||v - x0||^2 / 2, f the data term; then x' = xh + s' (sqrt(1 - k^2) e + k n).
    The minimum is taken in closed form where there is one (`solvers.closed_form`), else by CG from x0.
    Another solver than ddim (`toolbox.solved`) follows the flow of the estimates xh: e is then (x - xh)/s.
    few_data > 0: with u unknowns a measured number, u > 2.5, sigma_start is raised by (u / 2.5)^few_data, as the
    degraded image is the worse.

    Differs from the paper:
    - data step weighted by the noise level, start from the degraded image, eta 1: the tuned presets; worth 1 to 4 dB
      (benchmarks/RESULTS.md). The published settings are the presets "published*".
    - the network sees the image in another of its eight orientations at every step (turns): up to 0.2 dB for nothing.
    - with eta 1 the spread over samples is too small: on a Gaussian prior half the posterior covariance at gamma 1,
      and less at the tuned gamma, which favours the mean. The preset "posterior" has the right spread.
    - CG ends once a step is short against the noise that follows (cg_tol), for CT: a third of the steps less for the
      same PSNR. Not for MRI, where 8x lost 1 dB so (a short step may be followed by long ones) and 4x nothing: there it
      ends at a small residual (cg_residual), which leaves the late levels, quickly solved, what they need, and starts
      from x0 and what the two levels before changed (recycled).
    - MRI: the network answers for the imaginary part at every second level only (imaginary_every), for images whose
      imaginary part has a tenth of the size of the real one at most, as it has once the phase is in the maps; the log
      of a run counts what was not asked (imaginary_spared).
    - Hermitian inner products in CG and a right-hand side x0 + gamma A^H y for complex images: the released MRI code
      has neither and converges to (1 + i) times the image.
    - the weights of rays beside steep edges of the projections know that the operator is no scanner (edge_error, CT):
      3 dB where bone is measured finer than the pixels, nothing on a smooth thorax (benchmarks/RESULTS.md).
    - 3-D (preset "volume"): neighbouring slices get noise of opposite signs, z_noise, which cancels where TV averages.
    - 3-D: the published data step has no proximal term; the "noise" weight keeps it.
    """

    explains_exact: ClassVar[bool] = True
    reference: ClassVar[str] = "Chung, Lee, Ye: Decomposed diffusion sampler, ICLR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # chosen with benchmarks/tune.py; benchmarks/RESULTS.md says on what
        "tuned": {},
        "tuned mri": _MRI,
        "tuned ct": _CT,
        # One sample of a stack of slices (benchmarks/VOLUME_3D.md)
        "volume": {"tv_weight": 0.003, "tv_rho": 0.1, "z_noise": -0.9},
        "volume mri": _MRI,
        "volume ct": _CT,
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": "auto"},
        "tuned denoise": {"gamma": 1.0},
        # Eta and gamma for which the spread of the samples is right on a Gaussian prior (gamma = 1 - sqrt(1 - eta^2))
        "posterior": {
            "n_steps": 300, "sigma_start": 5.0, "sigma_end": 0.003, "eta": 0.5, "gamma": 0.134, "cg_iters": 20,
        },
        "published": _PUBLISHED,
        "published-noiseless": {**_PUBLISHED, "data_weight": "krylov"},
        "published-3d": {
            **_PUBLISHED, "data_weight": "krylov", "tv_weight": 0.04, "tv_rho": 10.0, "tv_boundary": "periodic",
        },
    }  # fmt: skip

    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    start: Literal["degraded", "filled", "noise", "gaussian"] = shared(SolvedChain, "start")
    few_data: float = setting(0.0, "power by which few data raise sigma_start", at_least=0)
    eta: float = setting(1.0, ETA, between=(0, 1))
    noise_rule: NoiseRule = setting("ddnm", NOISE_RULE)
    data_weight: Literal["noise", "fixed", "krylov"] = setting(
        "noise", "w: gamma s^2 times the precision of the data (noise; krylov where that is unknown), gamma on A^H A "
        "(fixed), or cg_iters steps on A^H A alone (krylov)",
    )  # fmt: skip
    gamma: float = setting(3.0, "weight of the data", above=0)
    gamma_end: float | None = setting(
        None, "gamma at the last level, by log s; none: gamma", above=0
    )
    cg_iters: int = setting(10, "CG steps of a data step without closed form, at most", at_least=1)
    cg_tol: float = setting(
        0.0, "end CG after a step below this share of the fresh noise; 0: never earlier", at_least=0
    )
    cg_residual: float = setting(
        0.0,
        "end CG at a residual below this share of the right-hand side; 0: never",
        between=(0, 1),
    )
    edge_error: float = setting(
        0.0, "of line integrals: deviation of where edges fall on the detector, in bins, added to the noise", at_least=0
    )  # fmt: skip
    recycled: int = setting(
        0,
        "what the data steps of so many levels before changed, from which CG starts; not with tv_weight",
        between=(0, 8),
    )
    imaginary_every: int = setting(
        1,
        "levels from one question to the network about the imaginary part to the next, where it carries little",
        at_least=1,
    )
    landing: bool = setting(
        False, "no noise on the step that lands on the last level (released code)"
    )
    tv_weight: float = setting(
        0.0, "total variation across slices couples them (DDS-3D)", at_least=0
    )
    tv_rho: float = setting(0.1, "its penalty", above=0)
    tv_axes: Literal["z", "all"] = setting("z", TV_AXES)
    tv_boundary: Boundary = setting("neumann", "its boundary")
    z_noise: float = setting(0.0, Z_NOISE, between=(-1, 1))

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate after data consistency."""
        levels, consistent = self._raised(problem).levels(), self._consistency(problem)
        draws = neighbouring(draws, self.z_noise, problem)
        x, history = self.begun(problem, draws, levels[0], prior), self.history()
        spared = SparedImaginary(prior, self.imaginary_every)
        for level, weight in zip(levels, self._weights(levels), strict=True):
            x0 = self.denoised(spared, x, level)
            k = fresh_share(self.eta, self.noise_rule, level)
            e = (x - x0) / level.sigma if k < 1 and history is None else None
            x = (
                x if history else x0
            )  # a state that is not needed is not held while data steps are made
            xh = consistent(x0, weight, k * (level.next or level.sigma))
            told = {"imaginary_spared": spared.spared} if spared.spared else {}
            yield self.step(level, xh, prior.evaluations, cg=consistent.result, **told)
            if level.next and not (self.landing and level.i == level.n - 2):
                n = draws.normal_like(xh, problem.item_ndim)
                x = (
                    history.next(x, xh, n, level, k)
                    if history
                    else renoised(xh, e, n, level.next, k)
                )
            else:
                x = xh * self._landing_scale(level)

    @property
    def remembered(self) -> int:
        """Corrections and what the operator makes of them; the imaginary part that stands."""
        corrections = 0 if self.tv_weight else 2 * self.recycled
        return corrections + (self.imaginary_every > 1)

    @property
    def couples_slices(self) -> bool:
        """By total variation, or by their noise."""
        return self.tv_weight > 0 or self.z_noise != 0

    def for_samples(self, samples: int) -> tuple[Self, tuple[str, ...]]:
        """With independent noise of slices where there are several."""
        return independent(self, samples)

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level of this problem."""
        return super(DDS, self._raised(problem)).noise_range(problem)

    def _raised(self, problem: Problem) -> DDS:
        """With the sigma_start for the share of unknowns that nothing was measured of."""
        first = self.for_problem(problem).highest
        start = raised_start(problem, first, self.few_data, self.start)
        return dataclasses.replace(self, sigma_start=start)

    def _landing_scale(self, level: NoiseLevel) -> float:
        """Released code hands xh on as the VP state itself, without sqrt(a): 5e-5 of the image at its last level."""
        return (1 + level.next**2) ** 0.5 if self.schedule == "vp" else 1.0

    def _consistency(self, problem: Problem) -> ProximalStep | VolumeStep:
        weighted = self.data_weight == "noise"
        term = edge_weighted(problem, self.edge_error) if weighted else problem.unweighted
        ends: dict[str, Any] = {
            "cg_iters": self.cg_iters,
            "cg_tol": self.cg_tol,
            "cg_residual": self.cg_residual,
        }
        if self.tv_weight == 0:
            return ProximalStep(problem, term=term, exact=weighted, recycled=self.recycled, **ends)
        tv = SliceTV(self.tv_weight, self.tv_rho, self.tv_boundary, self.tv_axes)
        return VolumeStep(problem, tv, term=term, **ends)

    def _weights(self, levels: list[NoiseLevel]) -> list[float | None]:
        """w of every data step: gamma as is, or s^2 times a gamma that goes to `gamma_end` with log s."""
        if self.data_weight != "noise":
            return [self.gamma if self.data_weight == "fixed" else None] * len(levels)
        return [*noise_weights(levels, self.gamma, self.gamma_end)]


def raised_start(problem: Problem, sigma_start: float, few_data: float, start: str) -> float:
    """The first level for the share of unknowns of which nothing was measured, where a chain starts from the degraded
    image, filled or not; `few_data` as `DDS` has it."""
    if not few_data or start not in ("degraded", "filled"):
        return sigma_start
    unknowns = math.prod(problem.operator.in_shape) / math.prod(problem.operator.out_shape)
    return sigma_start * max(1.0, unknowns / ENOUGH_DATA) ** few_data


def noise_weights(levels: list[NoiseLevel], gamma: float, gamma_end: float | None) -> list[float]:
    """The weight of every data step: s^2 times a gamma that goes to `gamma_end` with log s, if there is one."""
    if gamma_end is None:
        return [gamma * level.sigma**2 for level in levels]
    first, change = levels[0].sigma, gamma_end / gamma
    span = math.log(first / levels[-1].sigma) or 1.0
    late = [math.log(first / level.sigma) / span for level in levels]
    return [gamma * change**t * level.sigma**2 for t, level in zip(late, levels, strict=True)]
