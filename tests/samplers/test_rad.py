"""RAD on Gaussian priors, where linear algebra says what the missing pixels are given the known ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore import solve
from restore.errors import ConfigError
from restore.front_door import prior_for
from restore.noise import Exact, Gaussian
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.priors.analytic import GaussianPrior, RegionGaussian
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.rad import RAD

SIDE = 4
PIXELS = SIDE**2
DISCRETE, EXTRAPOLATED = 0.3, 0.1
"""What 100 steps leave of mean and covariance, in units of the posterior's deviation, and what is left of that where
the first order in 1 / steps is taken away by 50 and 100 of them: bars on the discretisation, not on rounding; 0.17
and 0.045 seen."""
FIRST = 1e-3  # what noise of 1000 tells of a missing pixel: its variance of 0.04, by 1000^2, of some 1000; 8e-5 seen
ROUNDED = 1e-12  # float64: 80 steps of sums over 16 pixels in batches of another order; 1e-15 seen


def covariance() -> Tensor:
    """Neighbours alike: 0.04 exp(-d / 1.5)."""
    at = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    return 0.04 * torch.exp(-torch.cdist(at, at) / 1.5)


def prior() -> RegionGaussian:
    return RegionGaussian(
        torch.linspace(0.3, 0.7, SIDE**2).double().reshape(SIDE, SIDE), covariance()
    )


def box() -> Tensor:
    mask = torch.ones(SIDE, SIDE, dtype=torch.float64)
    mask[1:3, 1:4] = 0
    return mask


def posterior(y: Tensor, mask: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (n,) and covariance (n, n) of x0 given the known pixels with noise of std, by Gauss."""
    mean, c, known = prior().mean.flatten(), covariance(), mask.flatten() > 0
    seen = c[known][:, known] + torch.diag(std.expand_as(mask).flatten()[known] ** 2)
    gain = torch.linalg.solve(seen, c[known]).T
    return mean + gain @ (y.flatten() - mean)[known], c - gain @ c[known]


class Impulses:
    """Draws of which item 0 has none, and every other one a single one: which, of which step and pixel, it counts."""

    def __init__(self) -> None:
        self.calls = 0

    def normal_like(self, like: Tensor, item_ndim: int) -> Tensor:
        noise = torch.zeros_like(like).flatten(1)
        first = 1 + self.calls * PIXELS
        noise[first : first + PIXELS] = torch.eye(PIXELS, dtype=noise.dtype)
        self.calls += 1
        return noise.reshape(like.shape)


