"""The proximal point of a Gaussian data term without iterations, where A A^H has a known basis.

May be called by samplers and by whoever takes the same data step many times: what depends on the
measurement alone is computed once. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.solvers.proximal import DataTerm

ProximalPoint = Callable[[Tensor, float], Tensor]
"""(x0, weight) -> argmin_v 1/2 ||v - x0||^2 + weight f(v); x0 (*batch, *in_shape), weight > 0."""


def closed_form(term: DataTerm) -> ProximalPoint | None:
    """The exact proximal point of `term`, or None where it takes an iteration (`data_step`).

    With u = weight * precision the point is x0 + A^H (1/u + A A^H)^-1 (y - A x0). There is one for
    inpainting, circular blur and downsampling of real images with one precision (a number).
    """
    operator, y, precision = term.operator, term.y, term.precision
    if isinstance(precision, Tensor) or precision == 0 or y.is_complex() or y.numel() == 0:
        return None
    unit = 1.0 if precision is None else precision
    if isinstance(operator, Inpainting):
        return _inpainting(operator, y, unit)
    if isinstance(operator, Blur) and operator.boundary == "circular":
        return _circular_blur(operator, y, unit)
    return _downsample(operator, y, unit) if isinstance(operator, Downsample) else None


def _inpainting(operator: Inpainting, y: Tensor, unit: float) -> ProximalPoint:
    """Seen pixels move towards the data, the others stay."""
    mask = operator.mask.to(y)
    return lambda x0, weight: torch.lerp(x0, y, mask / (1 / (weight * unit) + 1))


def _circular_blur(operator: Blur, y: Tensor, unit: float) -> ProximalPoint:
    """Frequency by frequency: (X0 / u + conj(T) Y) / (1 / u + |T|^2)."""
    power = operator.transfer.abs().square().to(y)
    seen = torch.fft.rfft2(y) * operator.transfer.conj()

    def point(x0: Tensor, weight: float) -> Tensor:
        ridge = 1 / (weight * unit)
        spectrum = torch.fft.rfft2(x0).mul_(ridge).add_(seen).mul_(1 / (ridge + power))
        return torch.fft.irfft2(spectrum, s=y.shape[-2:])

    return point


def _downsample(operator: Downsample, y: Tensor, unit: float) -> ProximalPoint:
    """In the singular bases of the two small matrices, whose Kronecker product A is."""
    (u_rows, s_rows, rows), (u_columns, s_columns, columns) = (
        torch.linalg.svd(m.double(), full_matrices=False) for m in (operator.rows, operator.columns)
    )
    power = (s_rows[:, None] * s_columns).square().to(y)
    rows, columns = (s_rows[:, None] * rows).to(y), (s_columns[:, None] * columns).to(y)
    seen = u_rows.mT.to(y) @ y @ u_columns.to(y)

    def point(x0: Tensor, weight: float) -> Tensor:
        missing = (seen - rows @ (x0 @ columns.mT)).div_(1 / (weight * unit) + power)
        return x0 + (rows.mT @ missing) @ columns

    return point
