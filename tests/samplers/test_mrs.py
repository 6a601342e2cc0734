"""MR Sampler: its formulae, its place among the bridges' samplers, oracles, data consistency and refusals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.bridges.base import Level, Times, implied_noise, mix
from restore.bridges.irsde import IRSDESchedule
from restore.errors import ConfigError, DivergenceError
from restore.front_door import prior_for
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.irsde import IRSDE
from restore.samplers.mrs import MRSampler
from restore.samplers.toolbox.multistep import step_weights

DOUBLE = 1e-7  # float64: exponentials of lambda, steps and sums; 1e-9 at most seen
FEW = 1e-12  # float64: some products and sums of numbers about one, 1e-15 each
SEVERAL = 1e-10  # float64: a chain of ten steps of such, some divided by small levels
LEFT = 0.3  # a deviation over 256 pixels of one sample
SINGLE = 1e-4  # float32: some steps whose noise heads divide by small levels

SOLVERS = [
    (kind, parameterization, order)
    for kind, orders in (("ode", (1, 2, 3)), ("sde", (1, 2)))
    for parameterization in ("data", "noise")
    for order in orders
]
GRIDS = ("linspace", "linear-lambda", "karras-n", "karras-t", "leading", "trailing")
BARE = {"denoise_last": "none", "data_consistency": False}


def run(sampler, model: FromFunction, problem: Problem, draws: Draws | None = None) -> list:
    prior = ConditionalPrior(model, problem.item_shape, MRSampler.intensity)
    return list(sampler.steps(problem, prior, draws or Draws(0, problem.ids)))


def bounded(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
    """A smooth, non-linear network that looks at everything it is given."""
    return (0.5 * torch.tanh(2 * (x - y) + 0.3 * y - 0.01 * level.t) + 0.4,)


# ---------------------------------------------------------------------------------------------
# Formulae


@pytest.mark.parametrize(("kind", "parameterization", "order"), SOLVERS)
def test_weights_leave_the_degraded_image_alone(kind, parameterization, order):
    """With x' = y and predictions of u = 0 (x0 = y, no noise) every step stays at y."""
    for name in ("linear-lambda", "linspace", "karras-t"):
        grid = IRSDESchedule().grid(name, 12)
        for i in range(order - 1, 12):
            w = step_weights(kind, parameterization, order, grid, i)
            total = w.x + w.y + (sum(w.history) if parameterization == "data" else 0)
            assert total == pytest.approx(1, abs=FEW)
            assert len(w.history) == order


def test_coefficient_of_y_of_the_first_order_ode_vanishes_with_its_identity():
    """a e^-h = a' s/s', so that s/s' + [1 - s/s' + a' s/s' - a] + a (1 - e^-h) = 1."""
    grid = IRSDESchedule().grid("linspace", 10)
    for i in range(10):
        h = grid.lam[i + 1] - grid.lam[i]
        kept = grid.c[i + 1] / grid.c[i]
        assert grid.a[i + 1] * math.exp(-h) == pytest.approx(grid.a[i] * kept, rel=FEW)
        w = step_weights("ode", "data", 1, grid, i)
        assert w.history == pytest.approx((grid.a[i + 1] - grid.a[i] * kept,))
        assert w.noise == 0


