"""Draws from a prior alone: mean and covariance of exact priors, the same bits in any company, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.pipelines.prior_draws import draw_from
from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.conditional import FromFunction
from restore.priors.traits import card_traits, model_traits
from restore.randomness import Draws
from restore.samplers.toolbox.levels import karras


class PerPixel(Denoiser):
    """A mixture that every pixel is drawn from by itself: one picture is many draws."""

    foreign, name = False, "per pixel"

    def __init__(
        self, means: tuple[float, ...], variance: float, weights: tuple[float, ...]
    ) -> None:
        centres = torch.tensor(means)[:, None, None]
        spread = torch.full((len(means),), variance)
        self.inner = GaussianMixture(centres, spread, torch.tensor(weights))

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.inner(x.reshape(-1, 1, 1, 1), sigma).reshape(x.shape)


def test_draws_of_a_gaussian_have_its_mean_and_covariance() -> None:
    """By frequency: the power of the draw over the spectrum, whose blocks of 16 x 16 frequencies have one mean."""
    frequency = torch.fft.fftfreq(64)
    spectrum = 0.1 / (1 + 400 * (frequency[:, None] ** 2 + frequency**2))
    mean = torch.linspace(0.2, 0.8, 64).expand(1, 64, 64)
    found = draw_from(GaussianPrior(mean, spectrum=spectrum), count=1, size=(64, 64))
    power = torch.fft.fft2(found.images[0, 0] - mean[0]).abs().square() / (64**2 * spectrum)
    blocks = power.reshape(4, 16, 4, 16).mean((1, 3))
    # 128 independent powers a block: deviation 0.09, five of them; the ODE's steps lose 1 % of a variance
    assert float((blocks - 1).abs().max()) < 0.45
    assert float(power.mean()) == pytest.approx(1, abs=0.11)  # 2048 of them: 0.022
    # The mean's own frequencies are seen against a deviation of 0.3, of which it is 0.02 at most
    assert float(power[0, :3].max()) < 16  # of three exponential numbers, 3e-7 of cases
    assert found.record["evaluations"] == 40
    assert found.notes == ()


def test_what_the_steps_lose_of_a_variance() -> None:
    """For a Gaussian a draw is the start noise times a gain: of DDIM in closed form, of the usual solver near the exact
    one, which is the root of the variance."""
    prior, c = GaussianPrior(torch.zeros(1, 8, 8), spectrum=0.04), 0.04
    for n, lost in ((50, 0.11), (100, 0.06)):
        levels = karras(n, 40.0, 0.005)
        gain = levels[0]
        for s, after in zip(levels, [*levels[1:], 0.0], strict=True):
            gain *= (c + s * after) / (c + s**2)
        slow = {"n_steps": n, "solver": "ddim"}
        image = draw_from(prior, count=1, size=(8, 8), settings=slow).images[0, 0]
        start = Draws(0, ["sample 0/0"]).normal_like(torch.empty(1, 1, 8, 8), 3)[0, 0]
        # 100 steps in float32, each rounded to 6e-8 of its largest number, 40 times less at the start than its state
        torch.testing.assert_close(image, gain * start, rtol=1e-3, atol=1e-5)
        assert 1 - gain**2 / c == pytest.approx(lost, abs=0.01)  # digits of the table
    usual = draw_from(prior, count=1, size=(8, 8)).images[0, 0]
    # 40 steps of order 3 lose 0.28 % of the variance, 0.14 % of the draw
    torch.testing.assert_close(usual, c**0.5 * start, rtol=5e-3, atol=1e-5)


def test_modes_of_a_mixture_come_as_often_as_they_weigh() -> None:
    prior = PerPixel((0.2, 0.8), 0.001, (0.3, 0.7))
    image = draw_from(prior, count=1, size=(64, 64)).images.flatten()
    high = image > 0.5
    # 4096 draws: a share of deviation 0.0072, five of them
    assert float(high.double().mean()) == pytest.approx(0.7, abs=0.036)
    # within a mode: its mean, of deviation 0.032 / sqrt(1200), five of them and what few pixels between the modes do
    assert float(image[~high].mean()) == pytest.approx(0.2, abs=0.01)
    assert float(image[high].mean()) == pytest.approx(0.8, abs=0.01)
    assert float(image[high].var()) == pytest.approx(0.001, rel=0.2)  # 2800 of them: 0.027


def test_a_draw_is_the_same_to_the_bit_whatever_the_count() -> None:
    few, more = (
        draw_from("medical", count=n, size=(16, 24), seed=3, settings={"n_steps": 3}).images
        for n in (1, 3)
    )
    assert torch.equal(few[0], more[0])
    assert not torch.equal(more[0], more[1])
    other = draw_from("medical", count=1, size=(16, 24), seed=4, settings={"n_steps": 3}).images
    assert not torch.equal(few, other)


def test_codes_are_drawn_and_decoded() -> None:
    found = draw_from("natural-latent", count=1, size=(16, 16), settings={"n_steps": 2})
    assert tuple(found.images.shape) == (1, 3, 16, 16)
    assert found.record["sampler"] == "stsl"


def test_priors_that_cannot_are_refused() -> None:
    with pytest.raises(ConfigError, match="trained to answer where pixels are known"):
        draw_from("natural-rad")
    with pytest.raises(ConfigError, match="knows pictures only beside a degraded one"):
        draw_from("natural-restore")
    with pytest.raises(ConfigError, match="knows pictures only beside a degraded one"):
        draw_from(FromFunction(lambda x, level, y: (x,), name="mine"))
    little = GaussianPrior(torch.zeros(1, 2, 2), spectrum=0.04)
    little.sigma_max = 0.2
    with pytest.raises(ConfigError, match=r"knows noise up to 0\.2, and a draw begins"):
        draw_from(little, size=(2, 2))
    assert model_traits(little).sigma_range[1] == 0.2
    assert card_traits("natural").sigma_range[1] > 10


def test_impossible_requests_are_refused() -> None:
    prior = GaussianPrior(torch.zeros(1, 2, 2), spectrum=0.04)
    with pytest.raises(ConfigError, match="count must be"):
        draw_from(prior, count=0)
    with pytest.raises(ConfigError, match="size must be"):
        draw_from(prior, size=(0, 3))
    with pytest.raises(ConfigError, match="no setting 'steps'"):
        draw_from(prior, size=(2, 2), settings={"steps": 3})
