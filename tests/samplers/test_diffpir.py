"""DiffPIR on a Gaussian prior, where it is an affine chain, and what else it promises.

With the prior N(m, C), G = C^-1 + A^T A/(lam std^2) and kappa = sqrt(1 - zeta), a step at small sigma is
x -> x - sigma^2 (1 - kappa) G (x - mu) plus noise of standard deviation sqrt(zeta) sigma, where mu is the posterior
mean for data of precision 1/(lam std^2). So many steps give mu and zeta/(2 (1 - kappa)) = (1 + kappa)/2 of G^-1: at
lam = 1 the posterior mean, and its covariance times 1/2 (zeta 1) to 1 (zeta 0).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dds import DDS
from restore.samplers.diffpir import DiffPIR
from restore.samplers.toolbox.chain import centre_of
from restore.scaling import Scaling

MEAN = 1e-3  # the mean needs no samples: float64; 4e-12 seen
SAMPLED = 0.05  # moments over some thousand samples of a fixed seed
DOUBLE = 1e-9  # float64: the same steps in another order; 2e-15 seen
STORED = 1e-6  # float64, beside levels of float32

SIDE, PIXELS = 8, 64
PAIRS = 400
REAL = torch.empty(0, dtype=torch.float64)
SHAPE = (SIDE, SIDE)


@dataclasses.dataclass
class Case:
    operator: LinearOperator
    matrix: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    y: np.ndarray
    std: float

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        gram = self.matrix.T @ self.matrix / self.std**2
        covariance = np.linalg.inv(np.linalg.inv(self.covariance) + gram)
        pull = self.matrix.T @ (self.y.ravel() - self.matrix @ self.mean) / self.std**2
        return self.mean + covariance @ pull, covariance

    @property
    def prior(self) -> GaussianPrior:
        mean = torch.as_tensor(self.mean).reshape(SHAPE)
        return GaussianPrior(mean, covariance=torch.as_tensor(self.covariance))


@pytest.fixture(params=["inpaint", "superres", "by CG"])
def case(request) -> Case:
    g, grid, std = np.random.default_rng(4), np.arange(SIDE), 0.15
    operators: dict[str, LinearOperator] = {
        "inpaint": Inpainting(torch.as_tensor(g.random(SHAPE) < 0.5).double(), SHAPE),
        "superres": Downsample(SHAPE, 2, "area", REAL),
        "by CG": Blur(gaussian(0.5, dtype=torch.float64), SHAPE, "reflect"),
    }
    operator = operators[request.param]
    apart = (grid[:, None] - grid) ** 2
    covariance = 0.3 * np.kron(*[np.exp(-apart / 4.0) + 0.2 * np.eye(SIDE)] * 2)
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, *SHAPE)
    matrix = operator(eye).reshape(PIXELS, -1).mT.numpy()
    mean = g.normal(0.5, 0.2, PIXELS)
    x = mean + np.linalg.cholesky(covariance) @ g.normal(size=PIXELS)
    y = matrix @ x + std * g.normal(size=len(matrix)) * matrix.any(1)
    return Case(operator, matrix, mean, covariance, y.reshape(operator.out_shape), std)


def predict(c: Case, sampler: DiffPIR, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the result: one affine map a step, by dense matrices."""
    eye, sigmas = np.eye(PIXELS), [v.sigma for v in sampler.levels()]
    mean, covariance = start, sigmas[0] ** 2 * eye
    for s, s_next in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        gain = np.linalg.solve(c.covariance + s**2 * eye, c.covariance).T
        rho = sampler.lam * c.std**2 / s**2
        inverse = np.linalg.inv(c.matrix.T @ c.matrix + rho * eye)
        move, shift = gain, c.mean - gain @ c.mean
        if s_next or sampler.last_data_step:
            move, shift = rho * inverse @ gain, inverse @ (c.matrix.T @ c.y.ravel() + rho * shift)
        kept = (1 - sampler.zeta) ** 0.5 * s_next / s
        move, shift = (1 - kept) * move + kept * eye, (1 - kept) * shift
        mean = move @ mean + shift
        covariance = move @ covariance @ move.T + sampler.zeta * s_next**2 * eye
    return mean, covariance


