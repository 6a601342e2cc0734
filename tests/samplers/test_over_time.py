"""Frames found together: redpsm and lps against closed forms, and what both refuse."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.algebra import BlockDiagonal
from restore.operators.base import dense
from restore.operators.diagonal import Identity
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.base import Denoiser
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.lps import LowRankPlusSparse
from restore.samplers.redpsm import RedPSM
from restore.samplers.toolbox.held_out import (
    best_size,
    held_out_runs,
    unforeseen,
    without_runs,
)
from restore.samplers.toolbox.series import (
    as_images,
    as_series,
    balanced,
    gathered,
    joined_curves,
    product,
    roughness,
    shrunk_frequencies,
    shrunk_rank,
)

ROUNDING = 1e-12  # float64: sums of some hundred products of order one; 1e-15 seen
GRAM = 1e-7  # singular values by squares have half the digits of float64; 1e-9 seen
LIMIT = 3e-5  # the ridge of 1e-6 under the curves' systems, of images of size one; 2e-6 seen
RECOVERED = 3e-5  # the same ridge; 1.3e-6 seen

SOLVED = 1e-9  # float64: small systems of condition 1e3 in a chain of six; 1e-13 seen

SHAPE, STD = (5, 4), 0.1


class Half(Denoiser):
    """D(x) = x/2: RED is then lambda/4 ||f||^2."""

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return 0.5 * x


def draw(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=g)


def measured(truth: Tensor, std: float | None = STD, kept: float = 0.7) -> Problem:
    """Frames (T, H, W) by one coil with a mask for each frame; no noise is drawn. std: what is said of it."""
    g = torch.Generator().manual_seed(5)
    masks = torch.rand(truth.shape, generator=g) < kept
    ones = torch.ones(len(truth), 1, *truth.shape[1:], dtype=torch.complex128)
    A = MultiCoilMRI(ones, masks)
    noise = None if std is None else Gaussian(std)
    return Problem(A(truth), A, noise, frames=len(truth))


def run(sampler: RedPSM | LowRankPlusSparse, problem: Problem, model: Denoiser | None) -> Tensor:
    with torch.no_grad():
        prior = None if model is None else prior_for(model, sampler, problem)
        return list(sampler.steps(problem, prior, Draws(0, problem.ids)))[-1].x0


@pytest.mark.parametrize(("gamma", "change"), [(1.0, 0.0), (4.0, 0.0), (1.0, 0.5)])
def test_with_a_linear_denoiser_and_full_rank_the_limit_is_the_least_squares_of_the_sum(
    gamma, change
):
    """Whatever beta is: min ||A f - y||^2/(2 std^2) + lambda/2 f^H (f - f/2) + ||D f||^2/(2 change^2), D over time."""
    sigma, trust = 0.2, 2.0
    problem = measured(draw(3, *SHAPE))
    sampler = RedPSM(
        n_steps=60, rank=3, trust=trust * gamma, gamma=gamma, sigma_start=sigma, sigma_end=sigma, cg_iters=8,
        turns=False, change=change,
    )  # fmt: skip
    found = run(sampler, problem, Half())
    weight, A = trust / sigma**2, dense(problem.linear)
    system = A.mH @ A / STD**2 + weight / 2 * torch.eye(A.shape[1])
    if change:
        steps = torch.eye(3, dtype=A.dtype).diff(dim=0)
        system += torch.kron(steps.mH @ steps, torch.eye(20)) / change**2
    exact = torch.linalg.solve(system, A.mH @ problem.y.flatten() / STD**2).reshape(3, *SHAPE)
    torch.testing.assert_close(found, exact, rtol=0, atol=LIMIT)


def test_a_series_of_low_rank_comes_back_from_frames_that_do_not_determine_it_alone():
    spatial, temporal = draw(1, 20, 2), draw(1, 12, 2, seed=1)
    truth = product(spatial, temporal)[0].reshape(12, *SHAPE)
    problem = measured(truth, std=1e-3)
    sampler = RedPSM(n_steps=1, rank=2, trust=0.0, first_steps=40, cg_iters=10, gamma=1e6, change=0)
    found = run(sampler, problem, Half())
    assert float((found - truth).norm() / truth.norm()) < RECOVERED
    apart = torch.linalg.svdvals(problem.degraded.flatten(1))
    assert float(apart[2] / apart[0]) > 0.1  # which the images of single frames are not
    values = torch.linalg.svdvals(found.flatten(1))
    assert float(values[2] / values[0]) < ROUNDING


def test_curves_that_are_joined_solve_the_whole_system():
    spatial = draw(1, 20, 3)
    grams = draw(1, 6, 3, 3, seed=1)
    gram, goal, coupling = grams @ grams.mH, draw(1, 6, 3, seed=2), 2 * spatial.mH @ spatial
    found = joined_curves(gram, goal, coupling)
    left = torch.einsum("stjk,stk->stj", gram, found)
    left += torch.einsum("sjk,stk->stj", coupling, roughness(found))
    torch.testing.assert_close(left, goal, rtol=0, atol=SOLVED)


def test_the_rank_is_chosen_by_what_it_foresees_and_told():
    """Few noisy samples of a series of rank three: more images explain them better, and what is held out worse."""
    g = torch.Generator().manual_seed(4)
    truth = product(draw(1, 20, 3), draw(1, 24, 3, seed=1))[0].reshape(24, *SHAPE)
    exact = measured(truth, std=STD, kept=0.8)
    y = exact.y + STD * torch.randn(exact.y.shape, dtype=exact.y.dtype, generator=g)
    noisy = dataclasses.replace(exact, y=exact.linear.project(y))
    sampler = RedPSM(n_steps=1, trust=0.0, first_steps=10, gamma=1e6, change=0)
    with torch.no_grad():
        prior = prior_for(Half(), sampler, noisy)
        last = list(sampler.steps(noisy, prior, Draws(0, noisy.ids)))[-1]
    assert last.info["rank"] == 3
    assert "rank 3" in sampler.remarks([last.info])[0]
    assert dataclasses.replace(sampler, rank=5).remarks([{"rank": 5}]) == ()
    for wrong in ("many", 0, 2.5):
        with pytest.raises(ConfigError, match="RedPSM: rank must"):
            RedPSM(rank=wrong)
    assert RedPSM.configured("tuned", MultiCoilMRI, {"rank": "4"}).rank == 4
    assert RedPSM.configured("tuned", MultiCoilMRI, {"rank": "auto"}).rank == "auto"


def test_whole_runs_are_held_out_and_the_smallest_size_of_few_faults_wins():
    y = draw(6, 2, 25, 5)
    A = MultiCoilMRI(torch.ones(6, 2, 25, 5, dtype=y.dtype), torch.ones(5))
    problem = Problem(y, A, Gaussian(1.0), frames=6)
    held = held_out_runs(problem, Draws(0, problem.ids))
    assert held.shape == (6, 1, 25, 1)
    assert held.sum((1, 2, 3)).tolist() == [2] * 6
    shown = without_runs(problem.data, held)
    assert float(shown.rhs.norm()) < float(problem.data.rhs.norm())
    nothing = unforeseen(problem.data, held, torch.zeros(6, 25, 5, dtype=y.dtype))
    assert nothing == pytest.approx(float(y[held.expand(y.shape)].abs().square().mean()))
    tried = []

    def error(size: int) -> float:
        tried.append(size)
        return {1: 9.0, 2: 4.01, 3: 4.0, 4: 4.5, 5: 4.2, 6: 1.0}[size]

    assert best_size(range(1, 7), error) == 2
    assert tried == [1, 2, 3, 4, 5]


def test_lps_of_frames_measured_whole_is_one_of_two_proximal_maps():
    truth = torch.randn(6, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    problem = Problem(truth, Identity((6, *SHAPE), slices=1), Gaussian(1.0), frames=6)
    flat = truth.flatten(1)
    u, s, v = torch.linalg.svd(flat, full_matrices=False)
    low = run(LowRankPlusSparse(n_steps=100, rank_weight=0.3, sparse_weight=10.0), problem, None)
    exact = (u * (s - 0.3 * s[0]).clamp(min=0)) @ v
    torch.testing.assert_close(low.flatten(1), exact, rtol=0, atol=GRAM)
    sparse = run(LowRankPlusSparse(n_steps=100, rank_weight=10.0, sparse_weight=0.3), problem, None)
    spectrum = torch.fft.fft(flat, dim=0, norm="ortho")
    size = spectrum.abs()
    shrunk = spectrum * ((size - 0.3 * size.max()).clamp(min=0) / size)
    exact = torch.fft.ifft(shrunk, dim=0, norm="ortho").real
    torch.testing.assert_close(sparse.flatten(1), exact, rtol=0, atol=GRAM)


def test_series_are_the_items_of_frames_and_the_product_has_its_adjoint():
    A = BlockDiagonal(tuple(Identity((2, *SHAPE), slices=1) for _ in range(3)))
    x = torch.arange(120, dtype=torch.float64).reshape(3, 2, *SHAPE)
    problem = Problem(x, A, Gaussian(1.0), frames=3)
    series = as_series(x, problem)
    assert torch.equal(series[1, 2], x[2, 1].flatten())
    assert torch.equal(as_images(series, problem), x)
    spatial, temporal, other = draw(2, 20, 3), draw(2, 5, 3, seed=1), draw(2, 5, 20, seed=2)
    left = torch.vdot(product(spatial, temporal).flatten(), other.flatten())
    right = torch.vdot(spatial.flatten(), gathered(other, temporal).flatten())
    torch.testing.assert_close(left, right, rtol=ROUNDING, atol=ROUNDING)
    even, curves = balanced(spatial, temporal)
    torch.testing.assert_close(product(even, curves), product(spatial, temporal), rtol=0, atol=ROUNDING)  # fmt: skip
    eye = torch.eye(3, dtype=torch.complex128).expand(2, 3, 3)
    torch.testing.assert_close(curves.mH @ curves, eye, rtol=0, atol=ROUNDING)


def test_shrinking_takes_nothing_at_zero_and_everything_at_the_largest():
    series = draw(2, 5, 20)
    none = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(shrunk_rank(series, none), series, rtol=0, atol=GRAM)
    torch.testing.assert_close(shrunk_frequencies(series, none), series, rtol=0, atol=ROUNDING)
    largest = torch.linalg.matrix_norm(series, 2) * (1 + GRAM)
    assert float(shrunk_rank(series, largest).abs().max()) == 0
    assert float(shrunk_frequencies(series, 1e3 + none).abs().max()) == 0


def test_one_frame_and_a_rank_above_the_frames_are_refused():
    problem = measured(draw(3, *SHAPE))
    for name in ("redpsm", "lps"):
        with pytest.raises(ConfigError, match=f"{name} joins the frames .* --frames N"):
            solve(problem.y, problem.operator, noise=STD, prior=Half(), sampler=name)
    with pytest.raises(ConfigError, match=r"a rank of 4 for 3 frames.*rank=3 at most"):
        solve(
            problem.y, problem.operator, noise=STD, prior=Half(), sampler="redpsm", frames=3, rank=4
        )
    with pytest.raises(ConfigError, match="2 frames of 3 items"):
        solve(problem.y, problem.operator, noise=STD, prior=Half(), sampler="lps", frames=2)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cgls", {}, "each of the 3 frames by itself"),
        ("tv", {"tv_axes": "all"}, "for neighbouring slices"),
        ("lps", {}, ""),
    ],
)
def test_what_a_sampler_makes_of_frames_is_said(name, settings, said):
    frames = tuple(Inpainting(torch.ones(SHAPE), SHAPE) for _ in range(3))
    y = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(3))
    notes = solve(
        y, BlockDiagonal(frames), noise=STD, sampler=name, frames=3, n_steps=2, **settings
    ).notes
    assert any("frames" in note for note in notes) == bool(said)
    assert not said or any(said in note for note in notes)
