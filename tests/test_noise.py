"""Noise models: what they draw has the precision they state."""

from __future__ import annotations

import math

import pytest
import torch

from restore.errors import ConfigError
from restore.noise import EdgeError, Exact, Gaussian, PostLogPoisson, PreLogPoisson

SAMPLED = 0.02  # a deviation over 40,000 draws is 0.35 % uncertain
MEAN = 5e-3  # logarithms of 1,800 counts and more are 3e-4 biased
VARIANCE = 0.03  # a variance over 40,000 draws is 0.7 % uncertain


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_gaussian_std_is_per_real_channel():
    noise = Gaussian(0.3)
    real = noise.sample(torch.full((40000,), 5.0), seeded()) - 5
    assert float(real.std()) == pytest.approx(0.3, rel=SAMPLED)
    n = noise.sample(torch.full((40000,), 5.0 + 1j), seeded()) - (5 + 1j)
    assert float(n.real.std()) == pytest.approx(0.3, rel=SAMPLED)
    assert float(n.imag.std()) == pytest.approx(0.3, rel=SAMPLED)
    assert noise.precision(real) == pytest.approx(1 / 0.09)


def test_gaussian_std_may_differ_per_slice_and_precision_is_kept():
    std = torch.tensor([0.1, 2.0]).double()[:, None]
    y = Gaussian(std).sample(torch.zeros(2, 40000, dtype=torch.float64), seeded())
    assert y.dtype == torch.float64
    torch.testing.assert_close(y.std(1), std[:, 0], rtol=SAMPLED, atol=0)
    assert torch.equal(torch.as_tensor(Gaussian(std).precision(y)), 1 / std**2)


@pytest.mark.parametrize("std", [0, -1.0, math.nan, torch.tensor([1.0, 0.0])])
def test_gaussian_std_must_be_positive(std):
    with pytest.raises(ConfigError, match="noise=0 says"):
        Gaussian(std)


@pytest.mark.parametrize("line", [0.0, 1.5, 4.0])
def test_post_log_precision_is_the_inverse_variance(line):
    noise = PostLogPoisson(1e5)
    clean = torch.full((40000,), line, dtype=torch.float64)
    y = noise.sample(clean, seeded())
    assert float(y.mean()) == pytest.approx(line, abs=MEAN)
    assert float(noise.precision(clean)[0] * y.var()) == pytest.approx(1, rel=VARIANCE)


def test_dead_rays_stay_finite():
    noise = PostLogPoisson(10.0)
    y = noise.sample(torch.full((100,), 30.0), seeded())
    assert bool(torch.isfinite(y).all())
    assert float(y.max()) == pytest.approx(math.log(20))


@pytest.mark.parametrize("photons", [0, -5, math.nan])
def test_photons_must_be_positive(photons):
    with pytest.raises(ConfigError, match="photons"):
        PostLogPoisson(photons)


def test_an_edge_that_lies_beside_its_place_adds_the_error_it_makes():
    slope, bins = 4.0, 0.05
    ramp = slope * torch.arange(6, dtype=torch.float64)
    error = ramp - slope * (torch.arange(6, dtype=torch.float64) - bins)
    for noise in (Gaussian(0.3), PostLogPoisson(1e5)):
        summed = 1 / (1 / torch.as_tensor(noise.precision(ramp)) + error**2)
        torch.testing.assert_close(EdgeError(noise, bins).precision(ramp), summed)
    step = torch.tensor([0.0, 0.0, 1.0, 1.0, math.nan], dtype=torch.float64)
    beside, plain = EdgeError(Gaussian(1.0), 1.0).precision(step), torch.ones(5).double()
    # One of two neighbours differs by 1: a variance of 1/2 more; what was not measured is no edge.
    plain[1:3] = 1 / 1.5
    torch.testing.assert_close(beside, plain)


def test_an_edge_error_changes_neither_draws_nor_what_is_exact():
    clean = torch.linspace(0, 3, 9)
    noise = PostLogPoisson(50.0)
    assert torch.equal(EdgeError(noise, 0.1).sample(clean, seeded()), noise.sample(clean, seeded()))
    assert EdgeError(Exact(), 0.1).precision(clean) is None
    with pytest.raises(ConfigError, match="bins"):
        EdgeError(noise, 0.0)


def test_counts():
    counts = PreLogPoisson().sample(torch.full((40000,), 50.0), seeded())
    assert float(counts.var()) == pytest.approx(50, rel=VARIANCE)
    assert torch.equal(counts, counts.round())
    assert PreLogPoisson().precision(torch.tensor([0.0, 4.0])).tolist() == [1.0, 0.25]


@pytest.mark.parametrize("noise", [Gaussian(1.0), PostLogPoisson(100.0), PreLogPoisson()])
def test_draws_repeat_and_use_the_given_generator_only(noise):
    clean, state = torch.ones(50), torch.random.get_rng_state()
    assert torch.equal(noise.sample(clean, seeded()), noise.sample(clean, seeded()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(clean, torch.ones(50))
