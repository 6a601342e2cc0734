"""RDDM beyond the stored chains: heads, marginals, data consistency, noise heads, batches, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import restore
from restore.bridges import rddm
from restore.bridges.base import Level, implied_noise
from restore.errors import ConfigError, DivergenceError
from restore.front_door import prior_for
from restore.noise import Gaussian
from restore.operators import Blur, Downsample, Identity, Inpainting, MultiCoilMRI
from restore.operators.base import LinearOperator
from restore.operators.image.kernels import gaussian
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.rddm import RDDM

DOUBLE = 1e-8  # float64: twenty steps of products and sums, divided by levels of 1e-3
FEW = 1e-12  # float64: some products and sums of numbers about one, 1e-15 each
SEVERAL = 1e-10  # float64: a chain of ten steps of such, some divided by small levels

SIDE = 8
MRI = MultiCoilMRI(torch.ones(1, SIDE, SIDE, dtype=torch.complex128), torch.arange(SIDE) % 2 == 0)


class Network(FromFunction):
    """A function of state, level and degraded image in the chain's range; keeps what it was shown."""

    def __init__(self, answer: Callable, channels: int = 1, **stated) -> None:
        super().__init__(self.told, channels=channels, **({"intensity": (-1.0, 1.0)} | stated))
        self.answer, self.inputs, self.levels = answer, [], []

    def told(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        self.inputs.append(x)
        self.levels.append(level)
        out = self.answer(x, level, y)
        return out if isinstance(out, tuple) else (out,)


def exact(mu: float, s: float, head: str = "x0") -> Callable:
    """E[x0 | x_t] for x0 ~ N(mu, s^2), as any head."""

    def answer(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        a, c = level.a, level.c
        x0 = mu + s**2 * a / (s**2 * a**2 + c**2) * (x - a * mu - (1 - a) * y)
        return rddm.targets(head, x0, y, implied_noise(x, x0, y, level))

    return answer


def run(sampler: RDDM, problem: Problem, network: FromFunction, seed: int = 0) -> list[Step]:
    prior = ConditionalPrior(network, problem.item_shape, RDDM.intensity)
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


def plain(**settings) -> RDDM:
    return RDDM(**({"data_consistency": False} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"eta": 0.6}, {"eta": 0.6, "variance": "ddim"}, {"update": "use_x_start"},
        {"n_steps": 12, "trained_steps": 12}, {"alpha": "ddpm", "beta": "ddpm", "sum_scale": 1.0},
        {"alpha": "average", "beta": "increased", "beta_power": 3.0}, {"start": "noise"},
        {"data_consistency": True},
    ],
)  # fmt: skip
def test_the_heads_agree(settings):
    """All of them from an earlier time, those that say something of x0 there also from the last."""
    problem = Problem(images(2), Identity((SIDE, SIDE)), Gaussian(0.2))
    ancestral = "trained_steps" in settings
    earlier = settings | ({"start_time": 9, "n_steps": 5} if ancestral else {"start_time": 900})
    for chosen, heads in ((settings, set(rddm.HEADS) - {"noise"}), (earlier, set(rddm.HEADS))):
        results = [
            run(plain(**chosen), problem, Network(exact(0.2, 0.7, h), head=h))[-1].x0 for h in heads
        ]
        for other in results[1:]:
            torch.testing.assert_close(other, results[0], rtol=0, atol=SEVERAL)


@pytest.mark.parametrize("head", ["x0", "residual"])
def test_a_last_level_without_noise_is_walked(head):
    """The power family gives beta_0 = 0: the state at t = 0 holds no noise that could be divided by."""
    x0, y = images(2)
    problem = Problem(y[None], Identity((SIDE, SIDE)), Gaussian(0.1))
    target = x0 if head == "x0" else 2 * y - 1 - x0
    network = Network(lambda x, level, y: target.expand_as(x), head=head)
    for consistent in (False, True):
        sampler = RDDM(n_steps=6, trained_steps=6, beta_power=1.0, data_consistency=consistent)
        steps = run(sampler, problem, network)
        assert network.levels[-1].c == 0
        torch.testing.assert_close(steps[-1].x0[0], (x0 + 1) / 2, rtol=0, atol=FEW)


@pytest.mark.parametrize(
    "settings",
    [
        {"eta": 0.0}, {"eta": 0.5}, {"eta": 1.0}, {"eta": 1.0, "variance": "ddim"},
        {"eta": 1.0, "update": "special_eta_1"}, {"eta": 1.0, "update": "special_eta_0"},
        {"n_steps": 20, "trained_steps": 20},
    ],
)  # fmt: skip
def test_the_chain_keeps_the_marginals_when_the_estimate_is_exact(settings):
    """A_T = 1: the start has the law of I_T, so that every state must have that of its level."""
    items = 300
    x0, y = images(2)
    problem = Problem(((y + 1) / 2).expand(items, SIDE, SIDE), Identity((SIDE, SIDE)))
    network = Network(lambda x, level, y: x0.expand_as(x))
    steps = run(plain(sum_scale=0.5, **settings), problem, network)
    noises = [implied_noise(x[:, 0], x0, y, level)
              for x, level in zip(network.inputs, network.levels, strict=True)]  # fmt: skip
    for n in noises:
        assert abs(float(n.mean())) < 4 / n.numel() ** 0.5
        assert abs(float(n.var()) - 1) < 4 * (2 / n.numel()) ** 0.5
    fixed = settings.get("eta") == 0.0 or settings.get("update") == "special_eta_0"
    same = [float((n - noises[0]).abs().max()) < DOUBLE for n in noises[1:]]
    assert all(same) if fixed else not any(same)
    torch.testing.assert_close(steps[-1].x0[0], (x0 + 1) / 2, rtol=0, atol=FEW)
    assert [s.sigma for s in steps] == [level.c / 2 for level in network.levels]


OPERATORS: dict[str, LinearOperator] = {
    "inpainting": Inpainting(torch.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 == 0, (SIDE, SIDE)),
    "blur": Blur(gaussian(1.0).double(), (SIDE, SIDE), boundary="circular"),
    "superres": Downsample((SIDE, SIDE), 2, like=torch.empty(0, dtype=torch.float64)),
    "mri": MRI,
}


@pytest.mark.parametrize("head", ["x0", "residual+noise", "residual"])
@pytest.mark.parametrize("start", ["degraded", "noise"])
@pytest.mark.parametrize("name", OPERATORS)
def test_data_consistency_gives_the_mean_of_the_joint_posterior(name, start, head):
    """Exact network, exact r_t: each estimate is E[x0 | x_t, b] by dense linear algebra."""
    operator, mu, s, std = OPERATORS[name], 0.4, 0.3, 0.07
    complex_ = operator.is_complex
    b = operator(images(2, complex_=complex_))
    problem = Problem(b, operator, Gaussian(std))
    network = Network(exact(2 * mu - 1, 2 * s, head), head=head)
    sampler = RDDM(prior_std=s, cg_iters=200, eta=0.5, start=start, sum_scale=1.0)
    steps = run(sampler, problem, network)

    one = 1 + 1j if complex_ else 1
    eye = torch.eye(SIDE * SIDE, dtype=b.dtype).reshape(-1, SIDE, SIDE)
    gram = torch.stack([operator.normal(e).flatten() for e in eye], dim=1) / std**2
    back = operator.adjoint(b).flatten(1) / std**2
    mean = torch.full((SIDE * SIDE,), mu, dtype=b.dtype) * one
    y = problem.observed.flatten(1) if start == "degraded" else 0.5 * one
    for step, x, level in zip(steps, network.inputs, network.levels, strict=True):
        c, a = level.c / 2, level.a
        seen = shown(x, 2).flatten(1) - (1 - a) * y
        system = gram + (1 / s**2 + a**2 / c**2) * eye.flatten(1)
        wanted = torch.linalg.solve(system, (mean / s**2 + a * seen / c**2 + back).mT).mT
        torch.testing.assert_close(step.x0.flatten(1), wanted, rtol=0, atol=DOUBLE)


def test_the_state_after_data_consistency_stays_on_its_level():
    """Residual and noise are derived from the corrected estimate: x_s = a x0c + (1 - a) y + c n with the n of x_t."""
    operator = OPERATORS["inpainting"]
    problem = Problem(operator(images(2)), operator, Gaussian(0.05))
    network = Network(lambda x, level, y: 0.3 * x)
    steps = run(RDDM(), problem, network)
    y = 2 * problem.observed - 1
    for k in range(len(steps) - 1):
        x0 = 2 * steps[k].x0 - 1
        n, after = (
            implied_noise(network.inputs[i][:, 0], x0, y, network.levels[i]) for i in (k, k + 1)
        )
        torch.testing.assert_close(after, n, rtol=0, atol=DOUBLE)


def test_consistency_with_unknown_noise_fits_the_data():
    operator = OPERATORS["inpainting"]
    truth = images(2)
    step = run(RDDM(), Problem(operator(truth), operator), Network(lambda x, level, y: 0 * x))[-1]
    seen = operator.mask.bool()
    torch.testing.assert_close(step.x0[..., seen], truth[..., seen], rtol=0, atol=FEW)
    torch.testing.assert_close(
        step.x0[..., ~seen], 0 * truth[..., ~seen] + 0.5, rtol=0, atol=DOUBLE
    )


@pytest.mark.parametrize("clip", ["official", "wide"])
def test_clamps_come_after_data_consistency(clip):
    operator = OPERATORS["inpainting"]
    problem = Problem(operator(5 * images(2)), operator, Gaussian(0.01))
    free = run(RDDM(), problem, Network(lambda x, level, y: 0 * x))[0].x0
    steps = run(RDDM(clip=clip), problem, Network(lambda x, level, y: 0 * x))
    assert float(free.abs().max()) > 2
    torch.testing.assert_close(steps[0].x0, free.clamp(0, 1))


@pytest.mark.parametrize("intensity", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_oracle_recovers_the_truth(name, intensity):
    operator = OPERATORS[name]
    truth = 3 * images(2, complex_=operator.is_complex)
    parts = torch.cat([truth.real, truth.imag]) if operator.is_complex else truth
    low, high = intensity
    network = Network(
        lambda x, level, y: (parts * (high - low) + low)[:, None], intensity=intensity
    )
    steps = run(RDDM(eta=0.3), Problem(operator(truth), operator, Gaussian(0.05)), network)
    torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=SEVERAL)
    assert [(s.i, s.n, s.evaluations) for s in steps] == [(k, 5, k + 1) for k in range(5)]


def test_colour_images_keep_their_channels_apart():
    truth = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    network = Network(lambda x, level, y: 2 * truth - 1, channels=3)
    steps = run(RDDM(), Problem(truth, Identity((3, SIDE, SIDE)), Gaussian(0.1)), network)
    torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=SEVERAL)