def longhand(s: MRSampler, grid: Times, x: Tensor, y: Tensor, net, noises: list[Tensor]) -> Tensor:
    """The method step by step, as it is written in the paper: differences first, then phi-functions."""
    q: list[Tensor] = []
    for i in range(1, s.n_steps + 1):
        a0, a1, s0, s1 = grid.a[i - 1], grid.a[i], grid.c[i - 1], grid.c[i]
        x0 = net(x, grid.level(i - 1), y)[0]
        q.insert(0, x0 if s.parameterization == "data" else (x - a0 * x0 - (1 - a0) * y) / s0)
        k, h = min(s.order, i), grid.lam[i] - grid.lam[i - 1]
        d1 = d2 = torch.zeros_like(x)
        if k == 2:
            d1 = (q[0] - q[1]) / ((grid.lam[i - 1] - grid.lam[i - 2]) / h)
        if k == 3:
            r, r2 = (grid.lam[i - 1] - grid.lam[i - 2]) / h, (grid.lam[i - 2] - grid.lam[i - 3]) / h
            e0, e1 = (q[0] - q[1]) / r, (q[1] - q[2]) / r2
            d1, d2 = e0 + (e0 - e1) * r / (r + r2), (e0 - e1) / (r + r2)
        z = noises[i - 1]
        if (s.kind, s.parameterization) == ("ode", "data"):
            p1 = math.exp(-h) - 1
            p2 = p1 / h + 1
            p3 = p2 / h - 0.5
            x = (
                s1 / s0 * x
                - a1 * (p1 * q[0] - p2 * d1 + p3 * d2)
                + y * (1 - s1 / s0 + a0 * s1 / s0 - a1)
            )
        elif (s.kind, s.parameterization) == ("ode", "noise"):
            p1 = math.exp(h) - 1
            p2 = p1 / h - 1
            p3 = p2 / h - 0.5
            x = a1 / a0 * x - s1 * (p1 * q[0] + p2 * d1 + p3 * d2) + y * (1 - a1 / a0)
        elif s.parameterization == "data":
            p = 1 - math.exp(-2 * h)
            x = s1 / s0 * math.exp(-h) * x + a1 * p * q[0] + a1 * (1 - p / (2 * h)) * d1
            x = x + s1 * p**0.5 * z + y * (1 - a1 / a0 * math.exp(-2 * h) - a1 * p)
        else:
            p1 = math.exp(h) - 1
            x = a1 / a0 * x - 2 * s1 * p1 * q[0] - 2 * s1 * (p1 / h - 1) * d1
            x = x + s1 * (math.exp(2 * h) - 1) ** 0.5 * z + y * (1 - a1 / a0)
    return x


@pytest.mark.parametrize("interpolation", ["exact", "official"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("kind", "parameterization", "order"), SOLVERS)
def test_every_solver_on_every_grid(
    generator, replay, kind, parameterization, order, grid, interpolation
):
    n = 12
    y, *noises = torch.randn(n + 2, 2, 1, 4, 4, generator=generator, dtype=torch.float64) / 3
    sampler = MRSampler(
        n_steps=n, kind=kind, order=order, parameterization=parameterization, grid=grid, lower_order="none",
        interpolation=interpolation, **BARE,
    )  # fmt: skip
    problem = Problem(y[:, 0], Identity((4, 4)))
    model = FromFunction(bounded, channels=1)
    last = run(sampler, model, problem, replay(noises))[-1].x0
    start = y + sampler.s_inf * noises[0]
    wanted = longhand(sampler, sampler.levels, start, y, bounded, noises[1:])[:, 0]
    error = float((last - wanted).abs().max() / wanted.abs().max())
    assert error < SEVERAL, error


def test_orders_at_the_ends():
    def orders(**settings) -> list[int]:
        s = MRSampler(**settings)
        return [s.order_of(i) for i in range(s.n_steps)]

    assert orders(n_steps=5, order=2) == [1, 2, 2, 2, 1]
    assert orders(n_steps=5, order=3) == [1, 2, 3, 3, 1]
    assert orders(n_steps=5, order=3, lower_order="none") == [1, 2, 3, 3, 3]
    assert orders(n_steps=5, order=2, lower_order="official") == [1, 2, 2, 1, 2]
    assert orders(n_steps=6, order=3, lower_order="official") == [1, 2, 3, 2, 1, 3]
    assert orders(n_steps=3, order=3, lower_order="official") == [1, 2, 3]
    assert orders(n_steps=10, order=2, lower_order="official") == [1, *[2] * 9]
    assert orders(n_steps=1, order=1) == [1]


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("convention", ["irsde", "daclip"])
def test_the_first_order_sde_is_the_posterior_sampler(generator, replay, convention, n):
    """MRS-SDE-1 on x0 is IR-SDE's posterior rule, strides included."""
    y, *noises = torch.randn(n + 2, 2, 4, 4, generator=generator, dtype=torch.float64) / 3
    problem = Problem(y, Identity((4, 4)))
    model = FromFunction(bounded, channels=1)
    settings = {"n_steps": n, "convention": convention}
    fast = MRSampler(kind="sde", order=1, grid="linspace", **BARE, **settings)
    slow = IRSDE(rule="posterior", data_consistency=False, **settings)
    pairs = zip(
        run(fast, model, problem, replay(noises)), run(slow, model, problem, replay(noises)), strict=True
    )  # fmt: skip
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.x0, theirs.x0, rtol=SEVERAL, atol=SEVERAL)
        assert ours.sigma == pytest.approx(theirs.sigma, rel=FEW)


