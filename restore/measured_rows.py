"""What of a measurement was measured at once: lines of k-space, readouts of a trajectory, views of a sinogram.

Used where some are set aside (`restore.training.held_out`), and where is looked for what an answer does not explain
(`restore.unexplained`). Touches nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.problem import Problem


@dataclasses.dataclass(frozen=True)
class Rows:
    """axis: of the measurement, from its last, along which rows are counted. words: what they are called."""

    axis: int
    words: str


def rows_of(problem: Problem) -> Rows | None:
    """The rows of a problem; None of points, of volumes on a Cartesian grid, and of pictures."""
    operator = problem.operator
    if operator.kind == "mri":
        if not is_cartesian(problem):
            return Rows(-2, "readouts")
        axis = None if problem.has_volumes else line_axis(sampled_plane(problem))
        if axis is None:
            return None
        words = {-1: "columns of k-space", -2: "rows of k-space"}[axis]
        return Rows(axis - _pairs(problem), words)
    if "subsets" in operator.abilities:
        return Rows(-operator.measured_ndim, "views")
    return None


def is_cartesian(problem: Problem) -> bool:
    """Whether the measurement is k-space on the image's own grid."""
    shape, last = problem.operator.out_shape, _pairs(problem)
    plane = shape[len(shape) - 2 - last : len(shape) - last]
    return problem.operator.kind == "mri" and plane == problem.item_shape[-2:]


def sampled_plane(problem: Problem) -> Tensor:
    """Where Cartesian k-space was measured in any item or coil, boolean (H, W), on the CPU."""
    sampled = problem.operator.project(torch.ones_like(problem.y)) != 0
    if _pairs(problem):
        sampled = sampled.any(-1)
    return sampled.reshape(-1, *problem.item_shape[-2:]).any(0).cpu()


def line_axis(plane: Tensor) -> int | None:
    """The axis, -1 or -2, along which lines of a sampled plane are counted; None where it is points."""
    rows, columns = plane.any(1), plane.any(0)
    if not bool((plane == rows[:, None] & columns).all()):
        return None
    return -1 if bool(rows.all()) else -2


def _pairs(problem: Problem) -> int:
    """1 where k-space is pairs of real numbers, of images that are held real, else 0."""
    operator = problem.operator
    return int(operator.kind == "mri" and not operator.is_complex and operator.out_shape[-1] == 2)
