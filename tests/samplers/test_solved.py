"""Multistep solvers: weights beside the papers' formulae, orders of convergence on exact priors, chains with them."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from restore.bridges.base import Times
from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.ddrm import DDRM
from restore.samplers.dds import DDS
from restore.samplers.diffpir import DiffPIR
from restore.samplers.pigdm import PiGDM
from restore.samplers.split import Split
from restore.samplers.toolbox import levels
from restore.samplers.toolbox.multistep import (
    adams_weights,
    corrector_weights,
    data_weights,
    deis_weights,
    interpolated,
    step_weights,
    vp_time,
)
from restore.samplers.toolbox.reverse import flow_end, flow_levels
from restore.samplers.toolbox.solved import History, Solver, flow

WEIGHTS = 1e-11  # float64: a quadrature and a solve of at most four unknowns; 2e-15 seen
ORDER = 0.35  # slopes of errors at 40 and 80 steps, where the next power still counts; 0.2 seen
CHAINS = 1e-9  # float64: some ten steps, each a sum of a few images of size 1; 1e-15 seen
LIMIT = (
    0.25  # of the error of DDIM at as many steps, a statement on discretisation; 0.02 to 0.17 seen
)
FEW = 0.5  # the same of twelve levels, that of DEIS a third
NEAR = 0.1  # of the distance to the prior's mean, left by twenty steps
SAMPLED = (
    0.05  # a variance over 400 images of 36 pixels of a fixed seed, and what thirty steps leave
)

SIDE, HIGH, LOW = 6, 1.5, 0.1
SIGMAS = [0.9, 1.3, 1.7]  # of the last estimates, newest first
AFTER = 0.5


def lam(s: float) -> float:
    return -math.log(s)


def test_second_order_is_dpm_solver_2m_and_its_sde():
    """Lu and others 2022, algorithm 2, and the SDE of order 2 as released code has it, written by hand."""
    h = lam(AFTER) - lam(SIGMAS[0])
    r = (lam(SIGMAS[0]) - lam(SIGMAS[1])) / h
    for factor in (1, 2):
        whole = 1 - math.exp(-factor * h)
        wanted = (whole * (1 + 1 / (2 * r)), -whole / (2 * r))
        assert data_weights(2, SIGMAS[:2], AFTER, factor * h) == pytest.approx(wanted, rel=WEIGHTS)


def unipc_by_hand(order: int, b: str, corrects: bool) -> list[float]:
    """Weights of the estimates by the paper's system R rho = b, as released code solves it; the new one first."""
    h = lam(AFTER) - lam(SIGMAS[0])
    hh, phi = -h, math.expm1(-h)
    gain = hh if b == "b1" else phi
    rks = [(lam(s) - lam(SIGMAS[0])) / h for s in SIGMAS[1:order]] + [1.0] * corrects
    size = len(rks)
    rows, right, term = [], [], phi / hh - 1
    for i in range(1, size + 1):
        rows.append([r ** (i - 1) for r in rks])
        right.append(term * math.factorial(i) / gain)
        term = term / hh - 1 / math.factorial(i + 1)
    rho = [0.5] * size
    if size > 1:
        rho = np.linalg.solve(rows, right).tolist()
    slopes = [-gain * p / r for p, r in zip(rho, rks, strict=True)]
    first = -phi - sum(slopes)
    weights = [first, *slopes[: order - 1]]
    return [slopes[-1], *weights] if corrects else weights


