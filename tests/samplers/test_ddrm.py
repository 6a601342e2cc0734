"""DDRM against numpy: path by path, in distribution on a Gaussian prior, and what it promises about the data."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import motion
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.ddrm import DDRM
from restore.samplers.toolbox.chain import centre_of
from restore.scaling import Scaling

DOUBLE = 1e-9  # float64: twenty steps of products with a matrix of some hundred entries
PRINTED = 1e-4  # the published number has five digits
MEAN = 1e-3  # the last noise level is left in the mean
SAMPLED = 0.05  # moments over some hundred to thousand samples of a fixed seed
LAST = 1e-6  # what is measured without noise is taken over but for the last level's share
BIASED = 0.1  # moments over samples; eta below 1 leaves a tenth of the way
ROUNDED = 1e-12  # float64: one sum and one product

PAIRS = 400
REAL = torch.empty(0, dtype=torch.float64)


def transition(
    sampler: DDRM, values: np.ndarray, std: float, s: float, s_next: float
) -> tuple[np.ndarray, ...]:
    """Weights of xbar_h, ebar, ybar and noise in every mode, as the paper writes its three cases."""
    eta, eta_b = sampler.eta, sampler.eta_b
    out = np.zeros((4, len(values)))
    for j, value in enumerate(values):
        product = value * s_next
        third = product > std if sampler.strict else product >= std * (1 - 1e-9)
        if value == 0 or (product == std and not third):
            out[:, j] = 1, s_next * (1 - eta**2) ** 0.5, 0, s_next * eta
        elif third:
            left = max(s_next**2 - (std / value * eta_b) ** 2, 0)
            out[:, j] = 1 - eta_b, 0, eta_b, left**0.5
        else:
            share = eta if sampler.eta_a is None else sampler.eta_a
            pull = s_next * (1 - share**2) ** 0.5 * value / std
            out[:, j] = 1 - pull, 0, pull, s_next * share
    return tuple(out)


def svd_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U^H padded, singular values padded, V^H."""
    u, s, vh = np.linalg.svd(matrix)
    n, kept = matrix.shape[1], len(s)
    uh, values = np.zeros((n, matrix.shape[0])), np.zeros(n)
    uh[:kept], values[:kept] = u[:, :kept].T, np.where(s > 1e-9, s, 0)
    return uh, values, vh


# ---------------------------------------------------------------------------------------------
# Path by path: the published chain on the network and the operators of the stored runs.


@pytest.fixture
def network(arrays) -> tuple[GaussianPrior, Tensor]:
    g = arrays("reddiff/sr4_sqrt")
    return GaussianPrior(g["mean"][0], spectrum=g["S"]), g["A"]


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("task", ["sr4", "deno"])
def test_published_chain_equals_a_numpy_chain(network, dense, replay, watched, generator, task, noise):  # fmt: skip
    prior, matrix = network
    shape = (3, 16, 16)
    operator = dense(matrix, shape) if task == "sr4" else Identity(shape)
    matrix = matrix.numpy() if task == "sr4" else np.eye(768)
    y = operator(torch.rand((1, *shape), generator=generator, dtype=torch.float64))
    y = y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    noises = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(5)]
    sampler = DDRM.configured("published", type(operator), {"n_steps": 5})
    problem = Problem(y, operator, Gaussian(noise) if noise else None)
    seen = watched(prior)
    steps = list(sampler.steps(problem, ImagePrior(seen, shape, False), replay(noises)))

    uh, values, vh = svd_of(matrix)
    ybar = np.divide(uh @ y.numpy().ravel(), values, out=np.zeros(768), where=values > 0)
    white = [vh @ n.numpy().ravel() for n in noises]
    sigmas = [v.sigma for v in sampler.levels()]
    spread = np.divide(noise, values, out=np.full(768, np.inf), where=values > 0)
    top = spread < sigmas[0]
    x = np.where(top, ybar, 0) + np.sqrt(sigmas[0] ** 2 - np.where(top, spread, 0) ** 2) * white[0]
    x = vh.T @ x * (1 + sigmas[0] ** 2) ** 0.5 / sigmas[0]
    for k, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        np.testing.assert_allclose(seen.inputs[k].numpy().ravel(), x, rtol=0, atol=1e-9 * (1 + s))
        xh = prior(torch.as_tensor(x).reshape(1, *shape), s).numpy().ravel()
        ch, ce, cy, cn = transition(sampler, values, noise, s, s_next)
        last = white[k + 1] if s_next else 0
        x_next = vh.T @ (ch * (vh @ xh) + ce * (vh @ (x - xh) / s) + cy * ybar + cn * last)
        wanted = xh if s_next else x_next
        np.testing.assert_allclose(steps[k].x0.numpy().ravel(), wanted, rtol=0, atol=DOUBLE)
        x = x_next
    assert [s.evaluations for s in steps] == [1, 2, 3, 4, 5]


