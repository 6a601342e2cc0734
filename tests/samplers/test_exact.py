"""Exact: the posterior of a Gaussian prior, mean and spread, and the corners of its solve."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.exact import Exact
from restore.samplers.toolbox.moments import PosteriorMoments, correction

MEAN = 1e-3  # the last noise level's share of the mean; 1.4e-4 seen
SAMPLED = 0.05  # deviations over some thousand samples of a fixed seed
RATIO = 0.03  # the same, averaged over pixels
DOUBLE = 1e-8  # float64: CG steps and sums over some hundred pixels; 9e-16 seen
STORED = 1e-6  # float32 noise times a root

SIDE = 16


class Antithetic(Draws):
    """The second half of the items gets the negated noise of the first: an affine chain's mean is then exact."""

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        half = super().normal_like(x[: len(x) // 2], item_ndim)
        return torch.cat([half, -half])


def stored(kind: str, arrays) -> tuple[LinearOperator, dict[str, Tensor], GaussianPrior]:
    g, p = arrays(f"gaussian_posterior/op_{kind}"), arrays("gaussian_posterior/prior")
    square = (SIDE, SIDE)
    operator: LinearOperator
    if kind == "inpaint":
        operator = Inpainting(g["A"].sum(0).reshape(square), square)
        g["y"] = g["A"].mT @ g["y"]
    elif kind == "sr2":
        operator = Downsample(square, 2, "area", torch.empty(0, dtype=torch.float64))
    else:
        kernel = g["A"][:, 0].reshape(square).roll((SIDE // 2, SIDE // 2), (0, 1))
        operator = Blur(kernel, square, "circular")
    return operator, g, GaussianPrior(p["mean"].reshape(square), spectrum=p["S"])


def moments(kind: str, arrays, sampler: Exact, pairs: int) -> tuple[float, Tensor]:
    """Relative error of the mean; deviation over the posterior's, by pixel."""
    operator, g, prior = stored(kind, arrays)
    y = g["y"].reshape(1, *operator.out_shape).expand(2 * pairs, *operator.out_shape)
    problem = Problem(y, operator, Gaussian(float(g["sigma_y"])))
    images = ImagePrior(prior, problem.item_shape, complex_=False)
    with torch.no_grad():
        *_, last = sampler.steps(problem, images, Antithetic(5, [str(k) for k in range(pairs)]))
    x = last.x0.flatten(1)
    error = (x.mean(0) - g["post_mean"]).norm() / (g["post_mean"] - prior.mean.flatten()).norm()
    deviation = (x[:pairs] - x.mean(0)).square().mean(0).sqrt()
    return float(error), deviation / g["post_cov"].diagonal().sqrt()


@pytest.mark.parametrize("kind", ["inpaint", "blur", "sr2"])
def test_twenty_steps_reach_the_posterior(arrays, kind):
    """Mean to 1e-3, deviations within 5 %; with the plain reverse covariance a quarter of them is missing."""
    sampler = Exact.configured("posterior-analytic", Blur, {"n_steps": 20})
    error, ratio = moments(kind, arrays, sampler, pairs=50)
    assert error < MEAN
    assert float(ratio.square().mean().sqrt()) == pytest.approx(1, abs=SAMPLED)


def test_the_plain_reverse_covariance_is_too_narrow(arrays):
    sampler = Exact.configured("posterior-analytic", Blur, {"n_steps": 20, "reverse": "plain"})
    error, ratio = moments("sr2", arrays, sampler, pairs=50)
    assert error < MEAN
    assert float(ratio.mean()) == pytest.approx(0.76, abs=RATIO)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inpaint", "blur", "sr2"])
def test_a_thousand_ancestral_steps_reach_the_posterior(arrays, kind):
    sampler = Exact.configured("posterior-analytic", Blur, {"n_steps": 1000, "schedule": "vp"})
    error, ratio = moments(kind, arrays, sampler, pairs=60)
    assert error < MEAN
    assert float(ratio.square().mean().sqrt()) == pytest.approx(1, abs=SAMPLED)
    plain = dataclasses.replace(sampler, reverse="plain")
    error, ratio = moments(kind, arrays, plain, pairs=60)
    assert error < MEAN
    assert 0.9 < float(ratio.square().mean()) < 1.05


# ---------------------------------------------------------------------------------------------


def final(sampler: Exact, problem: Problem, variance: float = 0.05, seed: int = 0) -> Tensor:
    mean = torch.full((8, 8), 0.5, dtype=torch.float64)
    prior = GaussianPrior(mean, spectrum=variance)
    images = ImagePrior(prior, problem.item_shape, problem.operator.is_complex)
    with torch.no_grad():
        *_, last = sampler.steps(problem, images, Draws(seed, problem.ids))
    return last.x0


def seen() -> Inpainting:
    return Inpainting((torch.arange(64).reshape(8, 8) % 3 == 0).double(), (8, 8))


@pytest.mark.parametrize("covariance", ["exact", "isotropic"])
def test_unknown_noise_means_that_the_data_are_met(generator, covariance):
    x = 0.5 + 0.2 * torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    operator = seen()
    problem = Problem(operator(x), operator)
    found = final(Exact(covariance=covariance), problem)
    assert float(problem.residual(found).norm() / problem.y.norm()) < MEAN


def test_isotropic_covariance_is_the_exact_one_on_a_white_prior(generator):
    """Every probe then measures the same variance. The second draws of noise differ, so no noise is used."""
    y = seen()(torch.randn(1, 8, 8, generator=generator, dtype=torch.float64))
    problem = Problem(y, seen(), Gaussian(0.1))
    sampler = Exact(n_steps=8, eta=0.0, noise_rule="ddim", cg_iters=3)
    one, other = (
        final(dataclasses.replace(sampler, covariance=c), problem) for c in ("exact", "isotropic")
    )
    torch.testing.assert_close(one, other, rtol=DOUBLE, atol=DOUBLE)


def test_samples_without_worth_are_ignored(generator):
    """A precision of zero: what is measured there does not matter."""

    @dataclasses.dataclass(frozen=True)
    class Half:
        def precision(self, y: Tensor) -> Tensor:
            return 100.0 * (torch.arange(8) < 4).double()

        def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
            return clean

    operator = Inpainting(torch.ones(8, 8), (8, 8))
    y = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    spoiled = torch.where(torch.arange(8) < 4, y, 50.0)
    one, other = (final(Exact(start="noise"), Problem(v, operator, Half())) for v in (y, spoiled))
    torch.testing.assert_close(one, other, rtol=DOUBLE, atol=DOUBLE)


def test_complex_slices_are_solved_one_by_one(generator):
    operator = MultiCoilMRI.single_coil(torch.arange(8) % 2 == 0, (8, 8)).to(torch.float64)
    parts = torch.randn(2, 8, 8, 2, generator=generator, dtype=torch.float64)
    y = operator(torch.view_as_complex(parts)) * torch.tensor([1.0, 100.0]).reshape(2, 1, 1, 1)
    sampler = Exact(n_steps=10, reverse="full", noise_rule="ddim")
    whole = final(sampler, Problem(y, operator, Gaussian(0.01)), 1.0)
    assert whole.is_complex()
    for k in range(2):
        one = Problem(y[k : k + 1], operator, Gaussian(0.01), ids=(str(k),))
        torch.testing.assert_close(final(sampler, one, 1.0)[0], whole[k], rtol=DOUBLE, atol=DOUBLE)


def test_refusals():
    for settings in (
        {"eta": 2.0}, {"cg_iters": 0}, {"n_steps": 0}, {"sigma_start": 0.001}, {"reverse": "full"},
        {"reverse": "full", "noise_rule": "ddim", "eta": 0.5},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            Exact(**settings)


@pytest.mark.parametrize(("s", "s_next"), [(2.0, 1.0), (1.0, 0.7), (1.0, 0.1)])
def test_the_noise_of_a_full_step_has_the_covariance_of_the_next_state(replay, watched, s, s_next):
    """x' given x and y has the variance s'^2 q + q^2 K, q = 1 - s'^2/s^2, K the posterior variance of x0.

    The root is exact where x0 is unknown (K = s^2: nothing is seen, the prior is flat) and where it is certain (K = 0),
    and lies on the chord between, at most 6 % low for s <= 2 s'.
    """
    seen_, n = torch.zeros(8, 8, dtype=torch.float64), torch.ones(8, 8, dtype=torch.float64)
    seen_[:, 4:] = 1
    q = 1 - (s_next / s) ** 2
    for variance, std in ((1e9, 1e-5), (0.5, 0.3), (2.0, 1.0)):
        problem = Problem(
            torch.zeros(1, 8, 8, dtype=torch.float64), Inpainting(seen_, (8, 8)), Gaussian(std)
        )
        states = []
        for noise in (0 * n, n):
            prior = watched(
                GaussianPrior(torch.zeros(8, 8, dtype=torch.float64), spectrum=variance)
            )
            sampler = Exact(
                n_steps=2, sigma_start=s, sigma_end=s_next, schedule="ve", start="noise", reverse="full",
                noise_rule="ddim", cg_iters=20, turns=False,
            )  # fmt: skip
            images = ImagePrior(prior, problem.item_shape, complex_=False)
            list(sampler.steps(problem, images, replay([n, noise])))
            states.append(prior.inputs[1].squeeze())
        deviation = (
            states[1] - states[0]
        )  # what one draw of the step's noise moves the next state by
        p = s**2 * variance / (variance + s**2)
        for columns, k in ((slice(0, 4), p), (slice(4, 8), p * std**2 / (p + std**2))):
            root = s_next * q**0.5 * (1 + (s / s_next - 1) * k / s**2)
            exact = (s_next**2 * q + q**2 * k) ** 0.5
            torch.testing.assert_close(
                deviation[:, columns], root * n[:, columns], rtol=STORED, atol=0
            )
            known = 1e-6 if variance == 1e9 else 0.06 if s <= 2 * s_next else 0.5
            assert root == pytest.approx(exact, rel=known)


def test_a_jacobian_that_is_no_covariance_leaves_no_more_than_it_found(generator):
    sigma, worth = 0.5, 400.0
    operator = Inpainting(torch.ones(6, 8).double(), (2, 6, 8))
    y = torch.rand(2, 2, 6, 8, generator=generator, dtype=torch.float64)
    problem = Problem(y, operator, Gaussian(worth**-0.5))
    # Of the first item the Jacobian is indefinite, as a network's may be; of the second it is half the identity.
    signs = torch.where(torch.rand(2, 6, 8, generator=generator) < 0.5, -0.4, 0.5).double()
    slopes = torch.stack([signs, torch.full_like(signs, 0.5)])
    found = PosteriorMoments(torch.zeros_like(y), sigma, lambda v: slopes * v)
    moved = correction(
        problem, found, found.x0, inner=found.covariance, precision=worth, cg_iters=4
    )
    # y = x0 + noise: with Q = sigma^2 I the inverse is a number, and P's sign stays; with P itself it is exact.
    wide = sigma**2 / (sigma**2 + 1 / worth)
    torch.testing.assert_close(moved[0], slopes[0] * wide * y[0], rtol=1e-12, atol=1e-12)
    own = 0.5 * sigma**2
    torch.testing.assert_close(moved[1], own / (own + 1 / worth) * y[1], rtol=1e-12, atol=1e-12)
