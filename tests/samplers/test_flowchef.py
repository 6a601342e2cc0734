"""FlowChef against a numpy flow of its own, against the exact flow of a Gaussian, and on data of every kind."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.nonlinear import NonlinearOperator
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.flowchef import FlowChef
from restore.scaling import Scaling

DOUBLE = 2e-8  # float64: some hundred steps, each of sums over 256 pixels; 1e-14 seen
FLOW = 0.02  # Euler's error at that number of steps; 4e-3 seen
ORDER = 0.15  # first order: the next power of the step is left out; 0.04 of it seen
SAMPLED = 0.05  # deviations over samples of a fixed seed; 0.01 seen
FALLS = 0.1  # the misfit falls to a hundredth

SIDE, PIXELS = 8, 64
SHAPE = (SIDE, SIDE)
REAL = torch.empty(0, dtype=torch.float64)
PUBLISHED = {"n_steps": 40, "s": 5.0}


@pytest.fixture
def prior(generator) -> tuple[GaussianPrior, np.ndarray, np.ndarray]:
    """The model, its mean and its covariance."""
    grid = np.arange(SIDE)
    one = np.exp(-((grid[:, None] - grid) ** 2) / 4.0) + 0.1 * np.eye(SIDE)
    covariance = 0.2 * np.kron(one, one)
    mean = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    model = GaussianPrior(mean, covariance=torch.as_tensor(covariance))
    return model, mean.numpy().ravel(), covariance


def velocity(z: np.ndarray, t: float, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """E[n - x0 | z] for z = (1 - t) x0 + t n: regression of jointly Gaussian variables, no denoiser involved."""
    eye = np.eye(len(mean))
    of_z = (1 - t) ** 2 * covariance + t**2 * eye
    with_z = t * eye - (1 - t) * covariance
    return -mean + with_z @ np.linalg.solve(of_z, z - (1 - t) * mean)


def matrix_of(operator: LinearOperator) -> np.ndarray:
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, *SHAPE)
    return operator(eye).reshape(PIXELS, -1).mT.numpy()


def operators(g: torch.Generator) -> dict[str, LinearOperator]:
    return {
        "inpaint": Inpainting.random(SHAPE, 0.5, g).to(torch.float64),
        "superres": Downsample(SHAPE, 2, "bicubic", REAL),
        "deblur": Blur(gaussian(1.0, dtype=torch.float64), SHAPE, "reflect"),
    }


@pytest.mark.parametrize("name", ["inpaint", "superres", "deblur"])
@pytest.mark.parametrize("rule", ["fixed", "discrepancy"])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_chain_is_a_steered_euler_walk_along_the_exact_velocity(prior, generator, replay, name, rule, eta):  # fmt: skip
    model, mean, covariance = prior
    operator, std = operators(generator)[name], 0.1
    matrix = matrix_of(operator)
    y = operator(model.sample(1, generator)[:, 0])
    y = y + std * torch.randn(y.shape, generator=generator, dtype=torch.float64) * (y != 0)
    noises = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(40)]
    settings = PUBLISHED | {"step_rule": rule, "eta": eta} | ({"s": 0.9} if rule != "fixed" else {})
    sampler = FlowChef.configured("published", type(operator), settings)
    problem = Problem(y, operator, Gaussian(std))
    images = ImagePrior(model, SHAPE, complex_=False)
    steps = list(sampler.steps(problem, images, replay(noises)))

    times = [1 - 1e-5, *(1 - i / 40 for i in range(1, 40)), 0.0]
    data = y.numpy().ravel()
    z = times[0] * noises[0].numpy().ravel()
    for k, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(z, t, mean, covariance)
        xh = z - t * v
        r = matrix @ xh - data
        if rule == "fixed":
            c = 2 * sampler.s * matrix.T @ r / len(r)
        else:
            g = matrix.T @ r / std**2
            norm = np.linalg.norm(r) / std
            excess = max(norm - np.count_nonzero(data) ** 0.5, 0)
            c = (1 - t_next) * sampler.s * norm * excess / (g @ g) * g
        c = c * (t_next > 0)
        np.testing.assert_allclose(steps[k].x0.numpy().ravel(), xh - c, rtol=0, atol=DOUBLE)
        z = z - c + (t_next - t) * v
        if t_next and eta:
            implied = xh + v
            fresh = noises[k + 1].numpy().ravel()
            z = z + t_next * (((1 - eta**2) ** 0.5 - 1) * implied + eta * fresh)
    assert [s.evaluations for s in steps] == list(range(1, 41))


def test_without_steering_it_is_the_flow_of_the_prior(prior, replay, generator):
    """The exact flow takes noise n to mean + sqrt(C) n; Euler steps converge to it at first order."""
    model, mean, covariance = prior
    noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    values, vectors = np.linalg.eigh(covariance)
    wanted = mean + vectors @ (values**0.5 * (vectors.T @ noise.numpy().ravel()))
    errors = []
    for n in (100, 200, 400):
        problem = Problem(torch.zeros(1, *SHAPE).double(), Identity(SHAPE), Gaussian(1.0))
        sampler = FlowChef.configured("published", Identity, {"n_steps": n, "s": 0.0})
        images = ImagePrior(model, SHAPE, complex_=False)
        *_, last = sampler.steps(problem, images, replay([noise]))
        errors.append(np.linalg.norm(last.x0.numpy().ravel() - wanted) / np.linalg.norm(wanted - mean))  # fmt: skip
    assert errors[-1] < FLOW
    assert errors[0] / errors[1] == pytest.approx(2, rel=ORDER)
    assert errors[1] / errors[2] == pytest.approx(2, rel=ORDER)


def test_spread_without_steering_is_that_of_the_prior(prior):
    model, _, covariance = prior
    sampler = FlowChef.configured("published", Identity, {"n_steps": 150, "s": 0.0})
    problem = Problem(torch.zeros(800, *SHAPE).double(), Identity(SHAPE), Gaussian(1.0))
    images = ImagePrior(model, SHAPE, complex_=False)
    *_, last = sampler.steps(problem, images, Draws(1, problem.ids))
    ratio = last.x0.flatten(1).std(0).numpy() / np.sqrt(np.diag(covariance))
    assert ratio.mean() == pytest.approx(1, abs=SAMPLED)


@pytest.mark.parametrize("noise", [None, 0.3])
def test_a_step_of_discrepancy_ends_at_the_noise_where_gains_are_alike(prior, generator, noise):
    """And is the same whatever the unit of the measurement."""
    operator = operators(generator)["inpaint"]
    y = operator(3 * torch.randn((2, *SHAPE), generator=generator, dtype=torch.float64))
    problem = Problem(y, operator, Gaussian(noise) if noise else None)
    xh = torch.zeros_like(y)
    moved = xh - FlowChef()._correction(problem, xh, 0.0)
    left = problem.residual(moved).flatten(1).norm(dim=1)
    m = (y != 0).flatten(1).sum(1)
    torch.testing.assert_close(left, m.double().sqrt() * (noise or 0), rtol=DOUBLE, atol=DOUBLE)
    at_rest = FlowChef()._correction(problem, moved, 0.0)
    assert float(at_rest.abs().max()) < DOUBLE  # a fixed point


def test_a_larger_share_of_data_leaves_less_misfit(prior, generator):
    model, _, _ = prior
    operator = operators(generator)["inpaint"]
    problem = Problem(operator(model.sample(1, generator)[:, 0]), operator)
    images = ImagePrior(model, SHAPE, complex_=False)

    def misfit(s: float) -> float:
        sampler = FlowChef.configured("published", Inpainting, {"n_steps": 50, "s": s})
        return problem.misfit(list(sampler.steps(problem, images, Draws(0, problem.ids)))[-1].x0)

    values = [misfit(s) for s in (0.0, 1.0, 5.0, 25.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < FALLS * values[0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Cube(NonlinearOperator):
    shape: tuple[int, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shape

    def _apply(self, x: Tensor) -> Tensor:
        return x + 0.5 * x**3


@pytest.mark.parametrize("preset", ["tuned", "published"])
def test_non_linear_measurements_steer_too(prior, generator, preset):
    model, _, _ = prior
    x = model.sample(2, generator)[:, 0]
    operator = Cube(SHAPE)

    def error(s: float) -> float:
        sampler = FlowChef.configured(preset, Cube, {"n_steps": 60, "s": s})
        found = solve(operator(x), operator, noise=0.02, prior=model, sampler=sampler)
        return float((found.image - x).norm() / x.norm())

    assert error(0.7 if preset == "tuned" else 5.0) < 0.2 * max(error(0.0), 0.2)


@pytest.mark.parametrize("preset", ["tuned", "published"])
@pytest.mark.parametrize("noise", [None, 0.05])
def test_an_oracle_recovers_complex_truths_beyond_one(oracle, generator, preset, noise):
    maps = torch.randn(2, 10, 10, generator=generator, dtype=torch.complex128)
    operator = MultiCoilMRI(maps, torch.arange(10) % 2 == 0)
    x = 1.5 * torch.randn(2, 10, 10, generator=generator, dtype=torch.complex128)
    found = solve(
        operator(x), operator, noise=noise, prior=oracle(x), sampler="flowchef", preset=preset, scaling=Scaling()
    )  # fmt: skip
    torch.testing.assert_close(found.image, x, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("rule", ["fixed", "discrepancy"])
def test_items_do_not_know_each_other(prior, generator, rule):
    model, _, _ = prior
    operator = operators(generator)["superres"]
    y = operator(torch.randn((2, *SHAPE), generator=generator, dtype=torch.float64))
    y = y * torch.tensor([1.0, 9.0]).double().reshape(2, 1, 1)
    images = ImagePrior(model, SHAPE, complex_=False)

    def last(y: Tensor, ids: tuple[str, ...]) -> Tensor:
        sampler = FlowChef(n_steps=9, step_rule=rule, s=0.8)
        problem = Problem(y, operator, Gaussian(0.1), ids=ids)
        return list(sampler.steps(problem, images, Draws(0, ids)))[-1].x0

    torch.testing.assert_close(last(y, ("a", "b"))[1:], last(y[1:], ("b",)), rtol=0, atol=DOUBLE)


def test_faults(prior, nan):
    for wrong in ({"s": -1.0}, {"eta": 2.0}, {"n_steps": 0}, {"schedule": "flow", "n_steps": 9}):
        with pytest.raises(ConfigError):
            FlowChef(**wrong)
    y = torch.zeros(1, *SHAPE)
    with pytest.raises(DivergenceError, match="step 1 of 60"):
        solve(y, Identity(SHAPE), noise=0.1, prior=nan(), sampler=FlowChef())