def test_published_settings():
    sampler = DDRM.configured("published", Inpainting, {})
    assert (sampler.eta, sampler.eta_b, len([v.sigma for v in sampler.levels()])) == (0.85, 1.0, 20)
    assert [v.sigma for v in sampler.levels()][-1] == pytest.approx(0.010001, rel=PRINTED)


# ---------------------------------------------------------------------------------------------
# In distribution: an affine chain, whose mean and covariance are linear algebra.


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


def case(name: str) -> Case:
    g = np.random.default_rng(4)
    side, std = 8, 0.15
    shape, grid = (side, side), np.arange(side)
    if name == "superres":
        operator: LinearOperator = Downsample(shape, 2, "area", REAL)
        apart = (grid[:, None] - grid) ** 2
        covariance = 0.3 * np.kron(*[np.exp(-apart / 4.0) + 0.05 * np.eye(side)] * 2)
    else:
        covariance = 0.3 * np.eye(side**2)
        mask = torch.as_tensor(g.random(shape) < 0.5).double()
        operator = Identity(shape) if name == "denoise" else Inpainting(mask, shape)
    eye = torch.eye(side**2, dtype=torch.float64).reshape(-1, *shape)
    matrix = operator(eye).reshape(side**2, -1).mT.numpy()
    mean = g.normal(0.5, 0.2, side**2)
    x = mean + np.linalg.cholesky(covariance) @ g.normal(size=side**2)
    y = matrix @ x + std * g.normal(size=len(matrix))
    if name == "inpaint":
        y = y * mask.numpy().ravel()
    return Case(operator, matrix, mean, covariance, y.reshape(operator.out_shape), std)


def predict(c: Case, sampler: DDRM) -> tuple[np.ndarray, np.ndarray]:
    uh, values, vh = svd_of(c.matrix)
    n = len(values)
    ybar = np.divide(uh @ c.y.ravel(), values, out=np.zeros(n), where=values > 0)
    spread = np.divide(c.std, values, out=np.full(n, np.inf), where=values > 0)
    prior, centre, sigmas = (
        vh @ c.covariance @ vh.T,
        vh @ c.mean,
        [v.sigma for v in sampler.levels(c.std / values.max())],
    )
    top = spread <= sigmas[0] * (1 + 1e-9)
    start = np.zeros(n)
    if sampler.start != "noise":
        problem = Problem(torch.as_tensor(c.y), c.operator)
        start = vh @ centre_of(problem, sampler.start).numpy().ravel()
    mean = np.where(top, ybar, start)
    covariance = np.diag(sigmas[0] ** 2 - np.where(top, spread, 0) ** 2)
    if sampler.schedule == "vp":
        scale = (1 + sigmas[0] ** 2) ** 0.5 / sigmas[0]
        mean, covariance = scale * mean, scale**2 * covariance
    for s, s_next in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        gain = prior @ np.linalg.inv(prior + s**2 * np.eye(n))
        ch, ce, cy, cn = transition(sampler, values, c.std, s, s_next)
        move = ch[:, None] * gain + ce[:, None] * (np.eye(n) - gain) / s
        shift = (ch[:, None] * (np.eye(n) - gain) - ce[:, None] * (np.eye(n) - gain) / s) @ centre
        mean = move @ mean + shift + cy * ybar
        covariance = move @ covariance @ move.T + np.diag(cn**2)
    return vh.T @ mean, vh.T @ covariance @ vh


