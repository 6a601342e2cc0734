"""The two iterations the operator contract derives from: the largest singular value, and least
squares.

Called by `operators.base` and by operators' own `_pinv`. The solvers that samplers use live in
`restore.solvers`, which this layer must not import.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from restore.operators.base import LinearOperator

_LOOK_BACK = 3  # steps over which the estimate must have stood still


def power_iteration(op: LinearOperator, *, iterations: int = 100, tolerance: float = 1e-6) -> float:
    """Largest singular value of `op`, from repeated products with A^H A and a fixed random start.

    Takes the best estimate in the span of all iterates rather than the last iterate alone (Lanczos
    1950; Golub and Van Loan, Matrix Computations, 10.1), which needs about the square root of the
    plain method's number of steps. Stops when the squared value has changed by less than
    `tolerance`, relative, over three steps. Same result on every call.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = op.dtype.to_complex() if op.is_complex else op.dtype
    v = torch.randn(op.in_shape, generator=generator, dtype=dtype).to(op.device)
    v = v / torch.linalg.vector_norm(v)
    previous = torch.zeros_like(v)
    diagonal: list[float] = []
    beside: list[float] = []
    estimates: list[float] = []
    for _ in range(iterations):
        w = op._normal(v)
        diagonal.append(_inner(v, w, v.ndim).item())
        w = w - diagonal[-1] * v - (beside[-1] if beside else 0.0) * previous
        length = float(torch.linalg.vector_norm(w))
        estimates.append(_largest_eigenvalue(diagonal, beside))
        change = estimates[-1] - estimates[max(0, len(estimates) - 1 - _LOOK_BACK)]
        settled = len(estimates) > _LOOK_BACK and change <= tolerance * estimates[-1]
        if settled or length <= tolerance * estimates[-1]:
            break
        beside.append(length)
        previous, v = v, w / length
    return max(estimates[-1], 0.0) ** 0.5


def least_squares(
    op: LinearOperator, y: Tensor, *, iterations: int = 20, damping: float = 0.0
) -> Tensor:
    """argmin |A x - y|^2 + damping |x|^2 by conjugate gradients on the normal equations, from zero.

    y: (*batch, *op.out_shape) -> (*batch, *op.in_shape). Every item of the batch, and every slice
    along `slice_ndim`, has scalars of its own, so a batch gives what its items give alone, and
    scaling y scales the answer. Stopping early is the regularisation where `damping` is zero; an
    item that has converged or broken down (no curvature) stands still.
    """
    right = op._adjoint(y)
    dims = tuple(range(-op.item_ndim, 0))
    peak = right.abs().amax(dim=dims, keepdim=True)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    r = p = right / peak  # so that squares of tiny or huge data neither vanish nor overflow
    x = torch.zeros_like(r)
    rho = _inner(r, r, op.item_ndim)
    enough = rho * (4 * torch.finfo(rho.dtype).eps) ** 2
    for _ in range(iterations):
        q = op._normal(p) + damping * p
        curvature = _inner(p, q, op.item_ndim)
        active = (rho > enough) & (curvature > 0)
        if not active.any():
            break
        step = torch.where(active, rho / curvature, torch.zeros_like(rho))
        x = x + step * p
        r = r - step * q
        rho_next = _inner(r, r, op.item_ndim)
        p = r + torch.where(active, rho_next / rho, torch.zeros_like(rho)) * p
        rho = torch.where(active, rho_next, torch.zeros_like(rho))
    return x * peak


def _inner(a: Tensor, b: Tensor, ndim: int) -> Tensor:
    """Real part of the inner product over the last `ndim` dimensions, kept as ones."""
    product = a * b if not a.is_complex() else (a.conj() * b).real
    return product.sum(dim=tuple(range(-ndim, 0)), keepdim=True)


def _largest_eigenvalue(diagonal: list[float], beside: list[float]) -> float:
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    return float(np.linalg.eigvalsh(matrix)[-1])
