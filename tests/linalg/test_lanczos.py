"""The largest eigenvalue against dense ones, item by item, and what happens at the ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import DivergenceError, ShapeError
from restore.linalg.lanczos import largest_eigenvalue

STOPPED = 1e-5  # ten times the change at which it stops, from below; rounding is far less
CLOSE = 1e-4  # eigenvalues close to the largest are told apart late; 1.2e-6 seen


def definite(n: int, items: int, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    roots = torch.randn(items, n, n, generator=g, dtype=dtype)
    return roots @ roots.mH


def act(matrices: Tensor):
    return lambda x: (matrices @ x[..., None])[..., 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_item_has_its_own(dtype, generator):
    matrices = (
        definite(12, 4, generator, dtype) * torch.tensor([1e-12, 1.0, 7.0, 1e12])[:, None, None]
    )
    start = torch.randn(4, 12, generator=generator, dtype=dtype)
    found = largest_eigenvalue(act(matrices), start, item_ndim=1)
    wanted = torch.linalg.eigvalsh(matrices)[:, -1]
    torch.testing.assert_close(found, wanted, rtol=STOPPED, atol=0)
    assert bool((found <= wanted * (1 + 1e-12)).all())
    alone = [
        largest_eigenvalue(act(m), s, item_ndim=1) for m, s in zip(matrices, start, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(alone), rtol=STOPPED, atol=0)


def test_close_eigenvalues_take_few_steps(generator):
    values = torch.linspace(0.5, 1, 400, dtype=torch.float64)
    calls = 0

    def apply(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return values * x

    start = torch.randn(400, generator=generator, dtype=torch.float64)
    assert float(largest_eigenvalue(apply, start, item_ndim=1)) == pytest.approx(1, rel=CLOSE)
    assert calls < 60  # the power method needs some 400 for these digits


def test_invariant_subspaces_and_nothing(generator):
    """An eigenvector as the start, a start of zeros, a map of zeros: exact, and no division by zero."""
    values = torch.tensor([3.0, 2.0, 0.0])
    start = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = largest_eigenvalue(lambda x: values * x, start, item_ndim=1)
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0, 3.0], dtype=torch.float64))
    assert float(largest_eigenvalue(torch.zeros_like, start[2], item_ndim=1)) == 0
    assert largest_eigenvalue(torch.zeros_like, start[:0], item_ndim=1).shape == (0,)


def test_tiny_units_in_single_precision():
    values = torch.tensor([1e-30, 3e-30])
    start = torch.tensor([1.0, 1.0]) * 1e-25
    found = largest_eigenvalue(lambda x: values * x, start, item_ndim=1)
    assert float(found) == pytest.approx(3e-30, rel=STOPPED)


def test_faults_are_named():
    x = torch.ones(3)
    with pytest.raises(DivergenceError, match="not finite"):
        largest_eigenvalue(lambda v: v * float("nan"), x, item_ndim=1)
    with pytest.raises(ShapeError, match="item_ndim is 2, expected 1 to 1"):
        largest_eigenvalue(lambda v: v, x, item_ndim=2)