def test_the_first_order_ode_keeps_the_noise_that_the_state_implies(generator):
    """x_s = a_s x0 + (1 - a_s) y + c_s n with the n of x_t: the deterministic step of every bridge, in both forms."""
    x, x0, y = torch.rand(3, 4, 4, generator=generator, dtype=torch.float64)
    grid = IRSDESchedule().grid("linear-lambda", 6)
    for i in range(6):
        n = implied_noise(x, x0, y, grid.level(i))
        wanted = mix(x0, y, n, grid.level(i + 1))
        for parameterization, q in (("data", x0), ("noise", n)):
            w = step_weights("ode", parameterization, 1, grid, i)
            torch.testing.assert_close(w.combine(x, [q], y), wanted)


# ---------------------------------------------------------------------------------------------
# A model that knows the truth


def oracle(truth: Tensor) -> FromFunction:
    parts = torch.stack([truth.real, truth.imag]) if truth.is_complex() else truth
    planes = parts.reshape(-1, 1, *truth.shape[-2:])
    return FromFunction(lambda x, level, y: (planes.to(x),), channels=1)


def case(kind: str, generator: torch.Generator) -> tuple[LinearOperator, Tensor]:
    """Images far beyond 1 and below 0: nothing may clip them."""
    x = 3 * torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    if kind == "inpainting":
        return Inpainting.random((8, 8), 0.4, generator), x
    maps = torch.randn(3, 8, 8, generator=generator, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    z = torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    return MultiCoilMRI(maps, torch.arange(8) % 2 == 0), torch.complex(x, z)


@pytest.mark.parametrize("std", [None, 0.05])
@pytest.mark.parametrize("kind", ["inpainting", "mri"])
def test_the_truth_comes_out_when_the_model_knows_it(generator, kind, std):
    operator, truth = case(kind, generator)
    problem = Problem(operator(truth), operator, None if std is None else Gaussian(std))
    for settings in ({}, {"kind": "sde"}, {"n_steps": 2}, {"order": 3}, {"parameterization": "noise"},
                     {"convention": "irsde", "denoise_last": "none"}, {"data_consistency": False}):  # fmt: skip
        sampler = MRSampler(**settings)
        steps = run(sampler, oracle(truth), problem)
        assert [(s.i, s.n, s.evaluations) for s in steps] == [
            (i, sampler.n_steps, i + 1) for i in range(sampler.n_steps)
        ]
        torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=SEVERAL)
        sigmas = [s.sigma for s in steps]
        assert sigmas == sorted(sigmas, reverse=True)


@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_without_denoising_the_noise_of_the_last_time_stays(generator, parameterization):
    operator, truth = case("inpainting", generator)
    sampler = MRSampler(parameterization=parameterization, **BARE)
    last = run(sampler, oracle(truth), Problem(operator(truth), operator))[-1].x0
    left = float((last - truth).square().mean().sqrt())
    assert left == pytest.approx(sampler.levels.c[-1], rel=LEFT)


def test_the_quirk_of_the_last_denoising_returns_the_noise(generator):
    y = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64)
    problem, model = Problem(y, Identity((4, 4))), FromFunction(bounded, channels=1)
    common = {"parameterization": "noise", "data_consistency": False}
    ours = run(MRSampler(**common), model, problem)[-1]
    released = run(MRSampler(**common, denoise_last="official"), model, problem)[-1]
    assert float(ours.x0.abs().max()) < 1
    assert float(released.x0.abs().max()) > 1
    data = [MRSampler(data_consistency=False, denoise_last=w) for w in ("x0", "official")]
    torch.testing.assert_close(
        run(data[0], model, problem)[-1].x0, run(data[1], model, problem)[-1].x0
    )


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("head", ["noise", "velocity", "residual", "scaled-noise"])
def test_every_head_drives_the_same_chain(generator, head, order):
    s_inf = MRSampler().s_inf

    def converted(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        x0 = bounded(x, level, y)[0]
        n = implied_noise(x, x0, y, level)
        v = -level.c / s_inf * (x0 - y) + s_inf * level.a * n
        return ({"noise": n, "velocity": v, "residual": y - x0, "scaled-noise": level.c * n}[head],)

    y = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64)
    problem = Problem(y, Identity((4, 4)))
    for parameterization in ("data", "noise"):
        sampler = MRSampler(order=order, parameterization=parameterization, data_consistency=False)
        wanted = run(sampler, FromFunction(bounded, channels=1), problem)[-1].x0
        got = run(sampler, FromFunction(converted, channels=1, head=head), problem)[-1].x0
        torch.testing.assert_close(got, wanted, rtol=DOUBLE, atol=DOUBLE)


