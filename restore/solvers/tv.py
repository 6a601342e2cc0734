"""Finite differences with exact adjoints, and the shrinkage operators of total variation.

May be called by solvers and samplers. Axes count from the end (-1 is the last), so that leading
batch dimensions never matter. Everything is real or complex; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from restore.errors import ConfigError

Boundary = Literal["periodic", "neumann"]


def difference(x: Tensor, axis: int, boundary: Boundary = "neumann") -> Tensor:
    """(D x)[k] = x[k+1] - x[k] along one axis, the shape of x.

    At the end: "periodic" wraps to the first sample, "neumann" gives zero. Raises ConfigError.
    """
    n = _length(x, axis, boundary)
    edge = 0 if boundary == "periodic" else n - 1
    following = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, edge, 1)], dim=axis)
    return following - x


def difference_adjoint(g: Tensor, axis: int, boundary: Boundary = "neumann") -> Tensor:
    """D* g, the exact adjoint of `difference`: (D* g)[k] = g[k-1] - g[k]. Raises ConfigError."""
    n = _length(g, axis, boundary)
    inner = g.narrow(axis, 0, n - 1)
    if boundary == "periodic":
        return torch.cat([g.narrow(axis, n - 1, 1), inner], dim=axis) - g
    nothing = torch.zeros_like(g.narrow(axis, 0, 1))  # the last difference is always zero
    return torch.cat([nothing, inner], dim=axis) - torch.cat([inner, nothing], dim=axis)


def gradient(x: Tensor, axes: Sequence[int], boundary: Boundary = "neumann") -> Tensor:
    """Differences along several axes, stacked in front: (len(axes), *x.shape)."""
    return torch.stack([difference(x, axis, boundary) for axis in _axes(axes)])


def gradient_adjoint(g: Tensor, axes: Sequence[int], boundary: Boundary = "neumann") -> Tensor:
    """Exact adjoint of `gradient`. g: (len(axes), *shape) -> shape."""
    parts = [difference_adjoint(g[k], axis, boundary) for k, axis in enumerate(_axes(axes))]
    return sum(parts[1:], start=parts[0])


def laplacian(x: Tensor, axes: Sequence[int], boundary: Boundary = "neumann") -> Tensor:
    """D* D x summed over axes (positive semidefinite, eigenvalues up to 4 per axis)."""
    out = torch.zeros_like(x)
    for axis in _axes(axes):
        n = _length(x, axis, boundary)
        step = x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)
        out.narrow(axis, 1, n - 1).add_(step)
        out.narrow(axis, 0, n - 1).sub_(step)
        if boundary == "periodic":
            wrap = x.narrow(axis, 0, 1) - x.narrow(axis, n - 1, 1)
            out.narrow(axis, 0, 1).add_(wrap)
            out.narrow(axis, n - 1, 1).sub_(wrap)
    return out


def soft_threshold(x: Tensor, tau: float | Tensor) -> Tensor:
    """Shrink towards zero by tau >= 0: the magnitude of complex numbers, |x| of real ones.

    The proximal map of tau ||x||_1. tau: a number or a real tensor that broadcasts to x.
    """
    if x.is_complex():
        return x * _shrink_factor(x.abs(), tau)
    if isinstance(tau, Tensor):
        return x - torch.minimum(torch.maximum(x, -tau), tau)
    return x - x.clamp(-tau, tau)


def shrink_isotropic(g: Tensor, tau: float | Tensor) -> Tensor:
    """Shrink the joint length over the first dimension: the proximal map of tau ||g||_{2,1}.

    g: (axes, *shape). tau: a number or a real tensor that broadcasts to shape.
    """
    return g * _shrink_factor(torch.linalg.vector_norm(g, dim=0), tau)


def _shrink_factor(size: Tensor, tau: float | Tensor) -> Tensor:
    # the smallest normal number replaces 0/0 by 0 and changes nothing else
    return (size - tau).clamp_min_(0) / size.clamp_min(torch.finfo(size.dtype).tiny)


def _axes(axes: Sequence[int]) -> Sequence[int]:
    if len(axes) == 0 or len(set(axes)) != len(axes) or any(axis >= 0 for axis in axes):
        raise ConfigError(
            f"total variation: axes are {tuple(axes)}, expected different negative numbers "
            "(-1 is the last axis)"
        )
    return axes


def _length(x: Tensor, axis: int, boundary: str) -> int:
    if boundary not in ("periodic", "neumann"):
        raise ConfigError(
            f"differences: boundary is {boundary!r}, expected 'periodic' or 'neumann'"
        )
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ConfigError(f"differences: no axis {axis} to act on in shape {tuple(x.shape)}")
    return x.shape[axis]
