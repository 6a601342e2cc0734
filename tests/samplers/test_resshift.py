"""ResShift beyond the stored chains: heads, marginals, data consistency, batches, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import restore
from restore.bridges.base import Level, clean_estimate, implied_noise
from restore.bridges.resshift import HEADS
from restore.errors import ConfigError, DivergenceError
from restore.front_door import prior_for
from restore.noise import Gaussian
from restore.operators import Blur, Downsample, Identity, Inpainting, MultiCoilMRI
from restore.operators.base import LinearOperator
from restore.operators.image.kernels import gaussian
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.resshift import ResShift

DOUBLE = 1e-8  # float64: fifteen steps of products, divided by levels of 0.02
FEW = 1e-12  # float64: some products and sums of numbers about one, 1e-15 each
SEVERAL = 1e-10  # float64: a chain of ten steps of such, some divided by small levels
SINGLE = 1e-4  # float32 in units 1e4 times larger: fifteen steps

SIDE = 8
MASK = torch.arange(SIDE) % 2 == 0
MRI = MultiCoilMRI(torch.ones(1, SIDE, SIDE, dtype=torch.complex128), MASK)


class Network(FromFunction):
    """A function of state, level and degraded image in the chain's range; keeps what it was shown."""

    def __init__(self, answer: Callable, channels: int = 1, **stated) -> None:
        super().__init__(self.told, channels=channels, **({"intensity": (-1.0, 1.0)} | stated))
        self.answer, self.inputs, self.levels = answer, [], []

    def told(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        self.inputs.append(x)
        self.levels.append(level)
        return (self.answer(x, level, y),)


def exact(mu: float, s: float, head: str = "x0") -> Callable:
    """E[x0 | x_t] for x0 ~ N(mu, s^2), as any head."""

    def answer(x: Tensor, level: Level, y: Tensor) -> Tensor:
        a, c = level.a, level.c
        x0 = mu + s**2 * a / (s**2 * a**2 + c**2) * (x - a * mu - (1 - a) * y)
        n = implied_noise(x, x0, y, level)
        return {"x0": x0, "residual": y - x0, "noise": n, "scaled-noise": c * n}[head]

    return answer


def run(sampler: ResShift, problem: Problem, network: FromFunction, seed: int = 0) -> list[Step]:
    prior = ConditionalPrior(network, problem.item_shape, ResShift.intensity)
    with torch.no_grad():
        return list(sampler.steps(problem, prior, Draws(seed, problem.ids)))


def shown(x: Tensor, items: int) -> Tensor:
    """What a network saw of `items` images, in unit intensities; complex from its two halves."""
    x = (x[:, 0] + 1) / 2
    return torch.complex(*x.reshape(2, items, SIDE, SIDE)) if len(x) == 2 * items else x


def images(items: int, *, complex_: bool = False, seed: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    kind = torch.complex128 if complex_ else torch.float64
    return torch.randn(items, SIDE, SIDE, generator=g, dtype=kind)


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("steps", [4, 15])
def test_the_four_heads_agree(steps, stochastic):
    y = images(2)
    problem = Problem(y, Identity((SIDE, SIDE)))
    sampler = ResShift(n_steps=steps, stochastic=stochastic, data_consistency=False)
    results = [run(sampler, problem, Network(exact(0.2, 0.7, h), head=h))[-1].x0 for h in HEADS]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=SEVERAL)


def written_out(head: str, clip: bool, kept: list[int], z_y: Tensor, z: Tensor) -> Tensor:
    """The published chain of 15 levels, pixel scaling, as the method sheet states it; etas by their definition."""
    start = 0.04 / 2
    root = [start * (0.99 / start) ** ((t / 14) ** 0.3) for t in kept]
    x = z_y + 2 * root[-1] * z[0]
    for step, k in enumerate(reversed(range(len(kept)))):
        eta, below = root[k] ** 2, root[k - 1] ** 2 if k else 0.0
        scaled = x / (3 * 2 * root[k] + 1)
        o = torch.tanh(0.7 * scaled + 0.3 * z_y - 0.05 * kept[k])
        x0 = {
            "x0": o,
            "residual": z_y - o,
            "noise": (x - 2 * root[k] * o - eta * z_y) / (1 - eta),
            "scaled-noise": (x - o - eta * z_y) / (1 - eta),
        }[head]
        x0 = x0.clamp(-1, 1) if clip else x0
        x = below / eta * x + (1 - below / eta) * x0
        x = x + 2 * (below * (eta - below) / eta) ** 0.5 * z[step + 1] if k else x
    return x


@pytest.mark.parametrize("kept", [list(range(15)), [0, 3, 6, 9, 12], [0, 2, 5, 7, 10, 12]])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_the_chain_is_the_one_of_the_method_sheet(replay, head, clip, kept):
    z = torch.stack([images(2, seed=k) for k in range(len(kept) + 1)])
    z_y = images(2, seed=99)
    problem = Problem((z_y + 1) / 2, Identity((SIDE, SIDE)))
    sampler = ResShift.configured("published-15", Identity, {
        "n_steps": len(kept), "respacing": "official", "input_scaling": "pixel", "clip": clip,
    })  # fmt: skip
    network = Network(
        lambda x, level, y: torch.tanh(0.7 * x * level.scale + 0.3 * y - 0.05 * level.t), head=head
    )
    prior = ConditionalPrior(network, problem.item_shape, ResShift.intensity)
    *_, last = sampler.steps(problem, prior, replay(z))
    wanted = (written_out(head, clip, kept, z_y, z) + 1) / 2
    torch.testing.assert_close(last.x0, wanted, rtol=FEW, atol=FEW)


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("respacing", ["sound", "official"])
def test_the_chain_keeps_the_marginals_when_the_estimate_is_exact(stochastic, respacing):
    """With eta_T = 1 the start has the law of x_T, so that every state must have that of its level."""
    items = 300
    x0, y = images(2)
    problem = Problem(((y + 1) / 2).expand(items, SIDE, SIDE), Identity((SIDE, SIDE)))
    network = Network(lambda x, level, y: x0.expand_as(x))
    sampler = ResShift(n_steps=5, trained_steps=5, etas_end=1.0, respacing=respacing,
                       stochastic=stochastic, data_consistency=False)  # fmt: skip
    run(sampler, problem, network)
    noises = [implied_noise(x[:, 0], x0, y, level)
              for x, level in zip(network.inputs, network.levels, strict=True)]  # fmt: skip
    for n in noises:
        assert abs(float(n.mean())) < 4 / n.numel() ** 0.5
        assert abs(float(n.var()) - 1) < 4 * (2 / n.numel()) ** 0.5
    same = [float((n - noises[0]).abs().max()) < SEVERAL for n in noises[1:]]
    assert all(same) if not stochastic else not any(same)


def test_a_chain_that_starts_at_the_degraded_image_forgets_it_as_predicted():
    """The start leaves out a_T (x0 - y): a deterministic state is off by sqrt(eta_t/eta_T) of it."""
    x0, y = images(2)
    problem = Problem(((y + 1) / 2)[None], Identity((SIDE, SIDE)))
    network = Network(lambda x, level, y: x0.expand_as(x))
    steps = run(ResShift(data_consistency=False, stochastic=False), problem, network)
    first = network.levels[0]
    n = (network.inputs[0][0, 0] - y) / first.c
    for x, level in zip(network.inputs, network.levels, strict=True):
        lost = level.c / first.c * first.a * (x0 - y)
        wanted = level.a * x0 + (1 - level.a) * y + level.c * n - lost
        torch.testing.assert_close(x[0, 0], wanted, rtol=0, atol=FEW)
    torch.testing.assert_close(steps[-1].x0[0], (x0 + 1) / 2, rtol=0, atol=FEW)


OPERATORS: dict[str, LinearOperator] = {
    "inpainting": Inpainting(torch.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 == 0, (SIDE, SIDE)),
    "blur": Blur(gaussian(1.0).double(), (SIDE, SIDE), boundary="circular"),
    "superres": Downsample((SIDE, SIDE), 2, like=torch.empty(0, dtype=torch.float64)),
    "mri": MRI,
}


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("name", OPERATORS)
def test_data_consistency_gives_the_mean_of_the_joint_posterior(name, stochastic):
    """Exact network, exact r_t: each estimate is E[x0 | x_t, b] by dense linear algebra."""
    operator, mu, s, std = OPERATORS[name], 0.4, 0.3, 0.07
    complex_ = operator.is_complex
    b = operator(images(2, complex_=complex_))
    problem = Problem(b, operator, Gaussian(std))
    network = Network(exact(2 * mu - 1, 2 * s))
    sampler = ResShift(prior_std=s, cg_iters=200, stochastic=stochastic)
    steps = run(sampler, problem, network)

    eye = torch.eye(SIDE * SIDE, dtype=b.dtype).reshape(-1, SIDE, SIDE)
    gram = torch.stack([operator.normal(e).flatten() for e in eye], dim=1) / std**2
    back = operator.adjoint(b).flatten(1) / std**2
    mean = torch.full((SIDE * SIDE,), mu, dtype=b.dtype) * (1 + 1j if complex_ else 1)
    for step, x, level in zip(steps, network.inputs, network.levels, strict=True):
        c, a, y = level.c / 2, level.a, problem.observed.flatten(1)
        seen = shown(x, 2).flatten(1) - (1 - a) * y
        system = gram + (1 / s**2 + a**2 / c**2) * eye.flatten(1)
        wanted = torch.linalg.solve(system, (mean / s**2 + a * seen / c**2 + back).mT).mT
        torch.testing.assert_close(step.x0.flatten(1), wanted, rtol=0, atol=DOUBLE)


def test_consistency_with_unknown_noise_fits_the_data():
    operator = OPERATORS["inpainting"]
    truth = images(2)
    problem = Problem(operator(truth), operator)
    step = run(ResShift(), problem, Network(lambda x, level, y: 0 * x))[-1]
    seen = operator.mask.bool()
    torch.testing.assert_close(step.x0[..., seen], truth[..., seen], rtol=0, atol=FEW)
    torch.testing.assert_close(
        step.x0[..., ~seen], 0 * truth[..., ~seen] + 0.5, rtol=0, atol=DOUBLE
    )


@pytest.mark.parametrize("intensity", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("preset", ["tuned", "published", "published-15"])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_network_that_knows_the_truth_recovers_it(name, preset, intensity):
    """Also complex images, and values far outside [0, 1]."""
    operator = OPERATORS[name]
    truth = 3 * images(2, complex_=operator.is_complex)
    parts = torch.cat([truth.real, truth.imag]) if truth.is_complex() else truth
    known = parts[:, None] * (intensity[1] - intensity[0]) + intensity[0]
    network = Network(lambda x, level, y: known, intensity=intensity)
    sampler = ResShift.configured(preset, type(operator), {})
    steps = run(sampler, Problem(operator(truth), operator, Gaussian(0.01)), network)
    torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=SEVERAL)
    assert sampler.cost() == steps[-1].evaluations == sampler.n_steps


@pytest.mark.parametrize("preset", ["tuned", "published"])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_batch_gives_what_its_items_give(name, preset):
    operator = OPERATORS[name]
    y = operator(images(3, complex_=operator.is_complex))
    noise, sampler = Gaussian(0.05), ResShift.configured(preset, type(operator), {})
    answer = exact(0.1, 0.5)
    together = run(sampler, Problem(y, operator, noise, ids=("a", "b", "c")), Network(answer))
    for i, item in enumerate("abc"):
        one = Problem(y[i : i + 1], operator, noise, ids=(item,))
        alone = run(sampler, one, Network(answer))[-1].x0[0]
        torch.testing.assert_close(together[-1].x0[i], alone, rtol=0, atol=SEVERAL)


def test_seeds_repeat_and_the_global_generator_is_left_alone():
    problem = Problem(images(2).float(), Identity((SIDE, SIDE)))
    state = torch.random.get_rng_state()
    for preset in ("tuned", "published"):
        sampler = ResShift.configured(preset, Identity, {"data_consistency": False})
        runs = [run(sampler, problem, Network(exact(0, 0.5)), seed)[-1].x0 for seed in (0, 0, 1)]
        assert torch.equal(runs[0], runs[1])
        assert not torch.allclose(runs[0], runs[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_start_and_what_the_network_is_told():
    operator = Downsample((3, 16, 16), 4, like=torch.empty(0, dtype=torch.float64))
    y = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    problem, degraded = Problem(y, operator), []

    def answer(x, level, given):
        degraded.append(given)
        return given

    network = Network(answer, channels=3)
    sampler = ResShift.configured("published-15", Downsample, {"n_steps": 4})
    steps = run(sampler, problem, network)
    wanted = 2 * operator.interpolate(y) - 1
    for given in degraded:
        torch.testing.assert_close(given, wanted)
    noise = Draws(0, problem.ids).normal_like(wanted, 3)
    torch.testing.assert_close(network.inputs[0], wanted + 2 * 0.99 * noise)
    assert [v.t for v in network.levels] == [14, 9, 5, 0]
    whole = ResShift.configured("published-15", Downsample, {}).schedule
    for level in network.levels:
        eta = float(whole.eta[int(level.t)])
        assert (level.a, level.c) == pytest.approx((1 - eta, 2 * eta**0.5))
        assert level.scale == pytest.approx((4 * eta + 1) ** -0.5)
    assert [s.sigma for s in steps] == pytest.approx([v.sigma / 2 for v in network.levels])


def test_one_network_call_is_a_run():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    network = Network(exact(0, 0.5))
    sampler = ResShift(n_steps=1, trained_steps=4, data_consistency=False)
    (step,) = run(sampler, problem, network)
    level = network.levels[0]
    assert level.t == 3
    x, y = network.inputs[0], 2 * problem.observed[:, None] - 1
    x0 = clean_estimate("x0", network(x, level, y), x, y, level)
    torch.testing.assert_close(step.x0[:, None], (x0 + 1) / 2)


def test_clip_clamps_the_estimate_to_the_range_of_the_chain():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    sampler = ResShift.configured("published", Identity, {"clip": True})
    for step in run(sampler, problem, Network(lambda x, level, y: 5 * y)):
        assert float(step.x0.min()) == 0
        assert float(step.x0.max()) == 1


@pytest.mark.parametrize("bad", [0, 2])
def test_a_network_that_returns_nan_stops_the_run(bad):
    calls = []

    def answer(x, level, y):
        calls.append(level)
        return x * float("nan") if len(calls) == bad + 1 else x

    problem = Problem(images(2), Identity((SIDE, SIDE)))
    with pytest.raises(DivergenceError, match=f"ResShift: .* step {bad + 1} of 4"):
        run(ResShift(data_consistency=False), problem, Network(answer))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_steps": 1}, "two levels or more"),
        ({"n_steps": 0}, "n_steps must lie in 1.."),
        ({"n_steps": 5, "trained_steps": 4}, "5 of 4"),
        ({"kappa": -1.0}, "above 0"),
        ({"min_noise": 4.0}, "etas_end"),
        ({"prior_std": 0.0}, "prior_std"),
        ({"cg_iters": 0}, "cg_iters"),
    ],
)
def test_refuses_settings_out_of_range(settings, words):
    with pytest.raises(ConfigError, match=words):
        ResShift(**settings)


def test_refuses_models_of_another_kind():
    problem, answer = Problem(images(1), Identity((SIDE, SIDE))), exact(0, 1)
    with pytest.raises(ConfigError, match="rddm"):
        prior_for(Network(answer, bridge="rddm", name="mine"), ResShift(), problem)
    with pytest.raises(ConfigError, match="velocity"):
        prior_for(Network(answer, head="velocity"), ResShift(), problem)
    complex_ = Problem(MRI(images(1, complex_=True)), MRI)
    with pytest.raises(ConfigError, match="clip"):
        run(ResShift(clip=True), complex_, Network(answer))


def test_solve_is_equivariant_to_the_scale_of_mri_data():
    y = MRI(images(2, complex_=True))
    settings = {"sampler": "resshift", "noise": None, "prior": Network(exact(0.0, 0.5))}
    one = restore.solve(y, MRI, **settings).image
    for factor in (1e-4, 1e4):
        many = restore.solve(y * factor, MRI, **settings).image
        torch.testing.assert_close(many / factor, one, rtol=SINGLE, atol=SINGLE)
