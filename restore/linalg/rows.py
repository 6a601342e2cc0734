"""Tensors as one row of real numbers an item, the form in which iterations keep their scalars.

Called by conjugate gradients and the Lanczos iteration. Views where torch can, copies where it must; no gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor


def as_rows(x: Tensor, items: int) -> Tensor:
    """(items, numbers): Re <a, b> is then the plain product of rows. An item without numbers is a row without any."""
    x = x.detach().resolve_conj()
    x = torch.view_as_real(x) if x.is_complex() else x
    return x.reshape(items, -1) if x.numel() else x.new_zeros(items, 0)


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `as_rows` without a copy. like: a tensor of the shape and kind before."""
    if like.is_complex():
        return torch.view_as_complex(rows.view(*like.shape, 2))
    return rows.view(like.shape)


def row_norm(rows: Tensor) -> Tensor:
    """(items, 1), summed in double precision: squares of small float32 numbers underflow."""
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64).to(rows.dtype)


def power_of_two(rows: Tensor) -> Tensor:
    """(items, 1): the power of two above the largest entry of each row, 2 where that is zero or not finite."""
    if rows.shape[1] == 0:
        return rows.new_full((rows.shape[0], 1), 2)
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.where(torch.isfinite(largest) & (largest > 0), largest, 1)
    return largest / torch.frexp(largest).mantissa