def test_thresholding_is_per_image(generator):
    y = 3 * torch.rand(3, 4, 4, generator=generator, dtype=torch.float64)
    sampler = MRSampler(n_steps=1, order=1, data_consistency=False, thresholding=True,
                        threshold_ratio=0.9, threshold_max=1.5)  # fmt: skip
    model = FromFunction(lambda x, level, y: (y,), channels=1)
    got = run(sampler, model, Problem(y, Identity((4, 4))))[-1].x0
    bound = np.quantile(y.abs().reshape(3, -1).numpy(), 0.9, axis=1).clip(1, 1.5)[:, None, None]
    np.testing.assert_allclose(got.numpy(), y.numpy().clip(-bound, bound) / bound, rtol=FEW)


# ---------------------------------------------------------------------------------------------
# Data consistency


@pytest.mark.parametrize("std", [0.02, 0.3])
def test_a_consistent_estimate_is_the_joint_posterior_mean(generator, dense, std):
    """With the exact network for x0 ~ N(m, S^2 I) the step's estimate is E[x0 | x_t, b], b independent of y."""
    size, spread = 12, 0.15
    matrix, m, shown = (
        torch.randn(7, size, generator=generator, dtype=torch.float64),
        torch.rand(size, generator=generator, dtype=torch.float64).reshape(3, 4),
        torch.rand(3, 4, generator=generator, dtype=torch.float64),
    )
    b = torch.randn(7, generator=generator, dtype=torch.float64)
    states: list[tuple[Tensor, Level]] = []

    def exact(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        states.append((x[0, 0], level))
        a, c = level.a, level.c
        return (m + spread**2 * a / (spread**2 * a**2 + c**2) * (x - a * m - (1 - a) * y),)

    problem = Problem(b, dense(matrix, (3, 4)), Gaussian(std))
    problem.__dict__["observed"] = shown
    sampler = MRSampler(n_steps=6, prior_std=spread, cg_iters=60)
    for step, (x, level) in zip(
        run(sampler, FromFunction(exact, channels=1), problem), states, strict=True
    ):
        a, c = level.a, level.c
        precision = (
            torch.eye(size).double() * (1 / spread**2 + a**2 / c**2) + matrix.T @ matrix / std**2
        )
        seen = (a / c**2 * (x - (1 - a) * shown) + m / spread**2).flatten() + matrix.T @ b / std**2
        joint = torch.linalg.solve(precision, seen).reshape(3, 4)
        torch.testing.assert_close(step.x0, joint, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_corrected_estimates_enter_the_history(generator, parameterization):
    """A model that knows nothing, and a noiseless measurement of every pixel: only what is corrected can be right."""
    truth = torch.rand(2, 8, 8, generator=generator, dtype=torch.float64)
    model = FromFunction(lambda x, level, y: (torch.full_like(x, 0.5),), channels=1)
    for noise in (None, Gaussian(1e-5)):
        problem = Problem(truth, Identity((8, 8)), noise)
        sampler = MRSampler(parameterization=parameterization, denoise_last="none")
        last = run(sampler, model, problem)[-1].x0
        assert float((last - truth).abs().max()) < 4 * sampler.levels.c[-1]


# ---------------------------------------------------------------------------------------------
# Items, faults, refusals


@pytest.mark.parametrize(("kind", "parameterization", "order"), SOLVERS)
def test_a_batch_gives_what_its_items_give(generator, kind, parameterization, order):
    x = torch.rand(3, 8, 8, generator=generator)
    operator = Inpainting.random((8, 8), 0.5, generator)
    model = FromFunction(bounded, channels=1)
    sampler = MRSampler(kind=kind, parameterization=parameterization, order=order, n_steps=16,
                        thresholding=True)  # fmt: skip
    problem = Problem(operator(x), operator, Gaussian(0.02), ids=("a", "b", "c"))
    together = run(sampler, model, problem)[-1].x0
    assert together.dtype == torch.float32
    for k, name in enumerate("abc"):
        alone = Problem(operator(x[k]), operator, Gaussian(0.02), ids=(name,))
        torch.testing.assert_close(
            run(sampler, model, alone)[-1].x0, together[k], rtol=SINGLE, atol=SINGLE / 10
        )


def test_complex_images_are_solved_part_by_part(generator):
    """On a diagonal of ones the chain of a complex image is the chains of its parts."""
    operator, x = case("mri", generator)
    problem, model = Problem(operator(x / 9), operator), FromFunction(bounded, channels=1)
    got = run(MRSampler(data_consistency=False), model, problem)[-1].x0
    n = Draws(0, problem.ids).normal_like(problem.degraded, 2)
    for part in ("real", "imag"):
        s = MRSampler(lower_order="last", data_consistency=False)
        y, noise = getattr(problem.degraded, part), getattr(n, part)
        state = FixedStart(noise)
        alone = run(s, model, Problem(y, Identity((8, 8))), state)[-1].x0
        torch.testing.assert_close(getattr(got, part), alone)


class FixedStart(Draws):
    """Hands out one stored noise."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__(0, ())
        self.noise = noise

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        return self.noise


def test_seeds_matter_and_repeat(generator):
    y = torch.rand(2, 4, 4, generator=generator)
    problem, model = Problem(y, Identity((4, 4))), FromFunction(bounded, channels=1)
    for kind in ("ode", "sde"):
        sampler = MRSampler(kind=kind, data_consistency=False)
        a, b, c = (
            run(sampler, model, problem, Draws(seed, problem.ids))[-1].x0 for seed in (0, 0, 1)
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_value_that_is_not_finite_stops_the_run():
    calls = []

    def broken(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        calls.append(level)
        return (x * math.nan if len(calls) == 4 else x,)

    problem = Problem(torch.rand(1, 4, 4), Identity((4, 4)))
    with pytest.raises(DivergenceError, match="MRSampler: a non-finite value at step 4 of 10"):
        run(MRSampler(), FromFunction(broken, channels=1), problem)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kind": "heun"}, "heun"),
        ({"parameterization": "score"}, "score"),
        ({"lower_order": "first"}, "first"),
        ({"denoise_last": "yes"}, "yes"),
        ({"interpolation": "cubic"}, "cubic"),
        ({"grid": "uniform"}, "uniform"),
        ({"n_steps": 1}, "at least as many"),
        ({"n_steps": 2, "order": 3}, "at least as many"),
        ({"order": 0}, "order must lie in 1..3"),
        ({"order": 4}, "order must lie in 1..3"),
        ({"kind": "sde", "order": 3}, "orders 1 to 2"),
        ({"threshold_ratio": 0.0}, "threshold_ratio"),
        ({"threshold_max": 0.5}, "threshold_max"),
        ({"prior_std": math.inf}, "prior_std"),
        ({"cg_iters": 0}, "cg_iters"),
        ({"s_inf": 0.0}, "s_inf"),
        ({"grid": "leading", "n_steps": 150}, "different times"),
        ({"interpolation": "official", "convention": "irsde"}, "daclip"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        MRSampler(**settings)


def test_pairs_that_cannot_work_are_refused(generator):
    operator, x = case("mri", generator)
    problem = Problem(operator(x), operator)
    foreign = FromFunction(bounded, channels=1, bridge="resshift")
    with pytest.raises(ConfigError, match="sampler resshift"):
        prior_for(foreign, MRSampler(), problem)
    for settings in ({"clip": True}, {"thresholding": True}):
        with pytest.raises(ConfigError, match="complex"):
            run(MRSampler(**settings), FromFunction(bounded, channels=1), problem)


@pytest.mark.parametrize(
    ("preset", "kind", "grid"),
    [("published", "ode", "linspace"), ("published-sde", "sde", "linear-lambda")],
)
def test_presets_are_the_released_settings(preset, kind, grid):
    s = MRSampler.configured(preset, Identity, {})
    assert (s.kind, s.grid, s.order, s.parameterization) == (kind, grid, 2, "data")
    assert (s.n_steps, s.lambda_min, s.trained_steps, s.eps) == (20, -5, 100, 0.005)
    assert s.theta == "cosine"
    assert s.s_inf * 255 == pytest.approx(50)
    assert (s.data_consistency, s.thresholding) == (False, False)


def test_settings_are_values():
    assert MRSampler.configured("published", Identity, {}).grid == "linspace"
    assert MRSampler() == MRSampler()
    with pytest.raises(dataclasses.FrozenInstanceError):
        MRSampler().order = 1
