"""The smoothest image that explains a measurement: where chains of a few steps begin that have no time to fill holes.

Called by the sampler `fewstep` and by its training. Touches nothing.
"""

from __future__ import annotations

from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.problem import Problem

SMOOTHNESS = 1e-3
"""Weight of the squared gradient beside that of the data, which has one: small, so that the data are kept."""
CG_ITERS = 60
"""Enough for holes of some ten pixels; larger ones stay half filled."""


def smoothest(problem: Problem) -> Tensor:
    """argmin_x ||A x - y||^2 + lambda ||grad x||^2 in unit intensities, by CG from the classical image.

    Returns (*batch, *in_shape); the gradient is along the last two axes, over the borders nothing.
    """
    term = problem.unweighted

    def system(x: Tensor) -> Tensor:
        return term.normal(x) + SMOOTHNESS * _roughness(x)

    return cg(system, term.rhs, problem.degraded, iters=CG_ITERS, item_ndim=term.item_ndim).x


def _roughness(x: Tensor) -> Tensor:
    """grad^H grad x: minus the Laplacian, with differences of zero across the borders."""
    out = x.new_zeros(x.shape)
    for axis in (-2, -1):
        step, inner = x.diff(dim=axis), x.shape[axis] - 1
        out.narrow(axis, 0, inner).sub_(step)
        out.narrow(axis, 1, inner).add_(step)
    return out
