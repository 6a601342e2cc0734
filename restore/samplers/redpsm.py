"""RED-PSM: the frames of a measurement over time as a product of few images and few curves, with a denoiser of frames.

Iskender, Klasky, Bresler, "RED-PSM: Regularization by denoising of factorized low rank models for dynamic imaging",
IEEE Transactions on Computational Imaging 2024 (arXiv 2304.03483); regularisation by denoising: Romano, Elad,
Milanfar, "The little engine that could: regularization by denoising (RED)", SIAM J. Imaging Sciences 2017.
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
from restore.samplers.toolbox.chain import Chain
from restore.samplers.toolbox.consistency import weighted_term
from restore.samplers.toolbox.held_out import best_size, held_out_runs, unforeseen, without_runs
from restore.samplers.toolbox.series import (
    SOLVED,
    OfFrames,
    as_images,
    as_series,
    balanced,
    cosines,
    gathered,
    joined_curves,
    product,
    roughness,
)
from restore.solvers.proximal import DataTerm

RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Tried where the rank is to be chosen."""


@dataclasses.dataclass(frozen=True)
class RedPSM(OfFrames, Chain):
    """Partially separable model with regularisation by denoising.

    The series of T frames is f = Lambda Psi^T, Lambda of K images, Psi of K curves over time (`rank`). It minimises
    1/2 ||A f - y||_P^2 + 1/(2 change^2) sum_t ||f_(t+1) - f_t||^2 + lambda/2 sum_t f_t^H (f_t - D(f_t, s)), P the
    precision of the noise, by ADMM on f = Lambda Psi^T with the scaled dual u. An iteration: f = (lambda D(f, s) + beta
    (Lambda Psi^T + u))/(lambda + beta), the fixed-point step of RED; Lambda, then Psi, of the first two terms and
    beta/2 ||Lambda Psi^T - f + u||^2; u = u + Lambda Psi^T - f. Result: Lambda Psi^T. D sees single frames only.

    `rank` auto: 8 % of the views, readouts or rows of the frames are held out; models without prior are fitted to the
    others, rank after rising rank, and the smallest within 1 % of the least error on what was held out is taken. The
    step's record holds it, and a note says it.

    Start: Psi of the first K cosines over the frames, then `first_steps` rounds of least squares without prior.
    beta = 1/(gamma s^2), lambda = trust beta; s falls from sigma_start to sigma_end. Of unknown noise, or none, a
    deviation of 0.01 sigma_end ||A|| is assumed.

    Where the frames are as many as K and D is linear, the limit is a ridge regression, frame by frame; measurements of
    a series of rank K without noise give it back where they determine it.

    Differs from the paper:
    - the bilinear step is exact for Psi (a system of K unknowns a frame) and `cg_iters` CG steps for Lambda, in the
      place of 25 steps of Adam on both; so there are tens of iterations, not 200. The columns of Psi are made
      orthonormal after each, which changes the product by nothing and takes the place of the weights xi and chi.
    - neighbouring frames differ by little (`change`), in the place of a spline of few latent points under Psi: 2 dB
      without prior from four views a frame, and a rank too high costs less.
    - the rank is chosen (paper: given).
    - data are weighted by their noise; s falls along the run, and beta and lambda with it (paper: one denoiser, trained
      for one deviation, and constants). Complex images.
    - the network sees the frames in another of their eight orientations at every step (turns).
    - Psi starts from cosines in the place of an estimate in the projection domain (ProSep).
    """

    takes_start: ClassVar[bool] = False
    reference: ClassVar[str] = "Iskender, Klasky, Bresler: RED-PSM, IEEE TCI 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned ct": {"gamma": 30.0},
        "tuned mri": {"change": 0.03},
        # lambda = beta for one denoiser, as published, with our bilinear step
        "published": {
            "n_steps": 100, "rank": 6, "change": 0.0, "trust": 1.0, "gamma": 1.0, "turns": False,
            "sigma_start": 0.05, "sigma_end": 0.05,
        },
    }  # fmt: skip
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"change": (0.003, 0.01, 0.03)}

    n_steps: int = shared(Chain, "n_steps", 30)
    schedule: Literal["karras", "ve"] = shared(Chain, "schedule", "ve")
    sigma_start: float = shared(Chain, "sigma_start", 0.1)
    sigma_end: float = shared(Chain, "sigma_end", 0.01)
    start: Literal["degraded"] = setting("degraded", "not asked: the factors start from the data")
    rank: int | Literal["auto"] = setting(
        "auto",
        "K: images and curves of the product, at most the frames; auto: by runs held out",
        at_least=1,
    )
    change: float = setting(
        0.01,
        "from a frame to the next, deviation of a pixel in unit intensities; 0: any",
        at_least=0,
    )
    trust: float = setting(
        3.0, "lambda/beta: weight of the denoiser's answer over what it is shown", at_least=0
    )
    gamma: float = setting(10.0, "beta = 1/(gamma s^2)", above=0)
    cg_iters: int = setting(5, "CG steps for Lambda in an iteration", at_least=1)
    first_steps: int = setting(
        6, "rounds of least squares before the prior is asked", at_least=1, at_most=1000
    )

    @property
    def least_frames(self) -> int:
        """The rank, and two."""
        return 2 if self.rank == "auto" else max(2, self.rank)

    @property
    def states(self) -> int:
        """The series, its split, the dual, and what the product of K images takes."""
        return 2

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """One step per iteration; each holds Lambda Psi^T. Raises DivergenceError."""
        levels, term = self.levels(), weighted_term(problem, self.sigma_end)
        rank = self._chosen(problem, term, draws) if self.rank == "auto" else self.rank
        factors = self._fitted(problem, term, rank)
        series = split = factors.series
        dual, before = torch.zeros_like(series), levels[0].sigma
        for level in levels:
            # The scaled dual is the multiplier over beta and follows it.
            dual, before = dual * (level.sigma / before) ** 2, level.sigma
            clean = as_series(self.denoised(prior, as_images(split, problem), level), problem)
            split = (self.trust * clean + series + dual) / (1 + self.trust)
            factors.update(split - dual, 1 / (self.gamma * level.sigma**2), self.cg_iters)
            series = factors.series
            dual = dual + series - split
            yield self.step(level, as_images(series, problem), prior.evaluations, rank=rank)

    def remarks(self, ends: list[dict[str, Any]]) -> tuple[str, ...]:
        """The rank, where it was chosen."""
        if self.rank != "auto" or not ends:
            return ()
        found = " and ".join(str(rank) for rank in sorted({end["rank"] for end in ends}))
        return (f"redpsm chose rank {found}, which foresees what it was not shown; rank=K sets it",)

    def _fitted(self, problem: Problem, term: DataTerm, rank: int) -> _Factors:
        """Least squares of the data alone."""
        factors = _Factors(problem, term, rank, self.change)
        for _ in range(self.first_steps):
            factors.update(torch.zeros_like(factors.rhs), 0.0, 2 * self.cg_iters)
        return factors

    def _chosen(self, problem: Problem, term: DataTerm, draws: Draws) -> int:
        """The rank whose least squares of the others foresee held out runs best."""
        held = held_out_runs(problem, draws)
        shown = without_runs(term, held)

        def error(rank: int) -> float:
            fitted = self._fitted(problem, shown, rank)
            return unforeseen(term, held, as_images(fitted.series, problem))

        most = problem.frames
        return best_size([k for k in RANKS if k < most] + [most] * (most <= RANKS[-1]), error)


