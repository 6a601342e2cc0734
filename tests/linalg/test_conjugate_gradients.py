"""Conjugate gradients: exactness, items that do not see each other, guards, units."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import Result, cg

DOUBLE = 1e-7  # float64: 40 steps on a matrix of condition 60; 2e-10 seen
SOLVED = 1e-7  # float64 after as many steps as unknowns; 2e-12 seen
STEPS = 1e-4  # float32: four steps on a matrix of condition 60 make 1.3e-6 of a rounding of 6e-8
STOPPED = 1e-5  # stopped at a residual of 1e-8, times the condition number

N = 12


def definite(generator: torch.Generator, dtype: torch.dtype, lead: tuple[int, ...] = ()) -> Tensor:
    a = torch.randn(*lead, N, N, generator=generator, dtype=dtype)
    return a @ a.mH + 0.5 * torch.eye(N, dtype=dtype)


def act(matrix: Tensor):
    return lambda x: (matrix @ x[..., None])[..., 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_as_many_steps_as_unknowns_solve(generator, dtype):
    a = definite(generator, dtype)
    b = torch.randn(N, generator=generator, dtype=dtype)
    solution = cg(act(a), b, iters=N, item_ndim=1)
    torch.testing.assert_close(solution.x, torch.linalg.solve(a, b), rtol=DOUBLE, atol=DOUBLE)
    assert solution.result == Result.MAX_ITERATIONS
    assert solution.worst is Result.MAX_ITERATIONS
    assert solution.iterations == N


@pytest.mark.parametrize("unit", [1e-30, 1.0])
def test_a_step_that_is_short_enough_in_the_norm_of_the_map_is_the_last(generator, unit):
    """Of every item by itself, and in any units."""
    a = definite(generator, torch.float64)
    b = torch.randn(3, N, generator=generator, dtype=torch.float64) * unit
    b = b * torch.tensor([1e-3, 0.3, 3.0], dtype=torch.float64)[:, None]
    iterates = [cg(act(a), b, iters=k, item_ndim=1).x for k in range(N + 1)]
    steps = torch.stack([y - x for x, y in pairwise(iterates)])
    lengths = ((steps @ a) * steps).sum(2).sqrt()
    least = 0.1 * unit
    wanted = (lengths <= least).int().argmax(0)  # the first short step, by number from 0
    solution = cg(act(a), b, iters=N, least_step=least, item_ndim=1)
    assert solution.iterations.tolist() == (wanted + 1).tolist()
    assert len(set(solution.iterations.tolist())) > 1
    assert bool((solution.result == Result.CONVERGED).all())
    last = torch.stack([iterates[k + 1][i] for i, k in enumerate(wanted.tolist())])
    assert torch.equal(solution.x, last)


def test_tolerance_is_relative_and_per_item(generator):
    a = definite(generator, torch.float64)
    b = torch.randn(3, N, generator=generator, dtype=torch.float64)
    b = b * torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)[:, None]
    solution = cg(act(a), b, iters=100, tol=1e-6, item_ndim=1)
    true = (b - solution.x @ a.mT).norm(dim=1) / b.norm(dim=1)
    assert bool((true <= 1.01e-6).all())
    assert bool((solution.residual <= 1e-6).all())
    assert bool((solution.result == Result.CONVERGED).all())
    assert bool((solution.iterations < 40).all())


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1e-3, 1e3, 1e6, 1e30])
def test_units_do_not_matter_in_single_precision(generator, unit):
    a = definite(generator, torch.complex64)
    b = torch.randn(2, N, generator=generator, dtype=torch.complex64)
    x0 = torch.randn(2, N, generator=generator, dtype=torch.complex64)
    plain = cg(act(a), b, x0, iters=4, item_ndim=1).x
    scaled = cg(act(a), b * unit, x0 * unit, iters=4, item_ndim=1).x
    assert float((scaled / unit - plain).norm() / plain.norm()) < STEPS


def test_exact_power_of_two_units_change_no_bit(generator):
    a = definite(generator, torch.float32)
    b = torch.randn(N, generator=generator)
    plain = cg(act(a), b, iters=7, item_ndim=1).x
    assert torch.equal(cg(act(a), b * 2**30, iters=7, item_ndim=1).x, plain * 2**30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("accelerator", [False, True])
def test_batch_gives_what_its_items_give_alone(generator, monkeypatch, dtype, accelerator):
    """Different stops in one batch: slow, fast, zero, exact start, indefinite and non-finite.

    Also with the rare looks that spare an accelerator's queue.
    """
    if accelerator:
        monkeypatch.setattr("restore.linalg.conjugate_gradients._FREE_LOOK", frozenset())
    a = definite(generator, dtype, (6,))
    a[1] = torch.eye(N, dtype=dtype)
    a[4] = -torch.eye(N, dtype=dtype)
    b = torch.randn(6, N, generator=generator, dtype=dtype)
    x0 = torch.randn(6, N, generator=generator, dtype=dtype)
    b[2], x0[2] = 0, 0
    a[3] = torch.eye(N, dtype=dtype)
    b[3] = x0[3]
    a[5, 0, 0] = float("nan")

    def diagonal_blocks(x: Tensor) -> Tensor:
        return torch.stack([m @ v for m, v in zip(a, x, strict=True)])

    together = cg(diagonal_blocks, b, x0, iters=9, tol=1e-6, item_ndim=1)
    for k in range(6):
        alone = cg(lambda x, m=a[k]: m @ x, b[k], x0[k], iters=9, tol=1e-6, item_ndim=1)
        assert torch.equal(together.x[k], alone.x), k
        assert together.result[k] == alone.result
        assert together.iterations[k] == alone.iterations
    assert together.result.tolist() == [
        Result.MAX_ITERATIONS,
        Result.CONVERGED,
        Result.CONVERGED,
        Result.CONVERGED,
        Result.BREAKDOWN,
        Result.NONFINITE,
    ]
    assert together.iterations.tolist()[2:] == [0, 0, 0, 0]
    assert together.worst is Result.NONFINITE
    assert torch.equal(together.x[3:], x0[3:])
    assert together.residual[2] == 0


def test_map_that_fails_later_leaves_the_last_good_iterate(generator):
    a = definite(generator, torch.float64)
    b = torch.randn(2, N, generator=generator, dtype=torch.float64)
    calls = 0

    def failing(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        out = act(a)(x).clone()
        if calls == 4:
            out[0] = float("inf")
        return out

    solution = cg(failing, b, iters=6, item_ndim=1)
    assert torch.equal(solution.x[0], cg(act(a), b, iters=3, item_ndim=1).x[0])
    torch.testing.assert_close(solution.x[1], cg(act(a), b, iters=6, item_ndim=1).x[1])
    assert solution.result.tolist() == [Result.NONFINITE, Result.MAX_ITERATIONS]
    assert solution.iterations.tolist() == [3, 6]


def test_many_more_steps_than_needed_do_no_harm(generator):
    """A singular map, far beyond convergence in single precision."""
    mask = (torch.arange(N) % 2).float()
    b = mask * torch.randn(4, N, generator=generator)
    solution = cg(lambda x: 3 * mask * x, b, iters=200, item_ndim=1)
    torch.testing.assert_close(solution.x, b / 3)
    assert bool((solution.result == Result.CONVERGED).all())


def test_identity_that_returns_its_argument(generator):
    b = torch.randn(2, 3, 4, generator=generator)
    solution = cg(lambda x: x, b, iters=3, item_ndim=2)
    torch.testing.assert_close(solution.x, b)
    assert solution.iterations.tolist() == [1, 1]


def test_inputs_are_left_alone_and_any_layout_is_taken(generator):
    a = definite(generator, torch.complex128)
    b = torch.randn(N, 2, generator=generator, dtype=torch.complex128).conj().mT
    x0 = torch.randn(N, generator=generator, dtype=torch.complex128).expand(2, N)
    kept = b.clone(), x0.clone()
    solution = cg(act(a), b, x0, iters=N, item_ndim=1)
    assert torch.equal(b, kept[0])
    assert torch.equal(x0, kept[1])
    wanted = torch.linalg.solve(a, b.mT).mT
    torch.testing.assert_close(solution.x, wanted, rtol=SOLVED, atol=SOLVED)


def test_preconditioner_saves_steps(generator):
    scale = torch.logspace(-2, 2, N, dtype=torch.float64)
    a = scale[:, None] * definite(generator, torch.float64) * scale
    b = torch.randn(N, generator=generator, dtype=torch.float64)
    inverse = 1 / a.diagonal()
    plain = cg(act(a), b, iters=200, tol=1e-8, item_ndim=1)
    helped = cg(act(a), b, iters=200, tol=1e-8, item_ndim=1, precond=lambda r: inverse * r)
    assert helped.result == Result.CONVERGED
    assert int(helped.iterations) < int(plain.iterations)
    wanted = torch.linalg.solve(a, b)
    assert float((helped.x - wanted).norm() / wanted.norm()) < STOPPED


def test_stops_calling_the_map_when_all_are_done(generator):
    calls = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 2 * x

    cg(counted, torch.randn(3, N, generator=generator), iters=50, item_ndim=1)
    assert calls == 1


def test_zero_right_hand_side_with_a_start(generator):
    a = definite(generator, torch.float64)
    x0 = torch.randn(N, generator=generator, dtype=torch.float64)
    solution = cg(act(a), torch.zeros_like(x0), x0, iters=N, item_ndim=1)
    assert float(solution.x.norm()) < DOUBLE * float(x0.norm())
    assert solution.residual == torch.inf


def test_empty_batch_and_no_steps():
    empty = cg(lambda x: x, torch.zeros(0, 3), iters=2, item_ndim=1)
    assert empty.x.shape == (0, 3)
    assert empty.result.shape == (0,)
    assert empty.worst is Result.CONVERGED
    b = torch.ones(3)
    assert torch.equal(cg(lambda x: x, b, 2 * b, iters=0, item_ndim=1).x, 2 * b)


def test_mistakes_are_named():
    b = torch.ones(2, 3)
    with pytest.raises(ShapeError, match="item_ndim is 3"):
        cg(lambda x: x, b, iters=1, item_ndim=3)
    with pytest.raises(ShapeError, match="x0 is"):
        cg(lambda x: x, b, torch.ones(3), iters=1, item_ndim=1)
    with pytest.raises(ShapeError, match="apply returned"):
        cg(lambda x: x[:1], b, iters=1, item_ndim=1)
    with pytest.raises(ShapeError, match="precond returned"):
        cg(lambda x: x, b, iters=1, item_ndim=1, precond=lambda r: r.double())
    with pytest.raises(ConfigError, match="tol"):
        cg(lambda x: x, b, iters=1, tol=float("nan"), item_ndim=1)
    with pytest.raises(ConfigError, match="dtype"):
        cg(lambda x: x, b.long(), iters=1, item_ndim=1)


def test_results_are_ordered_from_good_to_bad(generator):
    """One unfinished item among solved ones is the worst of them."""
    order = [Result.CONVERGED, Result.MAX_ITERATIONS, Result.BREAKDOWN, Result.NONFINITE]
    assert sorted(Result) == order
    scales = torch.linspace(1, 9, N, dtype=torch.float64)
    b = torch.ones(2, N, dtype=torch.float64)
    b[0, 1:] = 0  # an eigenvector: solved by one step
    solution = cg(lambda x: scales * x, b, iters=2, tol=1e-12, item_ndim=1)
    assert solution.result.tolist() == [Result.CONVERGED, Result.MAX_ITERATIONS]
    assert solution.worst is Result.MAX_ITERATIONS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_what_a_singular_map_does_not_see_stays(generator, dtype, shift):
    """A projection is solved in one step; the roundings after it lie in its null space, where steps have no end.

    shift: of the start within the null space, whose rounding is more than that of the right-hand side.
    """
    n = 64
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    seen, unseen = basis[:, : n // 2].to(dtype), basis[:, n // 2 :].to(dtype)
    project = act(seen @ seen.T)
    x0 = torch.randn(n, generator=generator, dtype=torch.float64).to(dtype) + shift * unseen[:, 0]
    b = project(torch.randn(n, generator=generator, dtype=torch.float64).to(dtype))
    solution = cg(project, b, x0, iters=20, item_ndim=1, singular=True)
    rounding = 100 * torch.finfo(dtype).eps * (1 + shift)  # sums of 64 products, of size 1 + shift
    torch.testing.assert_close(project(solution.x), b, rtol=0, atol=rounding)
    torch.testing.assert_close(unseen.T @ solution.x, unseen.T @ x0, rtol=0, atol=rounding)
