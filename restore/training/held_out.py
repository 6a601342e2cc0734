"""A part of the measured rows set aside: to fit something without them and to see how well it foretells them.

Rows are what is measured at once: the views of a sinogram, the lines of Cartesian k-space, its points where the mask is
no set of lines, else the rows of the measurement. Used by `restore.training.adaptation`; touches nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.measured_rows import is_cartesian, line_axis, sampled_plane
from restore.operators.diagonal import Diagonal
from restore.problem import Problem
from restore.randomness import Draws

CENTRE = 0.05
"""Lines and points nearer to zero frequency than this share of a side stay: the image hangs on them."""
FEWEST = 10
"""Of fewer rows one cannot be spared."""


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """A measurement in two parts.

    problem: without the rows: they are zero in y, and the operator gives zeros there. kept: 1 where a sample is in
    it, 0 where it was set aside; broadcasts to y. rows: how many were set aside. whole: the problem with all.
    """

    whole: Problem
    problem: Problem
    kept: Tensor
    rows: int

    def misfits(self, x: Tensor) -> tuple[float, float]:
        """Mean of |A x - y|^2 in the part that is used and in the part set aside, weighted by the noise where it is
        known. x: images in unit intensities."""
        r = self.whole.residual(x).abs().square()
        if self.whole.precision is not None:
            r = r * self.whole.precision
        measured = (self.whole.operator.project(torch.ones_like(self.whole.y)) != 0).to(r)
        used, aside = measured * self.kept, measured * (1 - self.kept)
        return float((used * r).sum() / used.sum()), float((aside * r).sum() / aside.sum())


def hold_out(problem: Problem, share: float, seed: int) -> HeldOut:
    """Set aside a share of the rows of a problem, at least one; which ones follows from seed and the problem's ids.

    Raises ConfigError where there are too few rows, and for operators that are not linear.
    """
    labels, candidates = _rows(problem)
    if len(candidates) < FEWEST:
        raise ConfigError(
            f"{problem.operator}: {len(candidates)} lines or views that could be held out, too few to adapt a prior to "
            f"them, expected {FEWEST} or more; leave out --adapt"
        )
    count = max(1, round(share * len(candidates)))
    (own,) = Draws(seed, [f"held out/{'/'.join(problem.ids)}"]).seeds
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(own))
    chosen = candidates[order[:count]]
    kept = (~torch.isin(labels, chosen)).to(problem.y.device, problem.operator.dtype)
    operator = problem.linear
    shape = operator.out_shape
    without = Diagonal(kept, shape, operator.slice_ndim) @ operator
    part = dataclasses.replace(problem, y=problem.y * kept, operator=without)
    return HeldOut(problem, part, kept, count)


def _rows(problem: Problem) -> tuple[Tensor, Tensor]:
    """The number of each sample's row, broadcasting to the measurement, and the numbers that may be set aside."""
    shape = problem.operator.out_shape
    if is_cartesian(problem) and problem.operator.is_complex:
        return _cartesian(sampled_plane(problem))
    count = shape[-2] if len(shape) > 1 else shape[-1]
    numbers = torch.arange(count)
    return (numbers[:, None] if len(shape) > 1 else numbers), numbers


def _cartesian(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Lines along the side that was undersampled, or points."""
    height, width = plane.shape
    axis, far = line_axis(plane), [_far(n) for n in plane.shape]
    if axis == -1:
        return torch.arange(width), (plane.any(0) & far[1]).nonzero().flatten()
    if axis == -2:
        return torch.arange(height)[:, None], (plane.any(1) & far[0]).nonzero().flatten()
    points = plane & (far[0][:, None] | far[1])
    return torch.arange(height * width).reshape(height, width), points.flatten().nonzero().flatten()


def _far(length: int) -> Tensor:
    return (torch.arange(length) - length // 2).abs() > CENTRE * length
