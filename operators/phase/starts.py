"""Starts for phase retrieval: the leading eigenvector of the weighted normal operator, then alternating projections.

Called by `Magnitudes`; knows a linear operator by its contract. From a fixed start: the same answer every time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.operators.base import LinearOperator

_TRUNCATED = (
    9.0  # intensities above so many times their mean are left out: alpha = 3 of Chen and Candes
)
Project = Callable[[Tensor], Tensor]


def spectral_start(linear: LinearOperator, y: Tensor, project: Project, iterations: int) -> Tensor:
    """The leading eigenvector of A^H diag(y^2, large ones left out) A, scaled to fit y. y: (*batch, *out_shape).

    Chen, Candes, "Solving random quadratic systems of equations is nearly as easy as solving linear systems", 2015.
    project: onto the images that there are, such as real ones. An item's scalars are its own.
    """
    ends, sides = _ends(linear.measured_ndim), len(linear.out_shape)
    intensity = y.square()
    kept = torch.where(intensity <= _TRUNCATED * intensity.mean(ends, keepdim=True), intensity, 0)
    start = torch.randn(
        linear.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    x = start.to(y).expand(*y.shape[: y.ndim - sides], *linear.in_shape)
    for _ in range(iterations):
        x = _unit(project(linear._adjoint(kept * linear._apply(project(x) + 0j))), linear)
    seen = linear._apply(x + 0j).abs()
    power = seen.square().sum(ends, keepdim=True)
    factor = (seen * y).sum(ends, keepdim=True) / torch.where(power > 0, power, 1)
    return x * factor.reshape(*factor.shape[: factor.ndim - len(ends)], *[1] * linear.item_ndim)


def error_reduction(
    linear: LinearOperator, y: Tensor, x: Tensor, project: Project, iterations: int
) -> Tensor:
    """Alternating projections: the measured magnitudes with the phases of A x, then the image nearest to them.

    Gerchberg, Saxton, Optik 35, 1972; Fienup's error reduction, whose misfit never rises where pinv is exact.
    """
    for _ in range(iterations):
        x = project(linear._pinv(y * torch.sgn(linear._apply(x + 0j))))
    return x


def nearest(linear: LinearOperator, y: Tensor, images: tuple[Tensor, Tensor]) -> Tensor:
    """Item by item, that of two images (*batch, *in_shape) whose magnitudes are nearest to y."""
    ends = _ends(linear.measured_ndim)
    far = [(linear._apply(x + 0j).abs() - y).square().sum(ends) for x in images]
    best = torch.stack(far).argmin(0)[(..., *[None] * linear.item_ndim)]
    return torch.where(best == 0, images[0], images[1])


def _unit(x: Tensor, linear: LinearOperator) -> Tensor:
    ends = _ends(linear.item_ndim)
    length = torch.linalg.vector_norm(x, dim=ends, keepdim=True)
    return x / torch.where(length > 0, length, 1)


def _ends(count: int) -> tuple[int, ...]:
    """The last dimensions."""
    return tuple(range(-count, 0))