@pytest.mark.parametrize("settings", [{}, {"eta": 1.0}, {"n_steps": 6, "trained_steps": 6}])
def test_a_batch_gives_what_its_items_give(settings):
    operator = OPERATORS["blur"]
    b = operator(images(3))
    sampler, network = RDDM(**settings), Network(exact(0.1, 0.6))
    whole = run(sampler, Problem(b, operator, Gaussian(0.1)), network)[-1].x0
    for k in range(3):
        alone = Problem(b[k : k + 1], operator, Gaussian(0.1), ids=(str(k),))
        torch.testing.assert_close(
            run(sampler, alone, network)[-1].x0[0], whole[k], rtol=0, atol=SEVERAL
        )


def test_a_scaled_measurement_gives_the_scaled_image():
    b = MRI(images(2, complex_=True))
    network = Network(exact(0.1, 0.6))
    one = restore.solve(b, MRI, noise=0.05, prior=network, sampler=RDDM()).image
    many = restore.solve(1e4 * b, MRI, noise=500.0, prior=network, sampler=RDDM()).image
    torch.testing.assert_close(many / 1e4, one, rtol=SEVERAL, atol=SEVERAL)


@pytest.mark.parametrize("spoiled", [0, 1])
def test_what_is_not_finite_stops_the_run_at_its_step(spoiled):
    """Estimate or noise; the second shows in the next state."""
    calls: list[int] = []

    def answer(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        out = [0 * x, 0 * x]
        if len(calls) == 3:
            out[spoiled] = out[spoiled] * torch.nan
        return tuple(out)

    problem = Problem(images(2), Identity((SIDE, SIDE)))
    with pytest.raises(DivergenceError, match="step 3 of 5"):
        run(plain(), problem, Network(answer, head="x0+noise"))


def test_a_noise_head_needs_a_level_with_an_image():
    problem = Problem(images(2), Identity((SIDE, SIDE)), Gaussian(0.1))
    network = Network(exact(0.2, 0.7, "noise"), head="noise", name="mine")
    for settings in ({}, {"clip": "wide"}, {"clip": "official", "data_consistency": True}):
        with pytest.raises(ConfigError, match=r"'mine'.*start_time=899"):
            run(plain(**settings), problem, network)
    assert not network.inputs  # refused before the first call
    steps = run(plain(start_time=899, eta=0.2), problem, network)
    first = network.levels[0]
    assert (len(steps), first.t) == (5, 899)
    assert first.c == pytest.approx((0.01 * 900 * 901 / 1000 / 1001) ** 0.5)
    start = Draws(0, problem.ids).normal_like(problem.y, 2)
    torch.testing.assert_close(network.inputs[0][:, 0], 2 * problem.y - 1 + first.c * start)
    clipped = run(plain(clip="official"), problem, Network(lambda x, level, y: 0 * x, head="noise"))
    assert float((2 * clipped[0].x0 - 1).abs().min()) == 1  # a rounding error over 1e-6: signs


def test_a_chain_without_a_degraded_image_ignores_the_measurement():
    results = []
    for y in (images(2), images(2, seed=9)):
        network = Network(exact(0.1, 0.5))
        sampler = RDDM.configured("published-generation", Identity, {"clip": "none"})
        results.append(run(sampler, Problem(y, Identity((SIDE, SIDE))), network)[-1].x0)
        assert len(network.inputs) == 10
    assert torch.equal(*results)


@pytest.mark.parametrize(("preset", "calls"), [("published", 5), ("published-sequential", 20)])
def test_cost_is_what_is_said(preset, calls):
    sampler = RDDM.configured(preset, Identity, {})
    steps = run(sampler, Problem(images(1), Identity((SIDE, SIDE))), Network(exact(0.1, 0.5)))
    assert sampler.cost() == calls == steps[-1].evaluations


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 11, "trained_steps": 10}, "n_steps"),
        ({"start_time": 1000}, "start_time"),
        ({"start_time": 3}, "n_steps"),
        ({"start_time": -1}, "start_time"),
        ({"eta": 1.5}, "eta"),
        ({"sum_scale": 2.0}, "sum_scale"),
        ({"prior_std": 0.0}, "prior_std"),
        ({"cg_iters": 0}, "cg_iters"),
        ({"sequential": True}, "data_consistency=False"),
        ({"sequential": True, "data_consistency": False, "update": "use_x_start"}, "one at a time"),
        ({"beta": "ddpm"}, "sum_scale=1"),
    ],
)
def test_what_cannot_run_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        RDDM(**settings)


def test_pairs_that_cannot_work_are_refused():
    problem = Problem(images(1), Identity((SIDE, SIDE)))
    with pytest.raises(ConfigError, match="use the sampler resshift"):
        prior_for(Network(exact(0.0, 1.0), bridge="resshift"), RDDM(), problem)
    with pytest.raises(ConfigError, match="'velocity'"):
        prior_for(Network(exact(0.0, 1.0), head="velocity"), RDDM(), problem)
    complex_ = Problem(MRI(images(1, complex_=True)), MRI)
    with pytest.raises(ConfigError, match="no range to clip"):
        run(RDDM(clip="official"), complex_, Network(exact(0.0, 1.0)))
