"""CGLS: least squares by conjugate gradients, stopped early, for any linear operator."""

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


@dataclasses.dataclass(frozen=True)
class CGLS(Sampler):
    """min ||A x - y||^2 from zero; every iterate is a step, and the number of them is the regularisation.

    Hestenes, Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. NBS 1952, section 10: the
    residual is kept in the measurement's space. Scalars are kept per item. `cgsense` is the same problem with a
    quadratic term, solved to the end.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = "Hestenes, Stiefel: methods of conjugate gradients, J. Res. NBS 1952"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"n_steps": (5, 10, 20, 40)}

    n_steps: int = setting(15, "iterations", at_least=1)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per iteration."""
        op, rest = problem.linear, problem.unit_y
        image, data = op.item_ndim, op.measured_ndim
        slope = op.adjoint(rest)
        x, way = torch.zeros_like(slope), slope
        size = _squared(slope, image)
        for i in range(self.n_steps):
            seen = op(way)
            length = _ratio(size, _squared(seen, data))
            x = x + _spread(length, way, image) * way
            rest = rest - _spread(length, seen, data) * seen
            slope = op.adjoint(rest)
            before, size = size, _squared(slope, image)
            way = slope + _spread(_ratio(size, before), way, image) * way
            yield Step(i, self.n_steps, 0.0, x, 0)


def _squared(x: Tensor, ndim: int) -> Tensor:
    """Squared norm of every item, in float64: sums over a whole volume."""
    return x.abs().double().square().flatten(x.ndim - ndim).sum(-1)


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    """Zero where there is nothing left to divide by: the item is solved."""
    return torch.where(under > 0, over / under, 0.0)


def _spread(scalar: Tensor, like: Tensor, ndim: int) -> Tensor:
    """One number an item, in the precision of its array and ready to multiply it."""
    return scalar.to(like.real.dtype).reshape(*scalar.shape, *(1,) * ndim)