@pytest.mark.parametrize("b", ["b1", "b2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_is_the_papers_system(order, b):
    h = lam(AFTER) - lam(SIGMAS[0])
    found = corrector_weights(order, SIGMAS[:order], AFTER, b)
    assert found == pytest.approx(unipc_by_hand(order, b, True), rel=WEIGHTS)
    found = data_weights(order, SIGMAS[:order], AFTER, h, b)
    assert found == pytest.approx(unipc_by_hand(order, b, False), rel=WEIGHTS)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_is_the_integral_of_the_polynomial_in_time(order):
    times = [vp_time(s) for s in SIGMAS[:order]]

    def lagrange(j: int, t: float) -> float:
        return math.prod((t - times[i]) / (times[j] - times[i]) for i in range(order) if i != j)

    wanted = [
        quad(lambda s, j=j: lagrange(j, vp_time(s)), SIGMAS[0], AFTER)[0] for j in range(order)
    ]
    assert deis_weights(order, SIGMAS[:order], AFTER) == pytest.approx(wanted, rel=WEIGHTS)


def test_the_time_of_a_level_is_that_of_the_continuous_schedule():
    times = torch.linspace(1, 1e-3, 7, dtype=torch.float64).tolist()
    assert [vp_time(s) for s in levels.continuous(7)] == pytest.approx(times, rel=WEIGHTS)


def test_adams_and_momentum_are_the_published_numbers():
    assert adams_weights(4) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24], rel=WEIGHTS)
    assert adams_weights(3) == pytest.approx([23 / 12, -16 / 12, 5 / 12], rel=WEIGHTS)
    beta = 0.8
    wanted = [(2 + beta) / (2 * beta), -(2 - beta) / (2 * beta)]
    assert adams_weights(2, beta) == pytest.approx(wanted, rel=WEIGHTS)


def test_an_estimate_is_interpolated_in_lambda():
    values = [2 + 3 * lam(s) - lam(s) ** 2 for s in SIGMAS]
    at = lam(SIGMAS[1]) + 0.7 * (lam(SIGMAS[0]) - lam(SIGMAS[1]))
    found = sum(w * v for w, v in zip(interpolated(SIGMAS, 0.7), values, strict=True))
    assert found == pytest.approx(2 + 3 * at - at**2, rel=WEIGHTS)
    assert interpolated(SIGMAS, 1.0) == pytest.approx([1, 0, 0], abs=WEIGHTS)


@pytest.mark.parametrize("decay", [0.01, 3.9, 4.1, 60.0, math.inf])
def test_weights_add_up_at_every_decay_and_extrapolate_where_nothing_is_kept(decay):
    for order in (1, 2, 3):
        found = data_weights(order, SIGMAS[:order], AFTER, decay)
        assert sum(found) == pytest.approx(1 - math.exp(-decay), rel=WEIGHTS)
    if decay == math.inf:
        parabola = [lam(s) ** 2 for s in SIGMAS]
        there = sum(w * v for w, v in zip(found, parabola, strict=True))
        assert there == pytest.approx(lam(AFTER) ** 2, rel=WEIGHTS)


# --- orders of convergence


def gaussian() -> GaussianPrior:
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    mean = torch.rand(SIDE, SIDE, generator=g, dtype=torch.float64)
    return GaussianPrior(mean, spectrum=0.02 / (0.02 + f[:, None] ** 2 + f**2))


def mixture() -> GaussianMixture:
    g = torch.Generator().manual_seed(2)
    means = torch.rand(3, SIDE, SIDE, generator=g, dtype=torch.float64)
    return GaussianMixture(means, torch.tensor([0.05, 0.1, 0.2]).double(), torch.ones(3).double())


def first_state() -> Tensor:
    g = torch.Generator().manual_seed(3)
    return HIGH * torch.randn(2, 1, SIDE, SIDE, generator=g, dtype=torch.float64)


