"""Particles on mixtures of Gaussians, whose posterior is known: the weights of the modes, which single chains miss.

And on one Gaussian, where inner sampler, potential and rounds of Gibbs may all be what they like.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianMixture
from restore.priors.base import Denoiser
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.registry import load_sampler
from restore.samplers.base import Sampler
from restore.samplers.particles import Particles

SHARE = 0.05  # asked of the weights: four runs of 800 particles are uncertain by 0.02, 200 levels biased by 0.01
MISSED = (
    0.05  # what single chains miss at least; 0.1 and more seen, of 300 draws, uncertain by 0.03
)
MEAN = 0.1  # of the distance of the modes: 2000 particles and 40 levels
COMPANY = 1e-7  # float64: sums of a batch in another order over 15 levels; 1e-15 seen
SPREAD = 0.2  # of 150 draws of 6 and 10 pixels: uncertain by 5 and 4 %, and 16 particles are few
SIDE, SEEN = 4, 6


@dataclasses.dataclass(frozen=True, eq=False)
class Modes:
    """Two modes of which six of sixteen pixels are measured, half-way between their means."""

    prior: GaussianMixture
    operator: Inpainting
    y: Tensor
    std: float
    means: Tensor
    weights: Tensor

    @classmethod
    def of(cls, weights: tuple[float, float], variances: tuple[float, float], std: float) -> Modes:
        """The posterior, mode by mode: a Gaussian with its evidence."""
        g, square = torch.Generator().manual_seed(0), (SIDE, SIDE)
        level = torch.tensor([0.2, 0.8], dtype=torch.float64).reshape(2, 1, 1)
        m = level + 0.1 * torch.randn(2, *square, generator=g, dtype=torch.float64)
        v, w = torch.tensor(variances).double(), torch.tensor(weights).double()
        mask = torch.zeros(SIDE * SIDE, dtype=torch.float64)
        mask[:SEEN] = 1
        mask = mask.reshape(square)
        y = mask * m.mean(0)
        total = v + std**2
        evidence = w.log() - ((y - m) * mask).square().sum((1, 2)) / (2 * total)
        share = torch.softmax(evidence - SEEN / 2 * total.log(), 0)
        found = m + (v / total).reshape(2, 1, 1) * mask * (y - m)
        return cls(GaussianMixture(m, v, w), Inpainting(mask, square), y, std, found, share)

    def run(self, sampler: Sampler, items: int) -> list[Step]:
        problem = Problem(self.y.expand(items, SIDE, SIDE), self.operator, Gaussian(self.std))
        with torch.no_grad():
            prior = prior_for(self.prior, sampler, problem)
            return list(sampler.steps(problem, prior, Draws(0, problem.ids)))

    def along(self, x: Tensor) -> Tensor:
        """Where images lie between the two posterior modes: 0 the first, 1 the second."""
        d = self.means[1] - self.means[0]
        return ((x - self.means[0]) * d).sum((-2, -1)) / d.square().sum()


CASES = {
    "likely": Modes.of((0.8, 0.2), (0.02, 0.04), 0.2),
    "turned": Modes.of((0.8, 0.2), (0.02, 0.04), 0.1),  # what is measured favours the rare one
}
CHAINS = {
    "dds": ("posterior", {"n_steps": 60}),
    "split": ("posterior-analytic", {"covariance": "level"}),
    "pigdm": (
        "tuned", {"n_steps": 60, "start": "noise", "sigma_start": 20.0, "noise_rule": "ddim", "turns": False},
    ),
}  # fmt: skip


def posterior(**settings) -> Particles:
    return Particles.configured("posterior", CASES["likely"].operator, settings)


@pytest.mark.parametrize("name", CASES)
def test_the_modes_have_their_weights(name):
    case = CASES[name]
    steps = case.run(posterior(particles=800, n_steps=200, prior_std=0.3, result="mean"), 4)
    share = float(case.along(steps[-1].x0).mean())
    assert share == pytest.approx(float(case.weights[1]), abs=SHARE)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chain", CHAINS)
def test_single_chains_miss_them(name, chain):
    case, (preset, settings) = CASES[name], CHAINS[chain]
    sampler = load_sampler(chain).configured(preset, case.operator, settings)
    x = case.run(sampler, 200)[-1].x0
    share = float((case.along(x) > 0.5).double().mean())
    assert abs(share - float(case.weights[1])) > MISSED


def test_draws_are_spread_over_the_modes_by_weight():
    case = CASES["likely"]
    x = case.run(posterior(particles=32, inner="prior", n_steps=60), 300)[-1].x0
    share = float((case.along(x) > 0.5).double().mean())
    assert share == pytest.approx(float(case.weights[1]), abs=2 * SHARE)  # 300 draws: 0.026


# --- on one Gaussian

ONE = Modes.of((1.0, 1e-30), (0.04, 0.04), 0.1)
WIDE = {"prior_std": 0.2}


def chain_variance(sampler: Particles, prior: float) -> float:
    """Of the result where nothing is measured: each ancestral step is a linear map with noise of the variance s'^2 k^2.

    Below the prior's, the more so the fewer levels.
    """
    levels = sampler.levels()
    variance = levels[0].sigma ** 2
    for level in levels:
        s, after = level.sigma, level.next
        gain = prior / (prior + s**2)
        fresh = 1 - (after / s) ** 2
        kept = after * (1 - fresh) ** 0.5 / s
        variance = ((1 - kept) * gain + kept) ** 2 * variance + after**2 * fresh
    return variance


@pytest.mark.parametrize(
    "settings",
    [
        {"inner": "prior", "potential": "tweedie"},
        {"inner": "dds", "inner_preset": "posterior"},
        {"inner": "exact", "resample": 1.0},
        {"inner": "prior", "gibbs": 1},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_mean_and_spread_whatever_the_steps(settings):
    few = {"n_steps": 40, "langevin_steps": 8}
    sampler = posterior(particles=1000, result="mean", **few, **WIDE, **settings)
    found = ONE.run(sampler, 2)[-1]
    unit = float((ONE.means[0] - ONE.means[1]).norm())
    assert float((found.x0.mean(0) - ONE.means[0]).norm()) < MEAN * unit
    draws = ONE.run(dataclasses.replace(sampler, particles=16, result="draw"), 150)[-1].x0
    seen = ONE.operator.mask > 0
    # Rounds of Gibbs know the variance of the estimate, and need no small steps.
    prior = 0.04 if sampler.gibbs else chain_variance(sampler, 0.04)
    assert float(draws[:, ~seen].var(0).mean()) == pytest.approx(prior, rel=SPREAD)
    wanted = 1 / (1 / prior + 1 / ONE.std**2)
    assert float(draws[:, seen].var(0).mean()) == pytest.approx(wanted, rel=SPREAD)


# --- one seed, the log, and what is refused


def test_resampling_does_not_depend_on_company():
    case = CASES["likely"]
    y = torch.stack([case.y, 0.5 * case.y, case.y])
    sampler = posterior(particles=12, n_steps=15, gibbs=1, langevin_steps=3)

    def run(items: list[int]) -> Step:
        names = tuple(str(k) for k in items)
        problem = Problem(y[items], case.operator, Gaussian(case.std), ids=names)
        with torch.no_grad():
            prior = prior_for(case.prior, sampler, problem)
            steps = list(sampler.steps(problem, prior, Draws(3, names)))
        assert sum(step.info["resampled"] for step in steps[:-1]) > 0
        return steps[-1]

    whole, alone = run([0, 1, 2]), run([2])
    assert not torch.equal(whole.x0[0], whole.x0[2])  # the same measurement, another generator
    torch.testing.assert_close(alone.x0[0], whole.x0[2], rtol=0, atol=COMPANY)
    weights = torch.tensor([alone.info["weights"][0], whole.info["weights"][2]])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=COMPANY)


def test_complex_images_too():
    """An oracle ends at the truth whatever was weighed: k-space, the ratio, the rounds."""
    g = torch.Generator().manual_seed(1)
    truth = torch.randn(2, 8, 8, generator=g, dtype=torch.complex128)
    operator = MultiCoilMRI.single_coil(torch.arange(8) % 2 == 0, (8, 8))
    problem = Problem(operator(truth), operator, Gaussian(0.1))
    sampler = posterior(particles=3, n_steps=4, gibbs=1, langevin_steps=2, inner="dds")

    class Oracle(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            parts = torch.stack([truth.real, truth.imag])
            return parts[:, None].expand(2, 3, 2, 8, 8).reshape(x.shape).to(x)

    with torch.no_grad():
        prior = prior_for(Oracle(), sampler, problem)
        steps = list(sampler.steps(problem, prior, Draws(0, problem.ids)))
    torch.testing.assert_close(steps[-1].x0, truth, rtol=0, atol=COMPANY)
    assert steps[-1].evaluations == sampler.cost(problem) == 3 * (4 + 3)


def test_the_log_has_effective_sizes_and_weights():
    case = CASES["likely"]
    y = case.y.expand(2, SIDE, SIDE)
    found = solve(
        y, case.operator, noise=case.std, prior=case.prior, sampler="particles", preset="posterior",
        particles=16, n_steps=20,
    )  # fmt: skip
    sizes = [record["ess"] for record in found.log]
    assert all(1 <= size <= 16 for size in sizes)
    assert sum(record["resampled"] for record in found.log[:-1]) > 0
    weights = torch.tensor(found.log[-1]["weights"], dtype=torch.float64)
    assert weights.shape == (2, 16)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert float(1 / weights.square().sum(1).max()) == pytest.approx(sizes[-1])
    assert found.ends[0]["evaluations"] == 16 * 20


def test_several_samples_are_drawn_and_not_averaged():
    case = CASES["likely"]
    found = solve(
        case.y, case.operator, noise=case.std, prior=case.prior, sampler="particles", samples=2, particles=2, n_steps=3,
    )  # fmt: skip
    assert found.provenance["settings"]["result"] == "draw"
    assert any("drawn by weight" in note for note in found.notes)


def test_a_preset_that_the_inner_sampler_lacks_is_refused():
    with pytest.raises(ConfigError, match="DDS: no preset 'tunde', did you mean 'tuned'"):
        Particles(inner_preset="tunde")


def test_gradients_are_asked_of_a_prior_only_where_the_inner_sampler_follows_them():
    assert Particles(inner="pigdm").gradients
    assert not Particles(inner="dds").gradients

    class Plain(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return torch.from_numpy(0.5 * x.detach().numpy())

    case = CASES["likely"]
    y = case.y.float()
    solve(y, case.operator, noise=0.1, prior=Plain(), sampler=Particles(particles=2, n_steps=2))
    with pytest.raises(ConfigError, match="gradient"):
        solve(
            y, case.operator, noise=0.1, prior=Plain(),
            sampler=Particles(particles=2, n_steps=2, inner="pigdm"),
        )  # fmt: skip
