"""How well estimates explain a measurement, with the uncertainty that they have, and draws of x0 that explain it.

Called by samplers that weigh particles. Draws through a function that it is handed; keeps the data step of a run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.problem import Problem
from restore.samplers.toolbox.consistency import ProximalStep, weighted_term
from restore.solvers.proximal import DataTerm


class Likelihood:
    """log p(y | x0 ~ N(xh, r^2 I)) of a problem's items, up to what xh does not change.

    With the data term f it is -min_v (f(v) + ||v - xh||^2/(2 r^2)), the minimum of a data step: the integral over x0
    leaves -1/2 (y - A xh)^H (Sigma_y + r^2 A A^H)^-1 (y - A xh). With unknown noise, or none, f has a deviation that
    fades with the level (`consistency.weighted_term`).
    """

    def __init__(self, problem: Problem, cg_iters: int) -> None:
        self.problem, self.cg_iters = problem, cg_iters
        self._step: ProximalStep | None = None

    def log(self, xh: Tensor, sigma: float, width: float) -> Tensor:
        """xh: (*batch, *in_shape); width: r^2, re and im each. Returns (*items) in double precision on the CPU."""
        step, k = self._at(sigma), self.problem.item_ndim
        v = step(xh, width)
        total = _half_square(step.term, v, self.problem.operator.measured_ndim)
        if width:
            moved = (v - xh).abs().square().sum(tuple(range(-k, 0)), dtype=torch.float64)
            total = total + moved / (2 * width)
        return -total.cpu()

    def langevin(
        self, xh: Tensor, sigma: float, width: float, steps: int, noise: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """x0 ~ N(xh, r^2 I) exp(-f), near enough: unadjusted Langevin steps from a draw of the Gaussian.

        So what the data say nothing about has its spread from the first step; where they say most, 1/7 too much
        variance is left by steps of a quarter of the inverse of the largest curvature. noise: like an image -> N(0, I).
        """
        term = self._at(sigma).term
        size = 0.25 / (term.lipschitz + 1 / width)
        x0 = xh + width**0.5 * noise(xh)
        for _ in range(steps):
            slope = term.gradient(x0) + (x0 - xh) / width
            x0 = x0 - size * slope + (2 * size) ** 0.5 * noise(x0)
        return x0

    def _at(self, sigma: float) -> ProximalStep:
        """The data step, made once where the noise is known."""
        if self._step is None or self.problem.precision is None:
            term = weighted_term(self.problem, sigma)
            self._step = ProximalStep(self.problem, term=term, cg_iters=self.cg_iters)
        return self._step


def _half_square(term: DataTerm, v: Tensor, measured_ndim: int) -> Tensor:
    """f(v) of each item, in double precision."""
    squares = term.residual(v).abs().square()
    if term.precision is not None:
        squares = squares * term.precision
    return squares.sum(tuple(range(-measured_ndim, 0)), dtype=torch.float64) / 2
