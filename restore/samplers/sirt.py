"""SIRT: simultaneous iterative reconstruction of line integrals, a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.config import setting
from restore.operators.base import LinearOperator
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.solvers.subsets import interleaved

_UNSEEN = 1e-6  # of the largest sum: a ray or a voxel below it meets nothing but rounding


@dataclasses.dataclass(frozen=True)
class SIRT(Sampler):
    """x <- x + relaxation C A^T R (y - A x), with R and C one over the row and the column sums of A.

    Gilbert, "Iterative methods for the three-dimensional reconstruction of an object from projections", J. Theor. Biol.
    1972; convergence for 0 < relaxation < 2: Gregor, Benson, IEEE TMI 2008. Starts at zero. For weights that are not
    negative, which those of line integrals are not. Few iterations are the regularisation.

    subsets: an iteration takes so many interleaved parts of the views one after the other (`solvers.subsets`), each
    with sums of its own, and does about as much as that many iterations; with noise it ends in a cycle about the
    solution, the narrower the smaller the relaxation. One part of all views is SIRT, parts of one view each are SART.
    Raises ConfigError for more subsets than views.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("ct",)
    reference: ClassVar[str] = "Gilbert: iterative methods for reconstruction, J. Theor. Biol. 1972"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"n_steps": (30, 60, 120, 240)}

    n_steps: int = setting(100, "iterations", at_least=1)
    relaxation: float = setting(1.0, "step length", above=0, below=2)
    subsets: int = setting(1, "parts of the views that an iteration takes in turns", at_least=1)
    nonnegative: bool = setting(True, "no negative attenuation")

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per iteration."""
        y = problem.unit_y
        parts = [
            (part, *self._sums(part.operator, y)) for part in interleaved(problem.unweighted, self.subsets)
        ]  # fmt: skip
        x = y.new_zeros(problem.image_shape)
        for i in range(self.n_steps):
            for part, rays, voxels in parts:
                x = x - voxels * part.operator.adjoint(rays * part.residual(x))
                if self.nonnegative:
                    x = x.clamp(min=0)
            yield Step(i, self.n_steps, 0.0, x, 0)

    def _sums(self, op: LinearOperator, y: Tensor) -> tuple[Tensor, Tensor]:
        """R and relaxation C of an operator."""
        rays = _inverse(op(y.new_ones(op.in_shape)))
        return rays, self.relaxation * _inverse(op.adjoint(y.new_ones(op.out_shape)))


def _inverse(sums: Tensor) -> Tensor:
    """One over each sum, zero for what meets nothing."""
    return torch.where(sums > _UNSEEN * sums.max(), 1 / sums, 0.0)