class _Factors:
    """Lambda (series, pixels, K) and Psi (series, frames, K) of a problem, and the least squares for each."""

    def __init__(self, problem: Problem, term: DataTerm, rank: int, change: float) -> None:
        """change: see `RedPSM`."""
        self.problem, self.term = problem, term
        self.coupling = change**-2 if change else 0.0
        self.rhs = as_series(term.rhs, problem)
        count, frames, pixels = self.rhs.shape
        self.spatial = self.rhs.new_zeros(count, pixels, rank)
        self.temporal = cosines(frames, rank).to(self.rhs).expand(count, frames, rank)

    @property
    def series(self) -> Tensor:
        """Lambda Psi^T, (series, frames, pixels)."""
        return product(self.spatial, self.temporal)

    def update(self, target: Tensor, beta: float, iters: int) -> None:
        """Lambda, then Psi, of 1/2 ||A f - y||_P^2 + beta/2 ||f - target||^2 + c/2 ||D f||^2, f = Lambda Psi^T.

        iters: CG steps for Lambda.
        """
        goal = self.rhs + beta * target
        temporal = self.temporal
        self.spatial = cg(
            lambda spatial: gathered(self._normal(product(spatial, temporal), beta), temporal),
            gathered(goal, temporal), self.spatial, iters=iters, item_ndim=2,
        ).x  # fmt: skip
        self.temporal = self._curves(goal, beta)
        self.spatial, self.temporal = balanced(self.spatial, self.temporal)

    def _curves(self, goal: Tensor, beta: float) -> Tensor:
        """Psi of given Lambda: for each frame a system of K unknowns, joined to its neighbours'."""
        spatial, frames = self.spatial, goal.shape[1]
        # Of an image that stays the coupling takes nothing.
        seen = [
            self._normal(image[:, None].expand(-1, frames, -1), beta) @ spatial.conj()
            for image in spatial.unbind(-1)
        ]
        gram = torch.stack(seen, -1)  # of frame t: Lambda^H (A_t^H P A_t + beta) Lambda
        ridge = SOLVED * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        coupling = self.coupling * (spatial.mH @ spatial)
        return joined_curves(gram + ridge * eye, goal @ spatial.conj(), coupling)

    def _normal(self, series: Tensor, beta: float) -> Tensor:
        """(A^H P A + beta + c D^T D) of a series."""
        images = as_images(series, self.problem)
        out = as_series(self.term.normal(images), self.problem) + beta * series
        return out + self.coupling * roughness(series) if self.coupling else out
