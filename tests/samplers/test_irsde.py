"""IR-SDE's own samplers: replayed on stored noise, then strides, oracles, items of a batch and refusals."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from restore.bridges.base import Level
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

# The published chain stores float32 states that its next step damps; 4e-5 of method, not rounding.
LOST = 1e-4
DOUBLE = 1e-9  # float64: a hundred steps of some products
STATIONARY = 0.05  # the last state's noise and the sde's few steps

SINGLE = 1e-5  # float32: a few roundings of 6e-8 a step, damped by the next; 1e-6 after 100 steps
RULES = ("posterior", "sde", "ode")
PLAIN = {"data_consistency": False}


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Largest deviation relative to the largest value."""
    error = float((got.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    assert error <= tolerance, error


def gaussian(m: Tensor, s: float, seen: list[Tensor]) -> FromFunction:
    """The exact noise estimate for x0 ~ N(m, s^2); keeps what it was shown."""

    def answer(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        seen.append(x)
        a, c, mean, mu, xt = level.a, level.c, m.double(), y.double(), x.double()
        x0 = mean + s**2 * a / (s**2 * a**2 + c**2) * (xt - a * mean - (1 - a) * mu)
        return (((xt - a * x0 - (1 - a) * mu) / c).to(x.dtype),)

    return FromFunction(answer, head="noise", bridge="mrs")


def run(sampler: IRSDE, model: FromFunction, problem: Problem, draws: Draws | None = None) -> list:
    prior = ConditionalPrior(model, problem.item_shape, IRSDE.intensity)
    return list(sampler.steps(problem, prior, draws or Draws(0, problem.ids)))


def replayed(g: dict[str, Tensor], sampler: IRSDE, draws: Draws) -> list[Tensor]:
    """Every state of a stored run, the start excluded."""
    seen: list[Tensor] = []
    problem = Problem(g["mu"], Identity(tuple(g["mu"].shape[1:])))
    steps = run(sampler, gaussian(g["m0"], float(g["s"]), seen), problem, draws)
    assert [(s.i, s.n, s.evaluations) for s in steps] == [(i, 100, i + 1) for i in range(100)]
    close(seen[0], g["x_T"], SINGLE)
    return [*seen[1:], steps[-1].x0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.traces("chain", "mrs", "*_reverse_T100_cosine_ms50")
def test_published_chains(arrays, replay, chain, rule):
    g = arrays(f"mrs/{chain}")
    settings = {"rule": rule, "convention": chain.split("_")[0]}
    released = IRSDE.configured("published-refusion", Identity, settings)
    exact = dataclasses.replace(released, roundings="exact")
    noises = [g["noise_T"], *g["step_noise"]]
    ours, better = (replayed(g, sampler, replay(noises)) for sampler in (released, exact))
    for k, i in enumerate(g["saved_step_index"].tolist()):
        close(ours[i], g[f"reverse_{rule}"][k], SINGLE)
        if i < 90:  # after that, the posterior rule loses digits in the released float32
            close(better[i], g[f"reverse_{rule}"][k], SINGLE)
    assert float((better[-1] - ours[-1]).abs().max()) < LOST  # what it loses in all


def test_presets_are_the_released_settings():
    for preset, rule, max_sigma in (
        ("published", "sde", 10), ("published-superres", "sde", 30), ("published-refusion", "posterior", 50)
    ):  # fmt: skip
        s = IRSDE.configured(preset, Identity, {})
        assert (s.n_steps, s.trained_steps, s.rule, s.theta) == (100, 100, rule, "cosine")
        assert (s.s_inf * 255, s.eps) == pytest.approx((max_sigma, 0.005))
        assert not s.data_consistency


@pytest.mark.parametrize("n", [1, 3, 7, 20, 99, 100])
def test_times_run_from_the_end_to_zero(n):
    times = IRSDE(n_steps=n).times()
    assert (times[0], times[-1], len(times)) == (100, 0, n + 1)
    assert max(a - b for a, b in pairwise(times)) <= math.ceil(100 / n)
    assert len(set(times)) == n + 1


# ---------------------------------------------------------------------------------------------
# A model that knows the truth


def oracle(truth: Tensor) -> FromFunction:
    parts = torch.stack([truth.real, truth.imag]) if truth.is_complex() else truth
    planes = parts.reshape(-1, 1, *truth.shape[-2:])
    return FromFunction(lambda x, level, y: (planes.to(x),), channels=1)


def case(kind: str, generator: torch.Generator) -> tuple[LinearOperator, Tensor]:
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
    for sampler in (IRSDE(), IRSDE(n_steps=1), IRSDE(n_steps=7, **PLAIN)):
        steps = run(sampler, oracle(truth), problem)
        assert steps[-1].evaluations == sampler.n_steps
        torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("rule", ["sde", "ode"])
def test_euler_rules_end_near_the_truth(generator, rule):
    operator, truth = case("inpainting", generator)
    sampler = IRSDE(n_steps=100, rule=rule, **PLAIN)
    last = run(sampler, oracle(truth / 6), Problem(operator(truth / 6), operator))[-1]
    assert float((last.x0 - truth / 6).square().mean().sqrt()) < STATIONARY


@pytest.mark.parametrize("rule", RULES)
def test_consistent_estimates_carry_the_chain(generator, rule):
    """A model that knows nothing, and a measurement of every pixel: data consistency alone finds the image."""
    truth = torch.rand(2, 8, 8, generator=generator, dtype=torch.float64)
    problem = Problem(truth, Identity((8, 8)), Gaussian(1e-4))
    model = FromFunction(lambda x, level, y: (torch.full_like(x, 0.5),), channels=1)
    last = run(IRSDE(n_steps=40, trained_steps=40, rule=rule), model, problem)[-1]
    assert float((last.x0 - truth).abs().max()) < STATIONARY


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_gives_what_its_items_give(generator, rule):
    x = torch.rand(3, 8, 8, generator=generator)
    operator = Inpainting.random((8, 8), 0.5, generator)
    model = FromFunction(lambda x, level, y: (0.5 * torch.tanh(x + y) + level.a / 4,), channels=1)
    sampler = IRSDE(n_steps=20, trained_steps=20, rule=rule)
    problem = Problem(operator(x), operator, Gaussian(0.02), ids=("a", "b", "c"))
    together = run(sampler, model, problem)[-1].x0
    for k, name in enumerate("abc"):
        alone = Problem(operator(x[k]), operator, Gaussian(0.02), ids=(name,))
        torch.testing.assert_close(run(sampler, model, alone)[-1].x0, together[k])


def test_a_value_that_is_not_finite_stops_the_run():
    calls = []

    def broken(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        calls.append(level)
        return (x * math.nan if len(calls) == 4 else x,)

    problem = Problem(torch.rand(1, 4, 4), Identity((4, 4)))
    with pytest.raises(DivergenceError, match="IRSDE: a non-finite value at step 4 of 20"):
        run(IRSDE(), FromFunction(broken, channels=1), problem)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 101}, "n_steps"),
        ({"rule": "sde"}, "posterior"),
        ({"rule": "ode", "n_steps": 50}, "mrs"),
        ({"rule": "heun"}, "heun"),
        ({"prior_std": 0.0}, "prior_std"),
        ({"cg_iters": 0}, "cg_iters"),
        ({"s_inf": -1.0}, "s_inf"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        IRSDE(**settings)


def test_priors_that_cannot_work_are_refused():
    problem = Problem(torch.rand(1, 4, 4), Identity((4, 4)))
    foreign = FromFunction(lambda x, level, y: (x,), channels=1, bridge="rddm")
    with pytest.raises(ConfigError, match="sampler rddm"):
        prior_for(foreign, IRSDE(), problem)


def test_settings_are_values():
    assert IRSDE() == IRSDE()
    with pytest.raises(dataclasses.FrozenInstanceError):
        IRSDE().rule = "ode"
