"""The largest eigenvalue of a Hermitian positive semidefinite map, item by item of a batch.

May be called by operators (their norm), solvers and samplers (step sizes). Touches nothing, draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import DivergenceError, ShapeError
from restore.linalg.rows import as_rows, from_rows, power_of_two, row_norm

_LOOK_BACK = 3  # steps over which an estimate must have stood still


@torch.no_grad()
def largest_eigenvalue(
    apply: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    item_ndim: int,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> Tensor:
    """Largest eigenvalue of x -> apply(x), block diagonal over items, from products alone.

    start: (*batch, *item), real or complex; an item is the last `item_ndim` dimensions. It should have a share of every
    eigenvector, as a random one does; an item of zeros gives 0. Returns float64 of shape (*batch), zero or more.

    Takes the best estimate in the span of all iterates (Lanczos 1950; Golub and Van Loan, Matrix Computations, 10.1)
    rather than the last iterate alone, as the power method does, and so needs about the square root of its number of
    steps. It approaches from below. Stops when no item has changed by more than `tolerance`, relative, over three
    steps. Not differentiable. Raises ShapeError, and DivergenceError where `apply` returns what is not finite.
    """
    if not 1 <= item_ndim <= start.ndim:
        raise ShapeError(
            f"largest eigenvalue: item_ndim is {item_ndim}, expected 1 to {start.ndim} for a start "
            f"of shape {tuple(start.shape)}"
        )
    lead = start.shape[: start.ndim - item_ndim]
    v = as_rows(start, lead.numel())
    v = v * _inverse(row_norm(v))
    previous, unit = torch.zeros_like(v), torch.ones_like(v[:, :1])
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    estimates: list[Tensor] = [torch.zeros(len(v), dtype=torch.float64)]
    for k in range(iterations):
        w = as_rows(apply(from_rows(v, start)), lead.numel())
        if k == 0:  # in units of the map, so that squares neither vanish nor overflow
            unit = power_of_two(w)
        w = w / unit
        overlap = torch.linalg.vecdot(v, w).unsqueeze(1)
        w.addcmul_(overlap, v, value=-1)
        if beside:
            w.addcmul_(beside[-1].to(w).unsqueeze(1), previous, value=-1)
        length = torch.linalg.vector_norm(w, dim=1)
        diagonal.append(overlap.flatten().cpu().double())
        estimates.append(_largest(diagonal, beside))
        change = estimates[-1] - estimates[max(0, len(estimates) - 1 - _LOOK_BACK)]
        still = len(estimates) > _LOOK_BACK + 1
        # Without a remainder the iterates span an invariant subspace: the item's answer is exact.
        exhausted = length.cpu().double() <= tolerance * estimates[-1]
        if bool((exhausted | (still & (change <= tolerance * estimates[-1]))).all()):
            break
        length = length.masked_fill(exhausted.to(length.device), 0)
        beside.append(length.cpu().double())
        previous, v = v, w.mul_(_inverse(length.unsqueeze(1)))
    found = estimates[-1].clamp(min=0).to(start.device) * unit.flatten().double()
    return found.reshape(lead)


def _largest(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    matrix = torch.diag_embed(torch.stack(diagonal, -1))
    if beside:
        off = torch.stack(beside, -1)
        matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    if not bool(torch.isfinite(matrix).all()):
        raise DivergenceError("largest eigenvalue: the map returned numbers that are not finite")
    return torch.linalg.eigvalsh(matrix)[..., -1]


def _inverse(length: Tensor) -> Tensor:
    """1 / length, zero where the length is."""
    return torch.where(length > 0, 1 / torch.where(length > 0, length, 1), 0)
