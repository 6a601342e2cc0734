"""TV by ADMM: optimality certificates, closed forms, persistence of the split variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.solvers.admm import AdmmTV, admm_tv_steps
from restore.solvers.proximal import DataTerm
from restore.solvers.tv import Boundary, gradient, gradient_adjoint

CONVERGED = 1e-7  # 150 and 400 steps converge to float64's rounding; 6e-17 seen
OPTIMAL = 1e-7  # 400 steps: 3e-10 seen for differences apart, falling by ten each hundred
WORK = 1e-6  # the same for a sum over 180 differences; 6e-8 of it seen
SINGLE = 1e-5  # float32: ten steps of ten CG steps each; 5e-7 seen
LIMIT = 1e-3  # 300 steps are not the limit; 3e-5 seen
NEAR = 0.05  # the bias of the penalty and 30 equations for 36 unknowns; 4e-3 seen
BIAS = 1e-6  # the weight 1e-9 moves the solution by its multiple; 7e-9 seen
DOUBLE = 1e-9  # float64: 200 steps towards a quadratic's minimum; 2e-16 seen

D = torch.float64


def admm_tv(term: DataTerm, weight: float, **settings: Any) -> Tensor:
    """The last iterate."""
    *_, last = admm_tv_steps(term, weight, **settings)
    return last


def total_variation(x: Tensor, axes: Sequence[int], boundary: Boundary, isotropic: bool) -> Tensor:
    g = gradient(x, axes, boundary)
    return (torch.linalg.vector_norm(g, dim=0) if isotropic else g.abs()).sum()


def test_denoising_a_step_in_closed_form(dense):
    """A step between n and m samples shrinks: its sides move by lambda / n and lambda / m."""
    y = torch.tensor([1.0] * 4 + [3.0] * 6, dtype=D)
    term = DataTerm(dense(torch.eye(10, dtype=D)), y)
    got = admm_tv(term, 0.6, axes=(-1,), iters=400, cg_iters=10, scale=1.0, penalty=1.0)
    wanted = torch.tensor([1 + 0.6 / 4] * 4 + [3 - 0.6 / 6] * 6, dtype=D)
    torch.testing.assert_close(got, wanted, rtol=0, atol=CONVERGED)


def test_large_weight_gives_the_mean(dense, generator):
    y = torch.randn(10, generator=generator, dtype=D)
    term = DataTerm(dense(torch.eye(10, dtype=D)), y)
    got = admm_tv(term, 50.0, axes=(-1,), iters=150, cg_iters=10, scale=1.0, penalty=1.0)
    torch.testing.assert_close(got, y.mean().expand(10), rtol=0, atol=CONVERGED)


def certified(state: AdmmTV, x: Tensor, normal: Tensor, lam: float) -> None:
    """KKT: N x - h + K* p = 0 with p = rho u, |p| <= lambda and <p, K x> = lambda TV(x)."""
    p = state.rho * state.u
    flat = gradient_adjoint(p, state.axes, state.boundary).flatten() - state.rhs.flatten()
    stationarity = normal @ x.flatten() + flat
    assert float(stationarity.norm() / state.rhs.norm()) < OPTIMAL
    size = torch.linalg.vector_norm(p, dim=0) if state.isotropic else p.abs()
    assert float(size.max()) <= lam * (1 + 1e-7)
    work = (p.conj() * gradient(x, state.axes, state.boundary)).sum().real
    value = lam * total_variation(x, state.axes, state.boundary, state.isotropic)
    assert float(work) == pytest.approx(float(value), rel=WORK)


@pytest.mark.parametrize(
    ("isotropic", "boundary", "dtype"),
    [
        (True, "neumann", torch.float64),
        pytest.param(False, "periodic", torch.float64, marks=pytest.mark.slow),
        (True, "periodic", torch.complex128),
        (False, "neumann", torch.complex128),
    ],
)
def test_limit_satisfies_the_optimality_conditions(generator, isotropic, boundary, dtype):
    shape, lam = (3, 4, 5), 0.8
    a = torch.randn(40, 60, generator=generator, dtype=dtype)
    y = torch.randn(40, generator=generator, dtype=dtype) + a.sum(1)
    normal = a.mH @ a
    state = AdmmTV(
        lambda v: (normal @ v.flatten()).reshape(shape),
        (a.mH @ y).reshape(shape),
        lam,
        5.0,
        (-3, -2, -1),
        3,
        boundary,
        isotropic,
    )
    x = torch.zeros(shape, dtype=dtype)
    for _ in range(400):
        x = state.step(x, iters=6).x
    certified(state, x, normal, lam)


def test_full_reconstruction_reaches_that_limit(generator, dense):
    a = torch.randn(30, 36, generator=generator, dtype=D)
    truth = torch.zeros(6, 6, dtype=D)
    truth[1:4, 2:5] = 1
    term = DataTerm(dense(a, (6, 6), (30,)), a @ truth.flatten())
    got = admm_tv(term, 1e-3, iters=300, cg_iters=6)
    lam = 1e-3 * float(term.rhs.abs().max())

    def objective(x: Tensor) -> Tensor:
        return 0.5 * term.residual(x).square().sum() + lam * total_variation(
            x, (-2, -1), "neumann", True
        )

    best = admm_tv(term, 1e-3, iters=500, cg_iters=8, penalty=0.02)
    torch.testing.assert_close(got, best, rtol=0, atol=LIMIT)
    value = objective(best)
    for _ in range(20):
        shift = torch.randn(6, 6, generator=generator, dtype=D)
        for size in (1e-1, 1e-2, 1e-3):
            assert objective(best + size * shift) > value
    assert float((got - truth).norm() / truth.norm()) < NEAR


def test_scaling_batch_and_slices(generator, dense):
    a = torch.randn(30, 36, generator=generator, dtype=torch.complex64)
    y = torch.randn(3, 30, generator=generator, dtype=torch.complex64)
    stack = DataTerm(dense(a, (3, 6, 6), (3, 30), slices=1), y)
    got = admm_tv(stack, 0.01, iters=10)
    scaled = DataTerm(dense(a, (3, 6, 6), (3, 30), slices=1), y * 1e-5)
    torch.testing.assert_close(admm_tv(scaled, 0.01, iters=10) * 1e5, got, rtol=SINGLE, atol=SINGLE)
    for k in range(3):
        alone = admm_tv(DataTerm(dense(a, (6, 6), (30,)), y[k]), 0.01, iters=10)
        torch.testing.assert_close(got[k], alone, rtol=SINGLE, atol=SINGLE)
    coupled = admm_tv(stack, 0.01, axes=(-3, -2, -1), iters=10)
    assert float((coupled - got).norm() / got.norm()) > 1e-3


def test_nonnegative(generator, dense):
    y = torch.randn(6, 6, generator=generator, dtype=D)
    term = DataTerm(dense(torch.eye(36, dtype=D), (6, 6), (36,)), y.flatten())
    got = admm_tv(term, 1e-9, iters=150, nonnegative=True, penalty=1.0)
    torch.testing.assert_close(got, y.clamp_min(0), rtol=0, atol=BIAS)


def test_proximal_term_pulls_towards_the_anchor(generator):
    rhs = torch.randn(5, 4, generator=generator, dtype=D)
    anchor = torch.randn(5, 4, generator=generator, dtype=D)
    state = AdmmTV(lambda v: 2 * v, rhs, 0.0, 1.0, (-2,), 2)
    x = anchor
    for _ in range(200):
        x = state.step(x, iters=8, proximal=3.0, anchor=anchor).x
    torch.testing.assert_close(x, (rhs + 3 * anchor) / 5, rtol=0, atol=DOUBLE)
    start_is_anchor = AdmmTV(lambda v: 2 * v, rhs, 0.0, 1.0, (-2,), 2)
    named = AdmmTV(lambda v: 2 * v, rhs, 0.0, 1.0, (-2,), 2)
    by_default = start_is_anchor.step(anchor, iters=2, proximal=3.0).x
    assert torch.equal(by_default, named.step(anchor, iters=2, proximal=3.0, anchor=anchor).x)


def test_split_variables_persist_until_reset(generator):
    rhs = torch.randn(5, 4, generator=generator)
    state = AdmmTV(lambda v: v, rhs, 0.3, 1.0, (-2,), 2)
    first = state.step(rhs, iters=3).x
    kept = state.z.clone(), state.u.clone()
    second = state.step(rhs, iters=3).x
    assert not torch.equal(first, second)
    state.reset()
    assert torch.equal(state.step(rhs, iters=3).x, first)
    assert torch.equal(state.z, kept[0])
    assert torch.equal(state.u, kept[1])


def test_steps_yield_what_the_whole_returns(generator, dense):
    term = DataTerm(dense(torch.eye(6, dtype=D)), torch.randn(6, generator=generator, dtype=D))
    seen = list(admm_tv_steps(term, 0.1, axes=(-1,), iters=4))
    assert len(seen) == 4
    assert torch.equal(seen[-1], admm_tv(term, 0.1, axes=(-1,), iters=4))


def test_mistakes_are_named(dense):
    rhs = torch.ones(3, 4)
    with pytest.raises(ConfigError, match="raise item_ndim"):
        AdmmTV(lambda v: v, rhs, 0.1, 1.0, (-2,), 1)
    with pytest.raises(ConfigError, match="no sign"):
        AdmmTV(lambda v: v, rhs + 0j, 0.1, 1.0, (-1,), 1, nonnegative=True)
    with pytest.raises(ConfigError, match="rho is 0"):
        AdmmTV(lambda v: v, rhs, 0.1, 0.0, (-1,), 1)
    with pytest.raises(ConfigError, match="weight is -1"):
        admm_tv(DataTerm(dense(torch.eye(4)), torch.ones(4)), -1.0, axes=(-1,), iters=1)