def runge_kutta(prior, x: Tensor, s: float, after: float) -> Tensor:
    """The flow by the classical steps of order 4 in log sigma, dx/dlog s = x - D, the reference of a mixture."""
    count = max(4, round(60 * math.log(s / after)))
    h = math.log(after / s) / count
    for i in range(count):
        here, middle, there = (s * math.exp((i + part) * h) for part in (0, 0.5, 1))
        k1 = x - prior(x, here)
        k2 = x + h / 2 * k1 - prior(x + h / 2 * k1, middle)
        k3 = x + h / 2 * k2 - prior(x + h / 2 * k2, middle)
        k4 = x + h * k3 - prior(x + h * k3, there)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def states(prior, sigmas: list[float]) -> list[Tensor]:
    """The first four states and the last one of the flow: in closed form, or by Runge and Kutta's steps."""
    x, places = first_state(), [*sigmas[:4], sigmas[-1]]
    if isinstance(prior, GaussianPrior):
        # every mode is scaled by the ratio of its deviations
        gains = [lambda c, rank, s=s: ((c + s**2) / (c + HIGH**2)).sqrt() for s in places]
        return [prior.mean + prior._filtered(x - prior.mean, gain) for gain in gains]
    found = [x]
    for s, after in pairwise(places):
        found.append(runge_kutta(prior, found[-1], s, after))
    return found


@pytest.fixture(scope="module")
def paths():
    """The states on the exact paths, of each prior and number of steps."""
    found = {}
    for name, prior in (("gaussian", gaussian()), ("mixture", mixture())):
        for n in (40, 80, 160):
            sigmas = levels.geometric(n + 1, HIGH, LOW)
            found[name, n] = prior, sigmas, states(prior, sigmas)
    return found


def error(solver: Solver, path) -> float:
    """At the last level, the first four states taken from the exact path: no start of order 1 shows."""
    prior, sigmas, exact = path
    run, x = History(solver), exact[0]
    for i, (s, after) in enumerate(pairwise(sigmas)):
        x0 = prior(x, s)
        x = run.step(run.corrected(x, x0, s), x0, s, after)
        if i < 3:
            x, run.before = exact[i + 1], None
    return float((x - exact[-1]).norm())


ORDERS = [
    (Solver("ddim"), 1), (Solver("dpm", 1), 1), (Solver("dpm", 2), 2), (Solver("dpm", 3), 3),
    (Solver("unipc", 1), 2), (Solver("unipc", 2), 3), (Solver("unipc", 2, "b1"), 3), (Solver("unipc", 3), 4),
    (Solver("unipc", 2, "none"), 2), (Solver("unipc", 2, "b1", ratios=(0.9,)), 1),
    (Solver("deis", 1), 1), (Solver("deis", 2), 2), (Solver("deis", 3), 3),
    (Solver("plms", 2), 2), (Solver("plms", 4), 2), (Solver("plms", 2, momentum=0.7), 2),
    (Solver("dpm", 2, momentum=0.7), 1), (Solver("dpm", 3, ratios=(0.9,)), 1),
]  # fmt: skip


@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
@pytest.mark.parametrize(
    ("solver", "order"), ORDERS, ids=[f"{s.name}{s.order}-{s.corrector}-{i}" for i, (s, _) in enumerate(ORDERS)]
)  # fmt: skip
def test_orders_of_convergence(paths, solver, order, prior):
    """PLMS takes unequal steps in sigma for equal ones: order 2, whatever its history. Momentum behind other solvers
    and a constant ratio of compensation leave order 1."""
    counts = (80, 160) if order == 4 else (40, 80)
    errors = [error(solver, paths[prior, n]) for n in counts]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=ORDER)


