"""SIRT: simultaneous iterative reconstruction of line integrals, a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler

_UNSEEN = 1e-6  # of the largest sum: a ray or a voxel below it meets nothing but rounding


@dataclasses.dataclass(frozen=True)
class SIRT(Sampler):
    """x <- x + relaxation C A^T R (y - A x), with R and C one over the row and the column sums of A.

    Gilbert, "Iterative methods for the three-dimensional reconstruction of an object from projections", J. Theor. Biol.
    1972; convergence for 0 < relaxation < 2: Gregor, Benson, IEEE TMI 2008. Starts at zero. For weights that are not
    negative, which those of line integrals are not. Few iterations are the regularisation.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("ct",)
    reference: ClassVar[str] = "Gilbert: iterative methods for reconstruction, J. Theor. Biol. 1972"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"n_steps": (30, 60, 120, 240)}

    n_steps: int = setting(100, "iterations", at_least=1)
    relaxation: float = setting(1.0, "step length", above=0, below=2)
    nonnegative: bool = setting(True, "no negative attenuation")

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per iteration."""
        op, y = problem.linear, problem.unit_y
        rays = _inverse(op(y.new_ones(op.in_shape)))
        voxels = self.relaxation * _inverse(op.adjoint(y.new_ones(op.out_shape)))
        x = y.new_zeros(problem.image_shape)
        for i in range(self.n_steps):
            x = x + voxels * op.adjoint(rays * (y - op(x)))
            if self.nonnegative:
                x = x.clamp(min=0)
            yield Step(i, self.n_steps, 0.0, x, 0)


def _inverse(sums: Tensor) -> Tensor:
    """One over each sum, zero for what meets nothing."""
    return torch.where(sums > _UNSEEN * sums.max(), 1 / sums, 0.0)
