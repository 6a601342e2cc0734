"""FISTA against the optimality conditions of small problems, and the wavelet reconstruction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.solvers.proximal import DataTerm
from restore.solvers.proximal_gradient import fista_steps
from restore.solvers.sparse import wavelet_l1_steps
from restore.solvers.tv import soft_threshold
from restore.solvers.wavelet import Wavelet

SLOPE = 1e-5  # thousands of steps converge to float64's rounding; 1e-13 seen
FREE = 1e-7  # the weight 1e-9 moves the solution by its multiple; 2e-11 seen
SINGLE = 1e-5  # float32: 15 steps with sums over 255 pixels; 6e-7 seen
MARGIN = 1e-4  # 800 steps converge to float64's rounding; 1.5e-14 seen


def fista(*arguments: Any, **options: Any) -> Tensor:
    """The last iterate."""
    *_, last = fista_steps(*arguments, **options)
    return last


def wavelet_l1(term: DataTerm, weight: float, **settings: Any) -> Tensor:
    """The last iterate."""
    *_, last = wavelet_l1_steps(term, weight, **settings)
    return last


def lasso(generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    a = torch.randn(15, 30, generator=generator, dtype=dtype)
    b = torch.randn(15, generator=generator, dtype=dtype)
    return a, b, 0.3 * float((a.mH @ b).abs().max())


def stationary(slope: Tensor, c: Tensor, lam: float) -> None:
    """-slope is in lambda times the subdifferential of ||c||_1."""
    assert float(slope.abs().max()) <= lam * (1 + 1e-6)
    alive = c.abs() > 1e-7 * c.abs().max()
    assert 0 < int(alive.sum()) < c.numel()
    torch.testing.assert_close(
        -slope[alive], lam * c[alive] / c[alive].abs(), rtol=SLOPE, atol=1e-6 * lam
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_lasso_optimality(generator, dtype):
    a, b, lam = lasso(generator, dtype)
    step = float(1 / torch.linalg.matrix_norm(a, 2) ** 2)
    x = fista(
        lambda v: a.mH @ (a @ v - b),
        lambda v: soft_threshold(v, step * lam),
        torch.zeros(30, dtype=dtype),
        step,
        2000,
    )
    stationary(a.mH @ (a @ x - b), x, lam)


def test_restart_is_faster_on_a_strongly_convex_problem(generator):
    scale = torch.logspace(0, -3, 20, dtype=torch.float64)
    b = torch.randn(20, generator=generator, dtype=torch.float64)
    start = torch.zeros_like(b)

    def error(x: Tensor) -> float:
        return float((x - b / scale).norm() / (b / scale).norm())

    plain, y, t = start, start, 1.0
    for _ in range(1500):
        new, next_t = y - (scale * y - b), (1 + (1 + 4 * t * t) ** 0.5) / 2
        plain, y, t = new, new + (t - 1) / next_t * (new - plain), next_t
    assert error(fista(lambda v: scale * v - b, lambda v: v, start, 1.0, 1500)) < 1e-3 * error(
        plain
    )


def test_items_restart_on_their_own(generator):
    scale = torch.stack([torch.logspace(0, -3, 8), torch.logspace(0, -1, 8)]).double()
    b = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    start = torch.zeros_like(b)
    both = fista(lambda v: scale * v - b, lambda v: v, start, 1.0, 60, item_ndim=1)
    for k in range(2):
        one = fista(lambda v, k=k: scale[k] * v - b[k], lambda v: v, start[k], 1.0, 60)
        torch.testing.assert_close(both[k], one)


def test_iterations():
    start = torch.ones(3)
    assert list(fista_steps(lambda v: v, lambda v: v, start, 1.0, 0)) == []
    assert len(list(fista_steps(lambda v: v, lambda v: v, start, 1.0, 5))) == 5
    with pytest.raises(ConfigError, match="iters"):
        next(fista_steps(lambda v: v, lambda v: v, start, 1.0, -1))


@pytest.fixture
def term(generator, dense):
    a = torch.randn(100, 256, generator=generator, dtype=torch.complex128)
    y = torch.randn(100, generator=generator, dtype=torch.complex128)
    return DataTerm(dense(a, (16, 16), (100,)), y)


def test_wavelet_optimality_without_shifts(term):
    lam, transform = 0.2 * float(term.rhs.abs().max()), Wavelet("haar", 3)
    x = wavelet_l1(term, 0.2, iters=3000, wavelet="haar", levels=3)
    slope, c = transform.analysis(term.gradient(x)), transform.analysis(x)
    assert float(slope[:2, :2].abs().max()) < SLOPE * lam
    slope[:2, :2] = c[:2, :2] = 0
    stationary(slope, c, lam)


def test_absolute_weight(generator, dense):
    a = torch.randn(200, 64, generator=generator, dtype=torch.complex128)
    truth = torch.randn(8, 8, generator=generator, dtype=torch.float64) + 0j
    term = DataTerm(dense(a, (8, 8), (200,)), a @ truth.flatten())
    free = wavelet_l1(term, 1e-9, iters=500, scale=1.0)
    torch.testing.assert_close(free, truth, rtol=0, atol=FREE)


def test_shifts_come_from_the_generator_only(term):
    def run(seed: int) -> Tensor:
        return wavelet_l1(term, 0.05, iters=10, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_scale_equivariance_and_batches(generator, dense):
    a = torch.randn(150, 15 * 17, generator=generator, dtype=torch.complex64)
    y = torch.randn(2, 150, generator=generator, dtype=torch.complex64)
    operator = dense(a, (15, 17), (150,))

    def run(y: Tensor) -> Tensor:
        shifts = torch.Generator().manual_seed(3)
        return wavelet_l1(DataTerm(operator, y), 0.02, iters=15, generator=shifts)

    got = run(y)
    assert got.shape == (2, 15, 17)
    torch.testing.assert_close(run(y * 1e-6) * 1e6, got, rtol=SINGLE, atol=SINGLE)
    torch.testing.assert_close(run(y[1]), got[1], rtol=SINGLE, atol=SINGLE)


def test_odd_sizes_have_free_margins(generator, dense):
    """A constant image of an awkward size costs nothing: the margin takes up the same constant."""
    n = 11 * 13
    a = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    term = DataTerm(dense(a, (11, 13), (2 * n,)), a @ torch.ones(n, dtype=torch.float64))
    x = wavelet_l1(term, 0.01, iters=800, wavelet="haar", levels=2)
    torch.testing.assert_close(x, torch.ones(11, 13, dtype=torch.float64), rtol=0, atol=MARGIN)


def test_shifted_wavelets_remove_noise_better(generator, dense):
    truth = torch.zeros(32, 32, dtype=torch.float64)
    truth[5:20, 9:27] = 1
    noisy = truth + 0.2 * torch.randn(32, 32, generator=generator, dtype=torch.float64)
    term = DataTerm(dense(torch.eye(1024, dtype=torch.float64), (32, 32), (1024,)), noisy.flatten())

    def error(x: Tensor) -> float:
        return float((x - truth).norm() / truth.norm())

    fixed = wavelet_l1(term, 0.3, iters=40, wavelet="haar", scale=1.0)
    moving = list(
        wavelet_l1_steps(term, 0.3, iters=40, generator=generator, wavelet="haar", scale=1.0)
    )
    assert error(fixed) < 0.6 * error(noisy)
    assert error(moving[-1]) < error(fixed)
