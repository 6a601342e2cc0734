"""Differences with exact adjoints, shrinkage in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from restore.errors import ConfigError
from restore.solvers import tv

DOUBLE = 1e-12  # float64: one sum of products, 1e-16 of it each
SINGLE = 1e-5  # float32: a root and a quotient, 6e-8 each


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_adjoint_and_laplacian(generator, boundary, size, dtype):
    x = torch.randn(2, size, 3, size, generator=generator, dtype=dtype)
    axes = (-3, -1)
    g = torch.randn(2, *x.shape, generator=generator, dtype=dtype)
    ahead = torch.vdot(g.flatten(), tv.gradient(x, axes, boundary).flatten())
    back = torch.vdot(tv.gradient_adjoint(g, axes, boundary).flatten(), x.flatten())
    assert abs(ahead - back) <= DOUBLE * float(g.norm() * x.norm())
    both = tv.gradient_adjoint(tv.gradient(x, axes, boundary), axes, boundary)
    torch.testing.assert_close(tv.laplacian(x, axes, boundary), both)


def test_values_at_the_end():
    x = torch.tensor([1.0, 4.0, 6.0])
    assert tv.difference(x, -1, "neumann").tolist() == [3, 2, 0]
    assert tv.difference(x, -1, "periodic").tolist() == [3, 2, -5]


def test_periodic_spectrum():
    n = 8
    matrix = tv.laplacian(torch.eye(n, dtype=torch.float64), (-1,), "periodic")
    wanted = sorted(4 * math.sin(math.pi * m / n) ** 2 for m in range(n))
    got = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64))


def test_autograd_through_differences(generator):
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    for boundary in ("periodic", "neumann"):
        (got,) = torch.autograd.grad((tv.difference(x, -2, boundary) * g).sum(), x)
        torch.testing.assert_close(got, tv.difference_adjoint(g, -2, boundary))


def test_soft_threshold():
    x = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0])
    assert tv.soft_threshold(x, 1.0).tolist() == [-2, 0, 0, 0, 1]
    assert tv.soft_threshold(x, torch.full((5,), 1.0)).tolist() == [-2, 0, 0, 0, 1]
    z = torch.tensor([3 + 4j, 0j, 0.3 - 0.4j])
    torch.testing.assert_close(tv.soft_threshold(z, 2.5), torch.tensor([1.5 + 2j, 0j, 0j]))
    assert torch.equal(tv.soft_threshold(z, 0.0), z)
    tiny = z * 1e-30
    torch.testing.assert_close(
        tv.soft_threshold(tiny, 2.5e-30),
        torch.tensor([1.5 + 2j, 0j, 0j]) * 1e-30,
        atol=0,
        rtol=SINGLE,
    )


def test_isotropic_shrinkage_shortens_the_joint_length():
    g = torch.tensor([[3.0, 0.0, 0.1], [4.0, 0.0, 0.1]])
    got = tv.shrink_isotropic(g, 1.0)
    torch.testing.assert_close(got, torch.tensor([[2.4, 0.0, 0.0], [3.2, 0.0, 0.0]]))


def test_total_variation_of_a_square():
    """The edges of a square: each side counts its height, the corner that has both differences their length."""
    x = torch.zeros(6, 6)
    x[2:4, 2:4] = 3
    g = tv.gradient(x, (-2, -1), "neumann")
    assert float(g.abs().sum()) == 24
    assert float(torch.linalg.vector_norm(g, dim=0).sum()) == pytest.approx(18 + 3 * math.sqrt(2))


def test_mistakes_are_named():
    x = torch.ones(3, 3)
    with pytest.raises(ConfigError, match="negative"):
        tv.gradient(x, (0, 1))
    with pytest.raises(ConfigError, match="negative"):
        tv.laplacian(x, (-1, -1))
    with pytest.raises(ConfigError, match="'mirror'"):
        tv.difference(x, -1, "mirror")
    with pytest.raises(ConfigError, match="no axis"):
        tv.difference(x, -3)
