"""The data step of a sampler: in closed form where there is one, else by CG; for volumes with TV across slices.

Called by samplers. The measurement's own terms are computed once per run. Touches nothing but its split variables.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from functools import cached_property

from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import Result, Solution
from restore.noise import EdgeError
from restore.problem import Problem
from restore.solvers.admm import AdmmTV
from restore.solvers.exact_step import ProximalPoint, closed_form
from restore.solvers.proximal import DataTerm, data_step, krylov_step
from restore.solvers.recycling import Corrections
from restore.solvers.tv import Boundary

TV_AXES = "across slices, or z and both axes of the slice with one lambda, shrunk one by one"
_NOISELESS = 0.01  # deviation of the noise assumed where none is known, relative to sigma ||A||


def weighted_term(problem: Problem, sigma: float) -> DataTerm:
    """The data term weighted by its noise; where that is unknown or none, by a deviation that fades with the level."""
    if problem.precision is not None:
        return problem.data
    deviation = _NOISELESS * sigma * problem.linear.norm()
    return DataTerm(problem.linear, problem.unit_y, deviation**-2)


def edge_weighted(problem: Problem, bins: float) -> DataTerm | None:
    """The data term of line integrals whose edges the operator puts `bins` beside where they are (`noise.EdgeError`).

    None where that changes nothing: bins 0, noise that is unknown or none, or knows of it already, and measurements
    that are no line integrals but images.
    """
    rays = problem.operator.kind == "ct" and not problem.operator.task
    if not (bins and rays) or problem.noise is None or isinstance(problem.noise, EdgeError):
        return None
    found = EdgeError(problem.noise, bins).precision(problem.y)
    if found is None:
        return None
    return DataTerm(problem.linear, problem.unit_y, found * problem.scaling.scale**2)


def least_step(problem: Problem, item_ndim: int, cg_tol: float, cover: float) -> float:
    """How short a step of CG has to be for the solve to end, in its norm and in unit intensities.

    cover: the deviation of the noise that the sampler puts on top of the answer. What CG would still change is hidden
    by it once a step is no longer than cg_tol times that noise: the norm of I + weight f'' is never less than the root
    of the sum of squares. 0 for either: CG makes all its steps. item_ndim: trailing dimensions of an image that share
    CG's scalars.
    """
    numbers = math.prod(problem.image_shape[-item_ndim:]) * (
        2 if problem.operator.is_complex else 1
    )
    return cg_tol * cover * math.sqrt(numbers)


class ProximalStep:
    """x0 -> argmin_v weight f(v) + ||v - x0||^2 / 2, f the data term of a problem.

    Where f has no scale (the noise is unknown, or there is none) and where weight is None, x0 is moved by `cg_iters`
    Krylov steps towards the data instead. term: by default the noise-weighted one. exact: in closed form where there
    is one. cg_tol: see `least_step`. cg_residual: CG ends at this residual, a share of the right-hand side.
    recycled: corrections of earlier calls that CG starts from (`restore.solvers.recycling`).
    `result`: why the last solve stopped, the worst of its items (`restore.linalg.conjugate_gradients.Result`).
    """

    def __init__(
        self,
        problem: Problem,
        *,
        cg_iters: int,
        term: DataTerm | None = None,
        exact: bool = True,
        cg_tol: float = 0.0,
        cg_residual: float = 0.0,
        recycled: int = 0,
    ) -> None:
        self.term, self.exact = problem.data if term is None else term, exact
        self.least_step = functools.partial(least_step, problem, self.term.item_ndim, cg_tol)
        self.cg_iters, self.cg_residual = cg_iters, cg_residual
        self.corrections = Corrections(self.term, recycled) if recycled else None
        self.result = int(Result.CONVERGED)
        self.weighted = problem.precision is not None or term is not None

    def __call__(self, x0: Tensor, weight: float | None, cover: float = 0.0) -> Tensor:
        """x0: (*batch, *in_shape) in unit intensities. weight: the variance of its error, in the same unit.

        cover: see `least_step`.
        """
        if weight is not None and self.weighted:
            if weight == 0:  # nothing is uncertain, so nothing moves
                return x0
            if self._closed is not None:
                return self._closed(x0, weight)
            return self._iterated(x0, weight, cover)
        return self._kept(krylov_step(self.term, x0, iters=self.cg_iters))

    def _iterated(self, x0: Tensor, weight: float, cover: float) -> Tensor:
        known = self.corrections
        answer = self._kept(
            data_step(
                self.term, x0, weight, iters=self.cg_iters, tol=self.cg_residual,
                least_step=self.least_step(cover), start=known.start(x0, weight) if known else None,
            )
        )  # fmt: skip
        if known:
            known.keep(x0, answer)
        return answer

    @cached_property
    def _closed(self) -> ProximalPoint | None:
        return closed_form(self.term) if self.exact else None

    def _kept(self, solution: Solution) -> Tensor:
        self.result = int(solution.worst)
        return solution.x


@dataclasses.dataclass(frozen=True)
class SliceTV:
    """Total variation that joins slices. weight 0: none. axes: "z", or "all" (z and both axes of the slice)."""

    weight: float
    rho: float
    boundary: Boundary
    axes: str = "z"

    def splitting(self, term: DataTerm, problem: Problem, unit: float = 1.0) -> AdmmTV:
        """The splitting for whole volumes, one set of CG scalars each.

        unit: a factor of weight and penalty. Raises ConfigError where the measurement has no slices.
        """
        axis = slices_of(problem)
        axes = (axis, -2, -1) if self.axes == "all" else (axis,)
        return AdmmTV(
            term.normal, term.rhs, self.weight * unit, self.rho * unit,
            axes=axes, item_ndim=-axis, boundary=self.boundary,
        )  # fmt: skip


def slices_of(problem: Problem) -> int:
    """The axis along which total variation joins slices, from the last. Raises ConfigError where there are none."""
    if problem.slice_axis is None:
        raise ConfigError(
            f"total variation couples slices, and the measurement {tuple(problem.y.shape)} has no slice dimension; "
            "give (slices, ...), or leave the slices apart: tv_weight=0 (tv: tv_axes=slice)"
        )
    return problem.slice_axis


class VolumeStep:
    """One ADMM pass of argmin_v weight f(v) + ||v - x0||^2 / 2 + lambda TV(v); the split variables persist over calls.

    Where weight is None, or the term has no scale, there is no proximal term and f counts as it is. Data
    consistency of DDS-3D (Chung, Lee, Ye, ICLR 2024) and of DiffusionMBIR (CVPR 2023).
    """

    def __init__(
        self, problem: Problem, tv: SliceTV, *, cg_iters: int, term: DataTerm | None = None, unit: float = 1.0,
        cg_tol: float = 0.0, cg_residual: float = 0.0,
    ) -> None:  # fmt: skip
        self.term = problem.data if term is None else term
        self.weighted = problem.precision is not None or term is not None
        self.admm = tv.splitting(self.term, problem, unit)
        self.cg_iters, self.cg_residual = cg_iters, cg_residual
        self.result = int(Result.CONVERGED)
        self.least_step = functools.partial(least_step, problem, self.admm.item_ndim, cg_tol)

    def __call__(
        self, x0: Tensor, weight: float | None, cover: float = 0.0, lam: float | None = None
    ) -> Tensor:
        """x0: (*batch, slices, *item). cover: see `least_step`. lam: lambda from now on; None leaves it."""
        admm, pull, least = self.admm, 0.0, 0.0
        if lam is not None and lam != admm.weight:
            # The scaled multiplier u is proportional to lambda and follows it.
            admm.u, admm.weight = admm.u * (lam / admm.weight), lam
        if weight is not None and self.weighted:
            w, pull, least = weight, 1.0, self.least_step(cover)
            admm.normal, admm.rhs = (lambda v: w * self.term.normal(v)), w * self.term.rhs
            if self.term.spectrum is not None and admm.item_ndim == self.term.item_ndim:
                admm.spectrum = w * self.term.spectrum
        tol = self.cg_residual
        solution = admm.step(x0, iters=self.cg_iters, proximal=pull, tol=tol, least_step=least)
        self.result = int(solution.worst)
        return solution.x