class Antithetic(Draws):
    """The second half of the items gets the negated noise of the first: an affine chain's mean is then exact."""

    def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
        half = super().normal_like(x[: len(x) // 2], item_ndim)
        return torch.cat([half, -half])


def run(c: Case, sampler: DDRM, pairs: int = PAIRS) -> np.ndarray:
    y = torch.as_tensor(c.y).expand(2 * pairs, *c.y.shape)
    problem = Problem(y, c.operator, Gaussian(c.std))
    prior = GaussianPrior(
        torch.as_tensor(c.mean).reshape(problem.item_shape),
        covariance=torch.as_tensor(c.covariance),
    )
    images = ImagePrior(prior, problem.item_shape, complex_=False)
    *_, last = sampler.steps(problem, images, Antithetic(5, [str(k) for k in range(pairs)]))
    return last.x0.flatten(1).numpy()


SETTINGS = {
    "tuned": {},
    "published": None,
    "to the end": {"end_at_noise": False, "eta": 0.85, "eta_b": 0.8, "n_steps": 12},
    "deterministic": {"end_at_noise": False, "eta": 0.0, "sigma_start": 3.0, "start": "noise", "n_steps": 40},
}  # fmt: skip


@pytest.mark.parametrize("name", ["denoise", "inpaint", "superres"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_mean_and_spread_are_those_of_the_affine_chain(name, settings):
    c, given = case(name), SETTINGS[settings]
    sampler = DDRM.configured("published" if given is None else "tuned", type(c.operator), given or {})  # fmt: skip
    x = run(c, sampler)
    problem = Problem(torch.as_tensor(c.y), c.operator, Gaussian(c.std))
    mean, covariance = predict(c, sampler.for_problem(problem))
    assert np.linalg.norm(x.mean(0) - mean) < MEAN * np.linalg.norm(mean - c.mean)
    std = np.sqrt(np.diag(covariance))
    if std.max() < DOUBLE:  # everything is determined by y
        return
    assert np.sqrt(np.mean((x.std(0)[std > 1e-9] / std[std > 1e-9] - 1) ** 2)) < SAMPLED


def test_ending_at_the_noise_is_the_exact_posterior_mean_of_white_priors():
    """The last state of a mode seen with gain 1 is ybar itself, whose estimate is Tweedie's."""
    for name in ("denoise", "inpaint"):
        c = case(name)
        x, (mean, _) = run(c, DDRM(n_steps=7), pairs=2), c.posterior()
        seen = c.matrix.any(0)
        np.testing.assert_allclose(x[:, seen], np.tile(mean[seen], (4, 1)), rtol=0, atol=LAST)


def test_unseen_pixels_have_the_spread_of_the_prior_without_fresh_noise():
    """With eta 0 the chain is the flow of the prior: 5 %, where halved noise would give 30 %."""
    c = case("inpaint")
    sampler = DDRM(n_steps=150, eta=0.0, sigma_start=20.0, end_at_noise=False, start="noise")
    unseen = ~c.matrix.any(0)
    mean, covariance = predict(c, sampler)
    assert np.sqrt(np.diag(covariance)[unseen] / 0.3) == pytest.approx(1, abs=SAMPLED)
    assert np.abs(mean - c.mean)[unseen].max() < SAMPLED
    # What the three rules give below the noise of a mode: its measurement, noise included.
    assert np.abs(mean - c.y.ravel())[~unseen].max() < BIASED * np.abs(c.y.ravel() - c.mean)[~unseen].max()  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Data, items, faults.


OPERATORS = {
    "inpaint": Inpainting(torch.eye(12).double(), (12, 12)),
    "superres": Downsample((12, 12), 3, "bicubic", REAL),
    "mri": MultiCoilMRI.single_coil(torch.arange(12) % 3 == 0, (12, 12), dtype=torch.complex128),
}


def measured(name: str, g: torch.Generator) -> tuple[Tensor, LinearOperator]:
    operator = OPERATORS[name]
    kind = torch.complex128 if operator.is_complex else torch.float64
    return 2 * torch.randn((2, 12, 12), generator=g, dtype=kind), operator


@pytest.mark.parametrize("name", OPERATORS)
def test_without_noise_the_result_meets_the_data(name, generator):
    x, operator = measured(name, generator)
    prior = GaussianPrior(torch.zeros(12, 12).double(), spectrum=0.3)
    problem = Problem(operator(x), operator)
    images = ImagePrior(prior, (12, 12), operator.is_complex)
    *_, last = DDRM(n_steps=4).steps(problem, images, Draws(0, problem.ids))
    torch.testing.assert_close(operator(last.x0), problem.y, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("preset", ["tuned", "published"])
@pytest.mark.parametrize("noise", [None, 0.05])
def test_an_oracle_recovers_the_truth_and_y_is_left_alone(oracle, generator, name, preset, noise):
    x, operator = measured(name, generator)
    y = operator(x)
    kept = y.clone()
    found = solve(
        y, operator, noise=noise, prior=oracle(x), sampler="ddrm", preset=preset, scaling=Scaling()
    )
    torch.testing.assert_close(found.image, x, rtol=0, atol=1e-6 * float(x.abs().max()))
    assert torch.equal(y, kept)


def test_noise_may_differ_between_items_but_not_within_one(generator):
    x, operator = measured("inpaint", generator)
    images = ImagePrior(
        GaussianPrior(torch.zeros(12, 12).double(), spectrum=0.3), (12, 12), complex_=False
    )
    std = torch.tensor([0.05, 0.2]).double().reshape(2, 1, 1)
    y = operator(x)

    def last(y: Tensor, std: Tensor, ids: tuple[str, ...]) -> Tensor:
        problem = Problem(y, operator, Gaussian(std), ids=ids)
        return list(DDRM(n_steps=5).steps(problem, images, Draws(0, ids)))[-1].x0

    both = last(y, std, ("a", "b"))
    torch.testing.assert_close(last(y[1:], std[1:], ("b",)), both[1:], rtol=0, atol=DOUBLE)
    with pytest.raises(ConfigError, match="white noise"):
        last(y, torch.rand(12, 12, generator=generator) + 0.1, ("a", "b"))


def test_refusals_and_faults(generator, nan):
    x, operator = measured("inpaint", generator)
    for wrong in ({"eta": 1.2}, {"eta_b": -0.1}, {"floor": 1.0}, {"n_steps": 0}):
        with pytest.raises(ConfigError):
            DDRM(**wrong)
    blur = Blur(motion(4.0, 30.0), (3, 64, 64), "reflect")
    with pytest.raises(ConfigError, match="singular value decomposition"):
        solve(torch.ones(1, 3, 64, 64), blur, noise=0.1, prior=nan(), sampler="ddrm")
    with pytest.raises(DivergenceError, match="step 1 of"):
        solve(operator(x), operator, noise=0.1, prior=nan(), sampler="ddrm")


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 0.6), (0.5, 0.9), (1.0, 1.0), (0.3, 0.0)])
def test_a_step_is_that_of_equations_4_and_5(replay, watched, eta, eta_b):
    """Mode by mode, written out: A = diag(w) has the modes S = |w|; levels on both sides of sigma_y / S, and S = 0."""
    g = torch.Generator().manual_seed(2)
    weight, std, s, s_next = torch.tensor([[1.0, 0.5], [0.1, 0.0]]).double(), 0.2, 1.0, 0.3
    noises = torch.randn(2, 1, 2, 2, generator=g, dtype=torch.float64)
    y = torch.randn(1, 2, 2, generator=g, dtype=torch.float64) * (weight > 0)
    problem = Problem(y, Diagonal(weight, (2, 2)), Gaussian(std))
    prior = watched(GaussianPrior(torch.zeros(2, 2, dtype=torch.float64), spectrum=3.0))
    sampler = DDRM(
        n_steps=2, schedule="ve", sigma_start=s, sigma_end=s_next, start="noise", eta=eta, eta_b=eta_b,
        end_at_noise=False, turns=False,
    )  # fmt: skip
    images = ImagePrior(prior, problem.item_shape, complex_=False)
    list(sampler.steps(problem, images, replay(noises)))
    x, reached = (v.reshape(4).tolist() for v in prior.inputs)
    xh = prior.outputs[0].reshape(4).tolist()
    for i, w in enumerate(weight.flatten().tolist()):
        n0, n = noises[:, 0].reshape(2, 4)[:, i].tolist()
        ybar, apart = (float(y.flatten()[i]) / w, std / w) if w else (0.0, math.inf)
        start = ybar + (s**2 - apart**2) ** 0.5 * n0 if apart <= s else s * n0
        assert x[i] == pytest.approx(start, rel=ROUNDED)
        if w == 0:
            kept = (x[i] - xh[i]) / s
            wanted = xh[i] + s_next * ((1 - eta**2) ** 0.5 * kept + eta * n)
        elif s_next < apart:
            kept = (ybar - xh[i]) / apart
            wanted = xh[i] + s_next * ((1 - eta**2) ** 0.5 * kept + eta * n)
        else:
            added = (s_next**2 - eta_b**2 * apart**2) ** 0.5
            wanted = (1 - eta_b) * xh[i] + eta_b * ybar + added * n
        assert reached[i] == pytest.approx(wanted, rel=DOUBLE)
