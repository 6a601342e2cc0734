"""The largest eigenvalue of a Hermitian positive semidefinite map, item by item of a batch.

May be called by operators (their norm), solvers and samplers (step sizes). Touches nothing, draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import DivergenceError, ShapeError

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
    dims = tuple(range(-item_ndim, 0))
    lead = start.shape[: start.ndim - item_ndim]
    previous, v = torch.zeros_like(start), _unit(start, _length(start, dims))
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    estimates: list[Tensor] = [torch.zeros(lead.numel(), dtype=torch.float64)]
    for _ in range(iterations):
        w = apply(v)
        overlap = _overlap(v, w, dims)
        w = w - overlap.to(w.real.dtype) * v
        if beside:
            w = w - _shaped(beside[-1], overlap).to(w.real.dtype) * previous
        length = _length(w, dims)
        diagonal.append(overlap.flatten().cpu())
        estimates.append(_largest(diagonal, beside))
        change = estimates[-1] - estimates[max(0, len(estimates) - 1 - _LOOK_BACK)]
        still = len(estimates) > _LOOK_BACK + 1
        # Without a remainder the iterates span an invariant subspace: the item's answer is exact.
        exhausted = length.flatten().cpu() <= tolerance * estimates[-1]
        if bool((exhausted | (still & (change <= tolerance * estimates[-1]))).all()):
            break
        length = length.masked_fill(_shaped(exhausted, length), 0)
        beside.append(length.flatten().cpu())
        previous, v = v, _unit(w, length)
    return estimates[-1].clamp(min=0).reshape(lead).to(start.device)


def _largest(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    matrix = torch.diag_embed(torch.stack(diagonal, -1))
    if beside:
        off = torch.stack(beside, -1)
        matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    if not bool(torch.isfinite(matrix).all()):
        raise DivergenceError("largest eigenvalue: the map returned numbers that are not finite")
    return torch.linalg.eigvalsh(matrix)[..., -1]


def _overlap(a: Tensor, b: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Re <a, b> of each item, in double precision."""
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.sum(dims, keepdim=True, dtype=torch.float64)


def _length(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    # In double precision: squares of small float32 numbers underflow.
    return torch.linalg.vector_norm(
        x, dim=dims, keepdim=True, dtype=torch.complex128 if x.is_complex() else torch.float64
    )


def _unit(x: Tensor, length: Tensor) -> Tensor:
    """x / length, zero where the length is."""
    divisor = torch.where(length > 0, length, 1)
    return torch.where(length > 0, x / divisor, 0).to(x.dtype)


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(like.shape).to(like.device)