def law(chain: RAD, y: Tensor, mask: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the chain's results, exactly: on a Gaussian prior they are linear in what is drawn."""
    items = 1 + chain.n_steps * PIXELS
    noise = Gaussian(std.expand(items, -1, -1)) if bool((std > 0).all()) else Exact()
    problem = Problem(y.expand(items, -1, -1), Inpainting(mask, (SIDE, SIDE)), noise)
    images = prior_for(prior(), chain, problem)
    found = list(chain.steps(problem, images, Impulses()))[-1].x0.flatten(1)
    columns = found[1:] - found[0]
    return found[0], columns.T @ columns


def levels_of(noise: float | str) -> Tensor:
    if noise == "by pixel":
        g = torch.Generator().manual_seed(2)
        return 0.01 + 0.3 * torch.rand(SIDE, SIDE, generator=g, dtype=torch.float64)
    return torch.full((SIDE, SIDE), noise, dtype=torch.float64)


@pytest.mark.parametrize("noise", [0.0, 0.1, "by pixel"])
def test_results_have_the_law_of_the_posterior(noise):
    mask, std, g = box(), levels_of(noise), torch.Generator().manual_seed(1)
    y = torch.rand(SIDE, SIDE, generator=g, dtype=torch.float64) * mask
    mean, c = posterior(y, mask, std)
    unsure = c.diagonal() > 1e-12
    deviation = c.diagonal()[unsure].sqrt()
    off, wrong = [], []
    for count in (50, 100):
        chain = RAD(
            n_steps=count,
            sigma_start=5.0,
            sigma_end=0.003,
            sigma_first=0,
            noise_rule="ddim",
            end_at_noise=False,
            turns=False,
        )
        centre, spread = law(chain, y, mask, std)
        assert torch.equal(centre[~unsure], y.flatten()[~unsure])
        off.append((centre - mean)[unsure] / deviation)
        wrong.append((spread - c)[unsure][:, unsure] / torch.outer(deviation, deviation))
    for errors in (off, wrong):
        assert float(errors[1].abs().max()) < DISCRETE
        assert float((2 * errors[1] - errors[0]).abs().max()) < EXTRAPOLATED


def problem_of(operator: Inpainting, noise: float = 0.0, seed: int = 3) -> Problem:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(operator.in_shape, generator=g, dtype=torch.float64)
    return Problem(operator(x), operator, Gaussian(noise) if noise else Exact())


def test_one_step_is_the_mean_of_the_missing_given_the_known():
    mask = box()
    problem = problem_of(Inpainting(mask, (SIDE, SIDE)), 0.1)
    mean, _ = posterior(problem.y, mask, torch.full((SIDE, SIDE), 0.1, dtype=torch.float64))
    chain = RAD(n_steps=1, turns=False)
    [step] = chain.steps(problem, prior_for(prior(), chain, problem), Draws(0, problem.ids))
    torch.testing.assert_close(step.x0.flatten(), mean, rtol=0, atol=FIRST)


class Listening(RegionGaussian):
    """Keeps the levels that it hears."""

    def __init__(self) -> None:
        super().__init__(torch.full((SIDE, SIDE), 0.5).double(), covariance())
        self.heard: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        assert isinstance(sigma, Tensor)
        self.heard.append(sigma[0, 0])
        return super().__call__(x, sigma)


def test_known_pixels_wait_at_their_own_noise_until_the_others_come():
    mask, model = box(), Listening()
    result = solve(
        0.5 * mask, Inpainting(mask, (SIDE, SIDE)), noise=0.1, prior=model, sampler="rad", n_steps=6, sigma_start=2.0,
        turns=False, end_at_noise=False,
    )  # fmt: skip
    chain = [level.sigma for level in RAD(n_steps=6, sigma_start=2.0).levels()]
    for sigma, heard in zip(chain, model.heard, strict=True):
        wanted = torch.where(mask > 0, min(sigma, 0.1), sigma).double()
        torch.testing.assert_close(
            heard, wanted, rtol=1e-6, atol=0
        )  # the noise in single precision
    assert result.ends[0]["evaluations"] == 6


def test_no_chain_begins_below_the_noise_of_what_is_known():
    problem = problem_of(Inpainting(box(), (SIDE, SIDE)), 0.5)
    down = RAD(sigma_start=0.2, sigma_first=0, end_at_noise=False).noise_range(problem)
    assert down == pytest.approx((0.005, 0.5), rel=1e-6)
    assert RAD(sigma_start=0.2, sigma_first=0).noise_range(problem) == pytest.approx(
        (0.5, 0.5), rel=1e-6
    )
    assert RAD(sigma_start=2.0, sigma_first=0).noise_range(problem) == pytest.approx(
        (0.5, 2.0), rel=1e-6
    )


def test_the_first_answer_is_to_the_known_pixels_alone():
    heard = [level.sigma for level in RAD(n_steps=4, sigma_first=20.0, sigma_start=0.3).levels()]
    below = RAD(n_steps=3, sigma_first=0, sigma_start=0.3).levels()
    assert heard == [20.0, *(level.sigma for level in below)]
    assert [level.sigma for level in RAD(n_steps=1).levels()] == [1000.0]
    assert len(RAD(n_steps=4, sigma_first=0.1).levels()) == 4


def test_a_pixel_that_is_known_exactly_stays_to_the_bit_and_draws_nothing():
    problem = problem_of(Inpainting(box(), (SIDE, SIDE)))
    found = solve(
        problem.y, problem.operator, noise=0, prior=prior(), sampler="rad", samples=2, n_steps=4
    )
    assert found.samples is not None
    known = box() > 0
    assert torch.equal(found.samples[:, known], problem.y[known].expand(2, -1))
    assert not torch.allclose(found.samples[0, ~known], found.samples[1, ~known], rtol=0, atol=1e-3)


def test_without_fresh_noise_the_chain_is_its_start_alone():
    mask = box()
    problem = problem_of(Inpainting(mask, (SIDE, SIDE)))
    chain = RAD(n_steps=80, eta=0.0, sigma_start=5.0, turns=False)
    draws = Impulses()
    items = 1 + PIXELS * chain.n_steps
    many = Problem(problem.y.expand(items, -1, -1), problem.operator, Exact())
    *_, last = chain.steps(many, prior_for(prior(), chain, many), draws)
    later = last.x0.flatten(1)[1 + PIXELS :]
    alone = last.x0.flatten(1)[:1].expand_as(later)
    torch.testing.assert_close(later, alone, rtol=0, atol=ROUNDED)


@pytest.mark.parametrize(
    ("operator", "model", "said"),
    [
        (Identity((SIDE, SIDE)), prior(), "rad serves inpainting with pixels as they are, not Identity"),
        (Blur(gaussian(1.0), (8, 8)), prior(), "not Blur"),
        (
            Inpainting(torch.eye(SIDE), (SIDE, SIDE)), GaussianPrior(torch.zeros(SIDE, SIDE), spectrum=1.0),
            "rad needs a region prior, and 'gaussian' is a denoiser one",
        ),
        (Inpainting(torch.eye(8), (8, 8)), "medical", "rad needs a region prior, and 'medical' is a denoiser one"),
        (Inpainting(torch.eye(8), (8, 8)), "auto", "no bundled one serves Inpainting"),
    ],
)  # fmt: skip
def test_what_it_cannot_serve_is_refused_in_a_sentence(operator, model, said):
    with pytest.raises(ConfigError, match=said):
        solve(torch.ones(operator.out_shape), operator, noise=0.1, prior=model, sampler="rad")


def test_a_region_prior_is_not_given_to_samplers_of_denoisers():
    with pytest.raises(
        ConfigError, match="dds needs a denoiser prior, and 'region gaussian' is a region one"
    ):
        solve(
            torch.ones(SIDE, SIDE), Identity((SIDE, SIDE)), noise=0.1, prior=prior(), sampler="dds"
        )