def test_the_released_third_order_of_dpm_solver_is_of_order_two(paths):
    """Half the weight of the second difference (`step_weights`, as MRS has it too) costs the third order."""
    errors = []
    for n in (40, 80):
        prior, sigmas, exact = paths["gaussian", n]
        ones, lams = (1.0,) * len(sigmas), tuple(lam(s) for s in sigmas)
        times = Times(ones, ones, tuple(sigmas), lams)
        x, history = exact[2], [prior(exact[1], sigmas[1]), prior(exact[0], sigmas[0])]
        for i in range(2, n):
            history = [prior(x, sigmas[i]), *history[:2]]
            x = step_weights("ode", "data", 3, times, i).combine(x, history, 0 * x)
        errors.append(float((x - exact[-1]).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=ORDER)


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_compensation_helps_a_corrector_at_few_steps(name):
    """DC-Solver's claim, at five steps: a third of the error with ratios searched step by step, half with one."""
    prior, searched = {
        "gaussian": (gaussian(), (1.0, 0.9, 0.9, 0.85, 1.0)), "mixture": (mixture(), (1.0, 1.0, 0.95, 0.9, 0.95)),
    }[name]  # fmt: skip
    sigmas = levels.karras(6, HIGH, LOW)
    limit = states(prior, [HIGH, 1.4, 1.3, 1.2, LOW])[-1]

    def missed(*ratios: float) -> float:
        found = flow(prior, first_state(), sigmas, Solver("unipc", ratios=ratios))
        return float((found - limit).norm())

    assert missed(*searched) < missed(1.0) / 3
    assert missed(0.95) < missed(1.0) / 2


@pytest.mark.parametrize("name", ["dpm", "unipc", "deis", "plms"])
def test_the_inner_flow_of_split_ends_nearer_to_its_limit(name):
    prior, x = gaussian(), first_state()
    limit = flow_end(prior, x, flow_levels(HIGH, 200), Solver("dpm"))
    plain, solved = (
        float((flow_end(prior, x, flow_levels(HIGH, 12), Solver(n)) - limit).norm())
        for n in ("ddim", name)
    )
    assert solved < FEW * plain
    still = [0.004] * 3  # a grid that stands still below its last level
    torch.testing.assert_close(flow_end(prior, x, still, Solver(name)), prior(x, 0.004))


# --- chains


def problem(std: float = 0.1) -> Problem:
    g = torch.Generator().manual_seed(5)
    known = (torch.rand(SIDE, SIDE, generator=g) < 0.5).double()
    operator = Inpainting(known, (SIDE, SIDE))
    y = known * (gaussian().sample(2, g)[:, 0] + std * torch.randn(2, SIDE, SIDE, generator=g))
    return Problem(y, operator, Gaussian(std))


def result(sampler, problem_: Problem) -> Tensor:
    prior = ImagePrior(gaussian(), (SIDE, SIDE), complex_=False)
    *_, last = sampler.steps(problem_, prior, Draws(1, problem_.ids))
    return last.x0


FLOWS = {
    "dds": DDS(eta=0.0, gamma=1.0, sigma_start=2.0, n_steps=10),
    "diffpir": DiffPIR(zeta=0.0, lam=1.0, sigma_start=2.0, n_steps=10),
    "ddrm": DDRM(eta=0.0, sigma_start=2.0, n_steps=10, sigma_end=0.1),
    "pigdm": PiGDM(eta=0.0, sigma_start=2.0, n_steps=10),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_solver_of_order_one_is_the_chain_as_it_was(name):
    """But for dds, whose noise is that of the estimate before the data step."""
    sampler = FLOWS[name]
    plain = result(sampler if name != "dds" else FLOWS["diffpir"], problem())
    for solver in ("dpm", "deis", "plms"):
        other = dataclasses.replace(sampler, solver=solver, order=1)
        torch.testing.assert_close(result(other, problem()), plain, rtol=0, atol=CHAINS)


@pytest.mark.parametrize("name", ["diffpir", "pigdm"])
def test_higher_orders_are_nearer_to_the_end_of_the_same_flow(name):
    """Against 150 steps of order 2: an error far below that of DDIM at 20 steps."""
    sampler = dataclasses.replace(FLOWS[name], n_steps=20, sigma_end=0.05, turns=False)
    limit = result(dataclasses.replace(sampler, n_steps=150, solver="dpm"), problem())
    plain = result(sampler, problem())
    for solver in ("dpm", "unipc", "deis", "plms"):
        found = result(dataclasses.replace(sampler, solver=solver), problem())
        assert (found - limit).norm() < LIMIT * (plain - limit).norm(), solver


@pytest.mark.parametrize("name", FLOWS)
def test_every_solver_and_option_ends_at_the_same_flow(name):
    case, sampler = problem(), FLOWS[name]
    near = result(dataclasses.replace(sampler, n_steps=80, solver="dpm"), case)
    scale = (near - gaussian().mean).norm()
    for settings in (
        {"solver": "dpm", "order": 3}, {"solver": "unipc"}, {"solver": "unipc", "corrector": "b1", "order": 3},
        {"solver": "deis", "order": 3}, {"solver": "plms", "order": 4}, {"solver": "plms", "momentum": 0.8},
        {"momentum": 0.8}, {"solver": "dpm", "compensation": "1,0.95,0.9"},
    ):  # fmt: skip
        found = result(dataclasses.replace(sampler, n_steps=20, **settings), case)
        assert (found - near).norm() < NEAR * scale, settings


def test_unmeasured_modes_alone_are_walked_by_the_solver_of_ddrm():
    case = problem()
    known = case.operator(torch.ones(SIDE, SIDE).double()) > 0
    plain, solved = FLOWS["ddrm"], dataclasses.replace(FLOWS["ddrm"], solver="dpm", n_steps=2)
    two = result(dataclasses.replace(plain, n_steps=2), case), result(solved, case)
    # of two steps the first is of order 1
    torch.testing.assert_close(two[0], two[1], rtol=0, atol=CHAINS)
    found = result(dataclasses.replace(solved, n_steps=3), case)
    plain3 = result(dataclasses.replace(plain, n_steps=3), case)
    assert (found - plain3)[..., ~known].abs().max() > 100 * CHAINS


def test_ancestral_steps_of_order_two_keep_the_moments_of_the_posterior_flow():
    """With eta 1 and noise_rule ddim (DPM-Solver++ SDE): on a Gaussian without data the spread is the prior's."""
    free = Problem(torch.zeros(400, SIDE, SIDE).double(), Inpainting(torch.zeros(SIDE, SIDE).double(), (SIDE, SIDE)),
                   Gaussian(1.0))  # fmt: skip
    common = {
        "noise_rule": "ddim",
        "start": "noise",
        "sigma_start": 20.0,
        "n_steps": 30,
        "sigma_end": 0.05,
    }
    exact = float(gaussian()._eigen.mean())
    spread = {}
    for solver in ("ddim", "dpm"):
        found = result(DDS(solver=solver, **common), free)
        spread[solver] = float((found - gaussian().mean).square().mean())
    assert abs(spread["dpm"] / exact - 1) < SAMPLED < abs(spread["ddim"] / exact - 1)


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (DDS, {"solver": "unipc"}, "set eta=0"),
        (DDS, {"momentum": 0.5}, "set eta=0"),
        (DiffPIR, {"solver": "deis"}, "set zeta=0"),
        (DDS, {"solver": "deis", "order": 4, "eta": 0.0}, "orders up to 3"),
        (DDS, {"solver": "dpm", "corrector": "b1"}, "belongs to solver=unipc"),
        (DDS, {"solver": "unipc", "momentum": 0.5, "eta": 0.0}, "exclude each other"),
        (DDS, {"compensation": "1,x"}, "takes numbers"),
        (DDS, {"compensation": "1,0"}, "above 0"),
        (DDS, {"compensation": "nan"}, "above 0"),
        (DDS, {"solver": "heun"}, "must be one of"),
        (DDS, {"order": 0}, "order must lie in 1..4"),
        (DiffPIR, {"solver": "dpm", "renoise": False}, "neither noise nor steps"),
        (Split, {"inner_solver": "dpm"}, "estimate=ode"),
        (PiGDM, {"solver": "dpm", "rule": "published"}, "rule=posterior"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(cls, settings, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        cls(**settings)