class Antithetic(Draws):
    """The second half of the items gets the negated noise of the first: an affine chain's mean is then exact."""

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        half = super().normal_like(x[: len(x) // 2], item_ndim)
        return torch.cat([half, -half])


def beginning(sampler: DiffPIR, problem: Problem) -> np.ndarray:
    if sampler.start == "noise":
        return np.zeros(PIXELS)
    return centre_of(problem, sampler.start)[0].numpy().ravel()


SETTINGS = {
    "tuned": {"cg_iters": 40},
    "published": {"n_steps": 25},
    "half noise": {"zeta": 0.5, "lam": 1.0, "sigma_start": 4.0, "start": "noise", "n_steps": 20, "cg_iters": 50},
    "deterministic": {"zeta": 0.0, "lam": 4.0, "schedule": "ve", "sigma_start": 2.0, "n_steps": 15, "cg_iters": 50},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
def test_mean_and_spread_are_those_of_the_affine_chain(case, settings):
    preset = settings if settings == "published" else "tuned"
    exact = {"cg_iters": 50} if settings == "published" else {}
    sampler = DiffPIR.configured(preset, type(case.operator), SETTINGS[settings] | exact)
    pairs = (
        1 if isinstance(case.operator, Blur) else PAIRS
    )  # by CG: the mean alone, which one pair gives
    y = torch.as_tensor(case.y).expand(2 * pairs, *case.y.shape)
    problem = Problem(y, case.operator, Gaussian(case.std))
    images = ImagePrior(case.prior, SHAPE, complex_=False)
    *_, last = sampler.steps(problem, images, Antithetic(5, [str(k) for k in range(pairs)]))
    x = last.x0.flatten(1).numpy()
    sampler = sampler.for_problem(problem)
    mean, covariance = predict(case, sampler, beginning(sampler, problem))
    assert np.linalg.norm(x.mean(0) - mean) < MEAN * np.linalg.norm(mean - case.mean)
    if pairs == 1:
        return
    ratio = x.std(0) / np.sqrt(np.diag(covariance))
    assert np.sqrt(np.mean((ratio - 1) ** 2)) < SAMPLED


@pytest.mark.parametrize(("zeta", "steps"), [(1.0, 200), (0.3, 800)])
def test_lam_one_leads_to_the_posterior_mean_and_a_known_share_of_its_covariance(case, zeta, steps):
    """By the recursion, which the chain was shown to follow."""
    sampler = DiffPIR(
        n_steps=steps, schedule="ve", sigma_start=3.0, sigma_end=0.01, lam=1.0, zeta=zeta
    )
    mean, covariance = predict(case, sampler, np.zeros(PIXELS))
    wanted, posterior = case.posterior()
    assert np.linalg.norm(mean - wanted) < SAMPLED * np.linalg.norm(wanted - case.mean)
    share = (1 + (1 - zeta) ** 0.5) / 2
    assert np.trace(covariance) == pytest.approx(share * np.trace(posterior), rel=SAMPLED)


def test_the_preset_posterior_has_means_and_deviations_of_the_posterior(case):
    sampler = DiffPIR.configured("posterior", type(case.operator), {})
    mean, covariance = predict(case, sampler, np.zeros(PIXELS))
    wanted, posterior = case.posterior()
    assert np.linalg.norm(mean - wanted) < SAMPLED * np.linalg.norm(wanted - case.mean)
    ratio = np.sqrt(np.diag(covariance) / np.diag(posterior))
    assert np.abs(ratio - 1).max() < SAMPLED


def test_a_large_lam_leads_to_the_prior_and_a_small_one_to_the_data(case):
    def mean(lam: float) -> np.ndarray:
        sampler = DiffPIR(n_steps=200, schedule="ve", sigma_start=5.0, lam=lam)
        return predict(case, sampler, np.zeros(PIXELS))[0]

    misfits = [np.linalg.norm(case.matrix @ mean(lam) - case.y.ravel()) for lam in (1e-3, 1, 1e3)]
    assert misfits[0] < misfits[1] < misfits[2]
    shift = case.posterior()[0] - case.mean
    assert np.linalg.norm(mean(1e4) - case.mean) < 0.2 * np.linalg.norm(shift)


def test_with_all_noise_drawn_anew_a_step_is_that_of_dds(case):
    problem = Problem(torch.as_tensor(case.y)[None], case.operator, Gaussian(case.std))
    images = ImagePrior(case.prior, SHAPE, complex_=False)
    ours = DiffPIR(n_steps=9, lam=0.5, zeta=1.0).steps(problem, images, Draws(3, problem.ids))
    theirs = DDS(n_steps=9, gamma=2.0, eta=1.0).steps(problem, images, Draws(3, problem.ids))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.x0, b.x0, rtol=0, atol=DOUBLE)


def test_published_grid_and_last_step(case, watched):
    """Times 999 - int(1000 sqrt(i/99)), by the reference's own arithmetic on floats."""
    betas = np.linspace(1e-4, 0.02, 1000, dtype=np.float32).astype(np.float64)
    bar = np.cumprod(1 - betas)
    seq = [int(s) for s in np.sqrt(np.linspace(0, 1000**2, 100))]
    seq[-1] -= 1
    wanted = np.sqrt((1 - bar) / bar)[::-1][seq]
    sampler = DiffPIR.configured("published", type(case.operator), {})
    np.testing.assert_allclose([v.sigma for v in sampler.levels()], wanted, rtol=STORED)
    problem = Problem(torch.as_tensor(case.y)[None], case.operator, Gaussian(case.std))
    prior = watched(case.prior)
    images = ImagePrior(prior, SHAPE, complex_=False)
    *_, last = sampler.steps(problem, images, Draws(0, problem.ids))
    assert torch.equal(last.x0, prior.outputs[-1][0])
    assert last.evaluations == len(prior.inputs) == 100


@pytest.mark.parametrize("noise", [None, 0.05])
@pytest.mark.parametrize("preset", ["tuned", "published", "published-inpainting", "posterior"])
def test_an_oracle_recovers_complex_truths_beyond_one(oracle, generator, preset, noise):
    maps = torch.randn(2, 10, 10, generator=generator, dtype=torch.complex128)
    operator = MultiCoilMRI(maps, torch.arange(10) % 2 == 0)
    x = 1.5 * torch.randn(2, 10, 10, generator=generator, dtype=torch.complex128)
    found = solve(
        operator(x), operator, noise=noise, prior=oracle(x), sampler="diffpir", preset=preset, scaling=Scaling(),
        n_steps=20,
    )  # fmt: skip
    torch.testing.assert_close(found.image, x, rtol=0, atol=STORED)


def test_unknown_noise_is_a_thousandth_of_the_unit(case):
    """The scale of a measurement does not matter either."""
    y, std = 50 * torch.as_tensor(case.y)[None], 0.001 * 50
    images = ImagePrior(case.prior, SHAPE, complex_=False)
    results = []
    for noise in (None, Gaussian(std)):
        problem = Problem(y, case.operator, noise, Scaling(50.0))
        results.append(list(DiffPIR(n_steps=5).steps(problem, images, Draws(0, problem.ids)))[-1])
    torch.testing.assert_close(results[0].x0, results[1].x0, rtol=0, atol=DOUBLE)


def test_faults(case, nan):
    for wrong in ({"lam": 0.0}, {"zeta": 1.1}, {"unknown_std": -1.0}, {"n_steps": 0}):
        with pytest.raises(ConfigError):
            DiffPIR(**wrong)
    y = torch.as_tensor(case.y)[None]
    with pytest.raises(DivergenceError, match="step 1 of 30"):
        solve(y, case.operator, noise=0.1, prior=nan(), sampler=DiffPIR())


def test_dpir_is_half_quadratic_splitting_by_frequency():
    g = torch.Generator().manual_seed(5)
    A = Blur(gaussian(1.2).double(), SHAPE, "circular")
    c = torch.rand(1, generator=g, dtype=torch.float64) * 0.2
    p = GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), spectrum=c.expand(SHAPE))
    std, y = 0.03, torch.rand(SHAPE, generator=g, dtype=torch.float64)
    sampler = DiffPIR.configured("dpir", A, {})
    *_, last = sampler.steps(Problem(y, A, Gaussian(std)), ImagePrior(p, SHAPE, False), Draws(0, ["0"]))  # fmt: skip
    dot = torch.zeros(SHAPE, dtype=torch.float64)
    dot[0, 0] = 1
    a, data = torch.fft.fft2(A(dot)), torch.fft.fft2(y)
    z = data
    for s in np.geomspace(49 / 255, std, 8):
        rho = 0.23 * std**2 / s**2
        z = (a.conj() * data + rho * z) / (a.abs() ** 2 + rho) * c / (c + s**2)
    assert torch.allclose(last.x0, torch.fft.ifft2(z).real, atol=STORED)
    assert sampler.cost() == last.evaluations == 8
