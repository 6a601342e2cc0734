"""DDS on a Gaussian prior, where it is an affine chain whose mean and covariance are exact linear algebra.

With the prior N(m, C), H = C^-1 + A^T A/std^2 the posterior's precision, kappa = sqrt(1 - eta^2) and a data weight of
gamma sigma^2/std^2, a step at small sigma is x -> x - sigma^2 ((1 - kappa) C^-1 + gamma A^T A/std^2)(x - mean) plus
noise of standard deviation eta sigma. Hence, for many steps:

- gamma = 1 - kappa: the posterior mean exactly, and (1 + kappa)/2 times its covariance. eta = 1, gamma = 1
  gives half the covariance (the tuned gamma of 2 to 3 less): standard deviations are 0.71 of the true ones.
  eta = 0.5, gamma = 0.134 gives 0.933 of it: standard deviations 3.4 % low.
- other gamma: a mean that leans to the data (larger) or to the prior (smaller).

For few steps the recursion below, dense and independent of the package, says what comes out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dds import DDS

STORED = 1e-7  # the stored matrix has single precision
MEAN = 1e-3  # the mean needs no samples: float64, to what CG leaves; 3e-14 seen
SAMPLED = 0.05  # moments over some thousand samples of a fixed seed
HALF = 0.02  # the same, over all directions together
TRACE = (
    0.1  # a variance over some thousand samples of a fixed seed, and the claim is one of small eta
)

SIDE, PIXELS = 16, 256
PAIRS = 500
EXACT = {"cg_iters": 6}  # these A^T A have two eigenvalues, so that CG is exact after two steps


@dataclasses.dataclass
class Case:
    """A stored posterior with the operator of the package that has the same matrix."""

    operator: LinearOperator
    std: float
    y: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    posterior_mean: np.ndarray
    posterior_covariance: np.ndarray
    matrix: np.ndarray

    @property
    def prior(self) -> GaussianPrior:
        mean = torch.as_tensor(self.mean).reshape(SIDE, SIDE)
        return GaussianPrior(mean, covariance=torch.as_tensor(self.covariance))


@pytest.fixture(params=["inpaint", pytest.param("sr2", marks=pytest.mark.slow)])
def case(request, arrays) -> Case:
    p, g = arrays("gaussian_posterior/prior"), arrays(f"gaussian_posterior/op_{request.param}")
    if request.param == "inpaint":
        mask = g["A"].sum(0).reshape(SIDE, SIDE)
        operator: LinearOperator = Inpainting(mask, (SIDE, SIDE))
        y = (g["A"].mT @ g["y"]).reshape(SIDE, SIDE)
    else:
        like = torch.empty(0, dtype=torch.float64)
        operator = Downsample((SIDE, SIDE), 2, "area", like)
        y = g["y"].reshape(SIDE // 2, SIDE // 2)
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, SIDE, SIDE)
    matrix = operator(eye).flatten(1).mT
    torch.testing.assert_close(matrix.mT @ matrix, g["A"].mT @ g["A"], rtol=0, atol=STORED)
    return Case(
        operator, float(g["sigma_y"]), y.numpy(), p["mean"].numpy(), p["C"].numpy(),
        g["post_mean"].numpy(), g["post_cov"].numpy(), matrix.numpy(),
    )  # fmt: skip


def predict(case: Case, sampler: DDS, start: np.ndarray, spread: float):
    """Mean and covariance of the result: one affine map a step, by dense matrices."""
    precision = 1 / case.std**2 if sampler.data_weight == "noise" else 1.0
    gram = precision * case.matrix.T @ case.matrix
    back = precision * case.matrix.T @ case.y.ravel()
    eye, sigmas = np.eye(PIXELS), np.array([v.sigma for v in sampler.levels()])
    mean, covariance = start, spread**2 * eye
    for i, s in enumerate(sigmas):
        weight = sampler.gamma * (s**2 if sampler.data_weight == "noise" else 1.0)
        tweedie = np.linalg.solve((case.covariance + s**2 * eye), case.covariance).T
        step = np.linalg.solve(eye + weight * gram, tweedie)
        shift = np.linalg.solve(
            eye + weight * gram, case.mean - tweedie @ case.mean + weight * back
        )
        if i == len(sigmas) - 1:
            return step @ mean + shift, step @ covariance @ step.T
        s_next, eta = sigmas[i + 1], sampler.eta
        if sampler.landing and i == len(sigmas) - 2:
            scale = np.sqrt(1 + s_next**2) if sampler.schedule == "vp" else 1.0
            move, add, noise = scale * step, scale * shift, 0.0
        else:
            eta *= np.sqrt(1 - (s_next / s) ** 2) if sampler.noise_rule == "ddim" else 1.0
            kept = s_next * np.sqrt(1 - eta**2) / s
            move = step + kept * (eye - tweedie)
            add, noise = shift - kept * (eye - tweedie) @ case.mean, s_next * eta
        mean, covariance = move @ mean + add, move @ covariance @ move.T + noise**2 * eye
    raise AssertionError("no noise levels")


class Antithetic(Draws):
    """The second half of the items gets the negated noise of the first: an affine chain's mean is then exact."""

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        half = super().normal_like(x[: len(x) // 2], item_ndim)
        return torch.cat([half, -half])


def run(case: Case, sampler: DDS, pairs: int) -> tuple[Problem, np.ndarray]:
    y = torch.as_tensor(case.y).expand(2 * pairs, *case.y.shape)
    problem = Problem(y, case.operator, Gaussian(case.std))
    images = ImagePrior(case.prior, problem.item_shape, complex_=False)
    *_, last = sampler.steps(problem, images, Antithetic(5, [str(k) for k in range(pairs)]))
    return problem, last.x0.flatten(1).numpy()


def beginning(sampler: DDS, problem: Problem) -> tuple[np.ndarray, float]:
    first = sampler.levels()[0].sigma
    if sampler.start == "degraded":
        return problem.degraded[0].numpy().ravel(), first
    return np.zeros(PIXELS), (1 + first**2) ** 0.5 if sampler.schedule == "vp" else first


def relative(got: np.ndarray, wanted: np.ndarray, origin: np.ndarray) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted - origin))


