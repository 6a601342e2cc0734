"""Smooth images that explain a measurement: where chains begin whose first level is too low to fill holes.

`smoothest` of any operator, for the sampler `fewstep` and its training; `filled` where pixels are lost, for all other
chains. Touches nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.linalg.pyramid import push_pull
from restore.problem import Problem

SMOOTHNESS = 1e-3
"""Weight of the squared gradient beside that of the data, which has one: small, so that the data are kept."""
CG_ITERS = 60
"""Enough for holes of some ten pixels; larger ones stay half filled."""


NEXT_TO_NOTHING = 1e-12
"""Weight of a lost pixel beside one for a known one: four or eight times as much at every size of square above it."""


def filled(problem: Problem) -> Tensor:
    """The degraded image, lost pixels filled from their neighbourhood however far that is (`push_pull`).

    In unit intensities, (*batch, *in_shape); volumes are filled in space. The degraded image itself for complex images
    and for operators that do not select pixels.
    Zeros in a hole are a dark region, which noise of a first level of 1 does not hide from a denoiser.
    """
    image = problem.degraded
    if "selects" not in problem.operator.abilities or image.is_complex():
        return image
    # What an operator that selects pixels makes of ones is its mask.
    known = problem.linear.normal(torch.ones_like(image))
    space = image.shape[-3:] if problem.has_volumes else image.shape[-2:]
    x, weight = (t.reshape(-1, 1, *space) for t in (image, known.clamp(min=NEXT_TO_NOTHING)))
    return push_pull(x, weight).reshape(image.shape)


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
