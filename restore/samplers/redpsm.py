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
from restore.samplers.toolbox.series import (
    SOLVED,
    as_images,
    as_series,
    balanced,
    cosines,
    gathered,
    product,
)


@dataclasses.dataclass(frozen=True)
class RedPSM(Chain):
    """Partially separable model with regularisation by denoising.

    The series of T frames is f = Lambda Psi^T, Lambda of K images, Psi of K curves over time (`rank`). It minimises
    1/2 ||A f - y||_P^2 + lambda/2 sum_t f_t^H (f_t - D(f_t, s)), P the precision of the noise, by ADMM on f = Lambda
    Psi^T with the scaled dual u. An iteration: f = (lambda D(f, s) + beta (Lambda Psi^T + u))/(lambda + beta), the
    fixed-point step of RED; Lambda, then Psi, of the least squares 1/2 ||A Lambda Psi^T - y||_P^2 + beta/2 ||Lambda
    Psi^T - f + u||^2; u = u + Lambda Psi^T - f. Result: Lambda Psi^T. D sees single frames only.

    Start: Psi of the first K cosines over the frames, then `first_steps` rounds of least squares without prior.
    beta = 1/(gamma s^2), lambda = trust beta; s falls from sigma_start to sigma_end. Of unknown noise, or none, a
    deviation of 0.01 sigma_end ||A|| is assumed.

    Where the frames are as many as K and D is linear, the limit is a ridge regression, frame by frame; measurements of
    a series of rank K without noise give it back where they determine it.

    Differs from the paper:
    - the bilinear step is exact for Psi (a system of K unknowns a frame) and `cg_iters` CG steps for Lambda, in the
      place of 25 steps of Adam on both; so there are tens of iterations, not 200. The columns of Psi are made
      orthonormal after each, which changes the product by nothing and takes the place of the weights xi and chi.
    - Psi is free, no spline of a few latent points.
    - data are weighted by their noise; s falls along the run, and beta and lambda with it (paper: one denoiser, trained
      for one deviation, and constants). Complex images.
    - the network sees the frames in another of their eight orientations at every step (turns).
    - Psi starts from cosines in the place of an estimate in the projection domain (ProSep).
    """

    on: ClassVar[str] = "measured over time, in frames"
    takes_start: ClassVar[bool] = False
    reference: ClassVar[str] = "Iskender, Klasky, Bresler: RED-PSM, IEEE TCI 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        # lambda = beta for one denoiser, as published, with our bilinear step
        "published": {
            "n_steps": 100, "rank": 6, "trust": 1.0, "sigma_start": 0.05, "sigma_end": 0.05, "gamma": 1.0,
            "turns": False,
        },
    }  # fmt: skip
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"rank": (3, 4, 6, 8)}

    n_steps: int = shared(Chain, "n_steps", 30)
    schedule: Literal["karras", "ve"] = shared(Chain, "schedule", "ve")
    sigma_start: float = shared(Chain, "sigma_start", 0.1)
    sigma_end: float = shared(Chain, "sigma_end", 0.01)
    start: Literal["degraded"] = setting("degraded", "not asked: the factors start from the data")
    rank: int = setting(4, "K: images and curves of the product; at most the frames", at_least=1)
    trust: float = setting(
        3.0, "lambda/beta: weight of the denoiser's answer over what it is shown", at_least=0
    )
    gamma: float = setting(10.0, "beta = 1/(gamma s^2)", above=0)
    cg_iters: int = setting(5, "CG steps for Lambda in an iteration", at_least=1)
    first_steps: int = setting(
        6, "rounds of least squares before the prior is asked", at_least=1, at_most=1000
    )

    @property
    def couples_slices(self) -> bool:
        """The frames."""
        return True

    @property
    def couples_frames(self) -> bool:
        """Yes."""
        return True

    @property
    def least_frames(self) -> int:
        """The rank, and two."""
        return max(2, self.rank)

    @property
    def states(self) -> int:
        """The series, its split, the dual, and what the product of K images takes."""
        return 2

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """One step per iteration; each holds Lambda Psi^T. Raises DivergenceError."""
        levels = self.levels()
        factors = _Factors(problem, self.rank, self.sigma_end)
        factors.fit(self.first_steps, 2 * self.cg_iters)
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
            yield self.step(level, as_images(series, problem), prior.evaluations)


class _Factors:
    """Lambda (series, pixels, K) and Psi (series, frames, K) of a problem, and the least squares for each."""

    def __init__(self, problem: Problem, rank: int, faintest: float) -> None:
        """faintest: level for the deviation that is assumed where there is no noise."""
        self.problem, self.term = problem, weighted_term(problem, faintest)
        self.rhs = as_series(self.term.rhs, problem)
        count, frames, pixels = self.rhs.shape
        self.spatial = self.rhs.new_zeros(count, pixels, rank)
        self.temporal = cosines(frames, rank).to(self.rhs).expand(count, frames, rank)

    @property
    def series(self) -> Tensor:
        """Lambda Psi^T, (series, frames, pixels)."""
        return product(self.spatial, self.temporal)

    def fit(self, rounds: int, iters: int) -> None:
        """To the data alone."""
        for _ in range(rounds):
            self.update(torch.zeros_like(self.rhs), 0.0, iters)

    def update(self, target: Tensor, beta: float, iters: int) -> None:
        """Lambda, then Psi, of 1/2 ||A Lambda Psi^T - y||_P^2 + beta/2 ||Lambda Psi^T - target||^2.

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
        """Psi of given Lambda: for each frame a system of K unknowns."""
        spatial, frames = self.spatial, goal.shape[1]
        seen = [
            self._normal(image[:, None].expand(-1, frames, -1), beta) @ spatial.conj()
            for image in spatial.unbind(-1)
        ]
        gram = torch.stack(seen, -1)  # of frame t: Lambda^H (A_t^H P A_t + beta) Lambda
        ridge = SOLVED * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return torch.linalg.solve(gram + ridge * eye, (goal @ spatial.conj())[..., None])[..., 0]

    def _normal(self, series: Tensor, beta: float) -> Tensor:
        """(A^H P A + beta) of a series."""
        images = as_images(series, self.problem)
        return as_series(self.term.normal(images), self.problem) + beta * series