SETTINGS = {
    "tuned": {},
    "ddim rule": {
        "schedule": "ve", "sigma_start": 3.0, "eta": 0.85, "noise_rule": "ddim", "gamma": 0.5, "start": "noise",
    },
    "deterministic": {"eta": 0.0, "sigma_start": 5.0, "gamma": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("name", [*SETTINGS, "published"])
def test_mean_and_spread_are_those_of_the_affine_chain(case, name):
    if name == "published":
        sampler = DDS.configured("published", type(case.operator), {"n_steps": 20, **EXACT})
    else:
        sampler = DDS(**{"n_steps": 20, **EXACT, **SETTINGS[name]})
    problem, x = run(case, sampler, PAIRS)
    mean, covariance = predict(case, sampler, *beginning(sampler, problem))
    assert relative(x.mean(0), mean, case.mean) < MEAN
    ratio = x.std(0) / np.sqrt(np.diag(covariance))
    assert np.sqrt(np.mean((ratio - 1) ** 2)) < SAMPLED
    sampling_error = np.sqrt(
        2 * (covariance**2).sum() / PAIRS
    )  # of the trace, for independent pairs
    assert abs((x - mean).var(0).sum() - np.trace(covariance)) < 3 * sampling_error


def test_fully_stochastic_steps_reach_the_posterior_mean_and_half_its_covariance(case):
    sampler = DDS(n_steps=250, sigma_start=5.0, sigma_end=0.003, gamma=1.0)
    start = np.linalg.pinv(case.matrix) @ case.y.ravel()
    mean, covariance = predict(case, sampler, start, 5.0)
    assert relative(mean, case.posterior_mean, case.mean) < SAMPLED
    ratio = np.trace(covariance) / np.trace(case.posterior_covariance)
    assert ratio == pytest.approx(0.5, rel=HALF)


def test_sampler_claims_the_posterior_at_small_eta(case):
    """Mean within 2 %, standard deviations within 5 %."""
    kappa = 0.75**0.5
    steps = 300 if isinstance(case.operator, Downsample) else 600
    sampler = DDS(n_steps=steps, sigma_start=5.0, eta=0.5, gamma=1 - kappa, **EXACT)
    _, x = run(case, sampler, pairs=60)
    assert relative(x.mean(0), case.posterior_mean, case.mean) < HALF
    assert x.var(0).sum() == pytest.approx(np.trace(case.posterior_covariance), rel=TRACE)
    std = np.sqrt(np.diag(case.posterior_covariance))
    assert np.mean(x.std(0) / std) == pytest.approx(1, abs=SAMPLED)


def test_thirty_fully_stochastic_steps_are_near_the_mean_and_too_sure(case):
    """Thirty steps: 14 % (inpainting, 40 % seen) and 3 % (super-resolution) off the mean, half the covariance."""
    sampler = DDS(sigma_start=1.0, sigma_end=0.01, gamma=1.0, **EXACT)
    _, x = run(case, sampler, pairs=300)
    bound = {"Inpainting": 0.15, "Downsample": 0.03}[type(case.operator).__name__]
    assert relative(x.mean(0), case.posterior_mean, case.mean) < bound
    assert 0.42 < x.var(0).sum() / np.trace(case.posterior_covariance) < 0.56
