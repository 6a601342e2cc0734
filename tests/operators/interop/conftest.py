"""Problems that other libraries and this package both describe, and what two operators of one map owe each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.operators import check
from restore.operators.base import LinearOperator
from restore.operators.mri.multicoil import MultiCoilMRI

LAWS = 1e-4  # single precision, sums over some hundred products; 5e-6 seen


def relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def draw(op: LinearOperator, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    dtype = op.dtype.to_complex() if op.is_complex else op.dtype
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same_map(theirs: LinearOperator, ours: LinearOperator, tolerance: float) -> None:
    """The contract's laws (in the precision of libraries that know single only), then the two maps side by side."""
    check(theirs, tolerance=LAWS)
    assert theirs.in_shape == ours.in_shape
    assert theirs.out_shape == ours.out_shape
    assert theirs.is_complex == ours.is_complex
    x, y = draw(ours, (2, 3, *ours.in_shape)), draw(ours, (2, 3, *ours.out_shape), 2)
    assert relative(theirs(x), ours(x)) < tolerance
    assert relative(theirs.adjoint(y), ours.adjoint(y)) < tolerance
    assert theirs(x).dtype == ours(x).dtype
    image = x[0, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(theirs(image), image, y[0, 0])
    assert relative(gradient, ours.adjoint(y[0, 0])) < tolerance


@pytest.fixture(scope="session")
def same_map() -> Callable[[LinearOperator, LinearOperator, float], None]:
    return assert_same_map


@pytest.fixture(scope="session")
def scan() -> MultiCoilMRI:
    """Four coils of an odd-sized slice, half of its samples."""
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(4, 20, 15, generator=g, dtype=torch.complex64)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    return MultiCoilMRI(maps, torch.rand(20, 15, generator=g) < 0.5)
