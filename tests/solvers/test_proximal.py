"""The data term and its two steps against dense linear algebra."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import Result
from restore.operators.base import LinearOperator
from restore.solvers.proximal import DataTerm, data_step, krylov_step

DOUBLE = 1e-8  # float64: CG to 1e-12 or a small dense solution; 6e-14 seen
BOUND = 0.02  # an estimate by a few steps of Lanczos may be 2 % above the norm

M, N = 9, 6
C = torch.complex128


def randn(generator: torch.Generator, *shape: int, dtype: torch.dtype = C) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def proximal_point(a: Tensor, y: Tensor, x0: Tensor, weight: float, lam: Tensor) -> Tensor:
    normal = torch.eye(N, dtype=a.dtype) + weight * a.mH @ (lam[:, None] * a)
    return torch.linalg.solve(normal, x0 + weight * a.mH @ (lam * y))


def test_data_step_is_the_proximal_point(generator, dense):
    a, y, x0 = randn(generator, M, N), randn(generator, 3, M), randn(generator, 3, N)
    lam = torch.rand(M, generator=generator, dtype=torch.float64)
    got = data_step(DataTerm(dense(a), y, lam), x0, 0.7, iters=40, tol=1e-12)
    assert bool((got.result == Result.CONVERGED).all())
    for k in range(3):
        torch.testing.assert_close(got.x[k], proximal_point(a, y[k], x0[k], 0.7, lam))


def test_weight_per_item(generator, dense):
    a, y, x0 = randn(generator, M, N), randn(generator, 3, M), randn(generator, 3, N)
    term, weights = DataTerm(dense(a), y), torch.tensor([0.0, 0.1, 50.0])
    got = data_step(term, x0, weights, iters=40, tol=1e-12)
    assert torch.equal(got.x[0], x0[0])
    for k in (1, 2):
        alone = data_step(DataTerm(dense(a), y[k]), x0[k], float(weights[k]), iters=40, tol=1e-12)
        torch.testing.assert_close(got.x[k], alone.x, rtol=DOUBLE, atol=DOUBLE)
    with pytest.raises(ShapeError, match="one per item"):
        data_step(term, x0, torch.ones(2), iters=1)


def test_gradient_is_that_of_the_objective(generator, dense):
    a, y = randn(generator, M, N), randn(generator, M)
    lam = torch.rand(M, generator=generator, dtype=torch.float64)
    term = DataTerm(dense(a), y, lam)
    x = randn(generator, N).requires_grad_()
    value = 0.5 * (lam * (a @ x - y).abs() ** 2).sum()
    (wanted,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(term.gradient(x.detach()), wanted)
    torch.testing.assert_close(term.residual(x.detach()), (a @ x - y).detach())


@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 1), (2, 3, 1), (3, 1)])
def test_uniform_precision_uses_the_fused_normal(generator, dense, shape):
    """A factor per measurement or per slice can be pulled out of A^H Lambda A."""
    fused = Fused(dense(randn(generator, M, N), (3, N), (3, M), slices=1))
    y, x = randn(generator, 2, 3, M), randn(generator, 2, 3, N)
    lam = torch.rand(shape, generator=generator)
    got = DataTerm(fused, y, lam).normal(x)
    assert fused.calls == ["normal"]
    torch.testing.assert_close(got, fused.adjoint(fused(x) * lam.double()))
    torch.testing.assert_close(got, DataTerm(fused, y, lam.expand(2, 3, M).clone()).normal(x))


@dataclass(frozen=True, eq=False, repr=False)
class Fused(LinearOperator):
    inner: LinearOperator
    calls: list[str] = field(default_factory=list)

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.inner.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.inner.out_shape

    @property
    def slice_ndim(self) -> int:
        return self.inner.slice_ndim

    def _apply(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)

    def _normal(self, x: Tensor) -> Tensor:
        self.calls.append("normal")
        return self.inner.normal(x)


def test_slices_have_their_own_scalars(generator, dense):
    a = randn(generator, M, N)
    y, x0 = randn(generator, 3, M), randn(generator, 3, N)
    term = DataTerm(dense(a, (3, N), (3, M), slices=1), y)
    got = data_step(term, x0, 2.0, iters=2)
    assert got.iterations.shape == (3,)
    for k in range(3):
        alone = data_step(DataTerm(dense(a), y[k]), x0[k], 2.0, iters=2)
        torch.testing.assert_close(got.x[k], alone.x)
    volume = data_step(term, x0, 2.0, iters=2, item_ndim=2)
    assert volume.iterations.shape == ()
    assert float((volume.x - got.x).norm()) > 1e-6


def test_krylov_step_is_the_best_fit_in_the_krylov_space(generator, dense):
    a, y, x0 = randn(generator, M, N), randn(generator, M), randn(generator, N)
    got = krylov_step(DataTerm(dense(a), y), x0, iters=3).x
    r = a.mH @ (y - a @ x0)
    space = [r]
    for _ in range(2):
        space.append(a.mH @ (a @ space[-1]))
    # over the reals, as the inner product of the solver is
    basis = torch.stack(space, dim=1)
    system = torch.view_as_real(a @ basis).movedim(-1, 1).reshape(2 * M, 3)
    goal = torch.view_as_real(y - a @ x0).reshape(2 * M)
    weights = torch.linalg.lstsq(system, goal[:, None]).solution[:, 0]
    torch.testing.assert_close(got, x0 + basis @ weights.to(C), rtol=DOUBLE, atol=DOUBLE)


def test_several_samples_share_one_measurement(generator, dense):
    a, y, x0 = randn(generator, M, N), randn(generator, M), randn(generator, 4, N)
    term = DataTerm(dense(a), y)
    for step in (krylov_step(term, x0, iters=2), data_step(term, x0, 1.0, iters=2)):
        assert step.x.shape == x0.shape
    assert term.rhs is term.rhs


def test_lipschitz_constant(generator, dense):
    a, y = randn(generator, M, N), randn(generator, 2, M)
    for lam in (None, 3.0, torch.tensor([[1.0], [4.0]]), torch.rand(M, generator=generator)):
        got = DataTerm(dense(a), y, lam).lipschitz
        full = torch.ones(2, M) * (1.0 if lam is None else torch.as_tensor(lam))
        assert got.shape == (2, 1)
        for k in range(2):
            wanted = torch.linalg.eigvalsh(a.mH @ (full[k, :, None].double() * a))[-1]
            assert float(got[k] / wanted) == pytest.approx(1, abs=BOUND)


def test_lipschitz_constant_of_nothing(dense):
    zero = dense(torch.zeros(M, N))
    term = DataTerm(zero, torch.zeros(M), torch.arange(float(M)))
    assert float(term.lipschitz) == 0


def test_mistakes_are_named(dense):
    a = dense(torch.ones(M, N))
    with pytest.raises(ShapeError, match=r"expected \(\*batch, 9\)"):
        DataTerm(a, torch.ones(4))
    with pytest.raises(ConfigError, match="zero or more"):
        DataTerm(a, torch.ones(M), -1.0)
    with pytest.raises(ConfigError, match="real, zero or more"):
        DataTerm(a, torch.ones(M), -torch.ones(M))
    with pytest.raises(ShapeError, match="does not broadcast"):
        DataTerm(a, torch.ones(M), torch.ones(4))
