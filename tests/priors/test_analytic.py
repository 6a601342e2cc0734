"""The analytic priors against stored closed forms, against each other and against their own samples."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.priors.analytic import GaussianMixture, GaussianPrior

DOUBLE = 1e-8  # float64: transforms and products of 256 pixels; 1e-12 seen
MOMENTS = 0.03  # means over 20,000 samples of deviation 0.7 at most are 5e-3 uncertain
POWER = 0.06  # a power over 20,000 samples is 1 % uncertain, and 36 of them are looked at


@pytest.mark.parametrize("form", ["spectrum", "covariance"])
@pytest.mark.parametrize("case", ["inpaint", "sr2"])
def test_gaussian_matches_stored_posterior_means(arrays, form, case):
    p = arrays("gaussian_posterior/prior")
    op = arrays(f"gaussian_posterior/op_{case}")
    given = {"spectrum": p["S"]} if form == "spectrum" else {"covariance": p["C"]}
    prior = GaussianPrior(p["mean"].reshape(16, 16), **given)
    a = p["alphas_cumprod"][op["t_list"]]
    x = (op["x_t"] / a.sqrt()[:, None]).reshape(-1, 1, 16, 16)
    got = prior(x, ((1 - a) / a).sqrt())
    torch.testing.assert_close(got.flatten(1), op["x0_given_xt"], rtol=DOUBLE, atol=DOUBLE)


def test_mixture_matches_stored_posterior_means(arrays):
    g = arrays("gaussian_posterior/gmm")
    prior = GaussianMixture(g["means"].reshape(3, 1, 8), g["variances"], g["weights"])
    a = g["alphas_cumprod"][g["t_list"]]
    x = (g["x"] / a.sqrt()[:, None]).reshape(-1, 1, 1, 8)
    got = prior(x, ((1 - a) / a).sqrt())
    torch.testing.assert_close(got.flatten(1), g["x0_mean"], rtol=DOUBLE, atol=DOUBLE)


def test_mixture_jacobian_is_the_posterior_covariance(arrays):
    """Second-order Tweedie: Cov(x0 | x) = sigma^2 dE[x0 | x]/dx."""
    g = arrays("gaussian_posterior/gmm")
    prior = GaussianMixture(g["means"].reshape(3, 1, 8), g["variances"], g["weights"])
    for k, t in enumerate(g["t_list"]):
        a = float(g["alphas_cumprod"][t])
        sigma = ((1 - a) / a) ** 0.5
        x = g["x"][k] / a**0.5
        jacobian = torch.autograd.functional.jacobian(
            lambda v, s=sigma: prior(v.reshape(1, 1, 1, 8), s).flatten(), x
        )
        torch.testing.assert_close(sigma**2 * jacobian, g["x0_cov"][k], rtol=DOUBLE, atol=DOUBLE)


def test_one_component_mixture_is_the_white_gaussian(generator):
    mean = torch.rand(2, 5, 6, generator=generator, dtype=torch.float64)
    mixture = GaussianMixture(
        mean[None], torch.tensor([0.3]).double(), torch.tensor([7.0]).double()
    )
    gaussian = GaussianPrior(mean, spectrum=torch.tensor(0.3).double())
    x = torch.randn(3, 2, 5, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mixture(x, 0.4), gaussian(x, 0.4))
    assert mixture.channels == gaussian.channels == 2


def test_samples_have_the_stated_moments():
    side = 6
    f = torch.fft.fftfreq(side)
    spectrum = 0.5 / (1 + (f[:, None] ** 2 + f**2) * 30)
    mean = torch.linspace(0, 1, side**2).reshape(side, side)
    prior = GaussianPrior(mean, spectrum=spectrum)
    x = prior.sample(20000, torch.Generator().manual_seed(3))[:, 0] - mean
    torch.testing.assert_close(x.mean(0), torch.zeros_like(mean), rtol=0, atol=MOMENTS)
    power = torch.fft.fft2(x, norm="ortho").abs().square().mean(0)
    torch.testing.assert_close(power, spectrum, rtol=POWER, atol=0)
    mixture = GaussianMixture(
        torch.stack([mean, -mean]), torch.tensor([0.01, 0.04]), torch.tensor([3.0, 1.0])
    )
    y = mixture.sample(20000, torch.Generator().manual_seed(4))[:, 0]
    torch.testing.assert_close(y.mean(0), 0.5 * mean, rtol=0, atol=MOMENTS)


def test_sigma_may_differ_per_item_and_be_zero():
    prior = GaussianPrior(torch.zeros(4, 4).double(), spectrum=torch.zeros(4, 4).double())
    x = torch.rand(2, 1, 4, 4).double()
    assert torch.equal(prior(x, torch.tensor([0.0, 1.0])), torch.zeros_like(x))
    sure = GaussianPrior(torch.zeros(4, 4).double(), spectrum=1.0)
    torch.testing.assert_close(sure(x, 0.0), x)
    torch.testing.assert_close(sure(x, torch.tensor([1.0, 2.0]))[1], x[1] / 5)
    assert sure(x.float(), 1.0).dtype == torch.float32
    assert sure.to(torch.float32) is sure


def test_denoiser_is_differentiable():
    prior = GaussianPrior(torch.rand(3, 3).double(), covariance=torch.eye(9).double())
    x = torch.rand(1, 1, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: prior(v, 0.5), (x,))


def test_faults_are_named():
    flat = torch.zeros(4, 4)
    with pytest.raises(ConfigError, match="either a spectrum"):
        GaussianPrior(flat)
    with pytest.raises(ConfigError, match="negative"):
        GaussianPrior(flat, spectrum=torch.rand(4, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ConfigError, match="eigenvalue"):
        GaussianPrior(flat, spectrum=-1.0)
    with pytest.raises(ConfigError, match="eigenvalue"):
        GaussianPrior(flat, covariance=-torch.eye(16))
    with pytest.raises(ConfigError, match="symmetric"):
        GaussianPrior(
            flat, covariance=torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
        )
    with pytest.raises(ShapeError, match="covariance"):
        GaussianPrior(flat, covariance=torch.eye(4))
    with pytest.raises(ShapeError, match="spectrum"):
        GaussianPrior(flat, spectrum=torch.ones(5))
    with pytest.raises(ShapeError, match="mean"):
        GaussianPrior(torch.zeros(4), spectrum=1.0)
    with pytest.raises(ShapeError, match="do not fit"):
        GaussianMixture(torch.zeros(2, 4, 4), torch.ones(3), torch.ones(2))
    with pytest.raises(ConfigError, match="positive"):
        GaussianMixture(torch.zeros(2, 4, 4), torch.tensor([1.0, 0.0]), torch.ones(2))
