"""DDS replayed on stored noise, step by step, against the published numerics in float64.

The stored chains live in variance-preserving coordinates: x here is x_stored * sqrt(1 + sigma^2).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.samplers.dds import DDS
from restore.solvers.proximal import data_step

SINGLE = 1e-6  # the stored states have single precision; float64 here
STORED = 1e-7  # the stored levels have single precision
RECOVERED = 0.2  # a few steps from little data
DOUBLE = 1e-9  # float64: up to 60 CG steps on some hundred unknowns; 2e-15 seen
FIVE = 0.02  # five CG steps are not the solution; 9e-4 seen

SIDE = 16


def close(got: Tensor, wanted: Tensor, tolerance: float = SINGLE) -> None:
    error = float((got.flatten() - wanted.flatten()).norm() / wanted.norm())
    assert error <= tolerance, error


def gaussian(mu: float) -> GaussianPrior:
    """The analytic prior of the stored runs."""
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    spectrum = 0.002 + 0.498 / (1 + (f[:, None] ** 2 + f**2) / 0.08**2) ** 2
    return GaussianPrior(torch.full((SIDE, SIDE), mu, dtype=torch.float64), spectrum=spectrum)


def radon(arrays, dense) -> LinearOperator:
    case = arrays("dds/ct_ops_cg_f64")
    return dense(case["A_matrix"], (SIDE, SIDE), back=case["AT_matrix"])


@pytest.mark.parametrize(
    ("case", "preset"),
    [
        ("dds2d_ct_noiseless", "published-noiseless"),
        ("dds2d_ct_prox", "published"),
        ("dds3d_ct_svct", "published-3d"),
    ],
)
def test_published_ct_chains(arrays, dense, replay, watched, case, preset):
    g = arrays(f"dds/{case}_f64")
    operator = radon(arrays, dense)
    problem = Problem(operator(g["gt"]), operator)
    sampler = DDS.configured(preset, type(operator), {"n_steps": 5})
    assert (sampler.eta, sampler.cg_iters, sampler.gamma) == (g["eta"], g["CG_iter"], g["gamma"])
    prior = watched(gaussian(float(g["mu"])))
    images = ImagePrior(prior, problem.item_shape, complex_=False)
    steps = list(sampler.steps(problem, images, replay([g["noise_init"], *g["noise_steps"]])))
    assert len(steps) == len(g["t"])
    for k, step in enumerate(steps):
        assert (step.i, step.n, step.evaluations) == (k, 5, k + 1)
        assert step.sigma == pytest.approx(
            float(((1 - g["abar_t"]) / g["abar_t"]).sqrt()[k]), rel=STORED
        )
        close(prior.inputs[k] / (1 + step.sigma**2) ** 0.5, g["x_t"][k])
        close((prior.inputs[k] - prior.outputs[k]) / step.sigma, g["eps"][k])
        close(prior.outputs[k], g["cg_x_in"][k])
        close(step.x0, g["cg_x_out"][k])
    close(steps[-1].x0, g["final"])


# ---------------------------------------------------------------------------------------------
# MRI: the stored official run has two faults, a right-hand side (1 + i) gamma A^H y and inner
# products without conjugation. They are not reproduced; the reference is numpy of its own.


def fft2c(x: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def ifft2c(k: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes), norm="ortho"), axes)


class NumpyMRI:
    def __init__(self, g: dict[str, Tensor]) -> None:
        self.maps, self.mask = g["sens"].numpy(), g["mask"][0, 0].numpy()
        self.y = self.mask * fft2c(self.maps * g["gt"].numpy())

    def back(self, k: np.ndarray) -> np.ndarray:
        return (self.maps.conj() * ifft2c(self.mask * k)).sum(0)

    def normal(self, x: np.ndarray) -> np.ndarray:
        return self.back(fft2c(self.maps * x))

    def prox(self, x0: np.ndarray, gamma: float, steps: int) -> np.ndarray:
        """Hermitian CG on (I + gamma N) v = x0 + gamma A^H y from x0."""
        v, r = x0, gamma * (self.back(self.y) - self.normal(x0))
        p, rho = r, np.vdot(r, r).real
        for _ in range(steps):
            q = p + gamma * self.normal(p)
            alpha = rho / np.vdot(p, q).real
            v, r = v + alpha * p, r - alpha * q
            rho, old = np.vdot(r, r).real, rho
            p = r + rho / old * p
        return v

    def exact(self, x0: np.ndarray, gamma: float) -> np.ndarray:
        eye = np.eye(SIDE * SIDE).reshape(-1, SIDE, SIDE)
        columns = np.stack([self.normal(e).ravel() for e in eye], axis=1)
        system = np.eye(SIDE * SIDE) + gamma * columns
        rhs = x0 + gamma * self.back(self.y)
        return np.linalg.solve(system, rhs.ravel()).reshape(SIDE, SIDE)


def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
    """Real and imaginary part each by the prior of mean 0: one real filter on both."""
    f = np.fft.fftfreq(SIDE)
    s = 0.002 + 0.498 / (1 + (f[:, None] ** 2 + f**2) / 0.08**2) ** 2
    return np.fft.ifft2(np.fft.fft2(x) * s / (s + sigma**2))


@pytest.fixture
def mri(arrays):
    """Golden inputs, our problem and its numpy twin."""
    g = arrays("dds/dds2d_mri_official_f64")
    operator = MultiCoilMRI(g["sens"], g["mask"][0, 0])
    return g, Problem(operator(g["gt"]), operator), NumpyMRI(g)


def complex_noise(n: Tensor) -> Tensor:
    return torch.complex(n[:, 0], n[:, 1])


def run_mri(g, problem, replay, watched):
    sampler = DDS.configured("published", MultiCoilMRI, {"n_steps": 5, "gamma": float(g["gamma"])})
    prior = watched(gaussian(0.0))
    images = ImagePrior(prior, problem.item_shape, complex_=True)
    noises = [complex_noise(n) for n in (g["noise_init"], *g["noise_steps"])]
    return list(sampler.steps(problem, images, replay(noises))), prior


def test_mri_chain_equals_a_numpy_chain_with_hermitian_steps(mri, replay, watched):
    g, problem, twin = mri
    steps, prior = run_mri(g, problem, replay, watched)
    sigmas = ((1 - g["abar_t"]) / g["abar_t"]).sqrt().tolist()
    x = complex_noise(g["noise_init"])[0].numpy() * (1 + sigmas[0] ** 2) ** 0.5
    close(torch.complex(*prior.inputs[0][:, 0]) / (1 + sigmas[0] ** 2) ** 0.5,
          complex_noise(g["x_t"][0]))  # fmt: skip
    for k, step in enumerate(steps):
        x0 = denoise(x, sigmas[k])
        close(torch.complex(*prior.outputs[k][:, 0]), torch.as_tensor(x0))
        xh = twin.prox(x0, float(g["gamma"]), int(g["CG_iter"]))
        close(step.x0, torch.as_tensor(xh))
        if k < 3:
            n = complex_noise(g["noise_steps"][k])[0].numpy()
            eta = float(g["eta"])
            x = xh + sigmas[k + 1] * ((1 - eta**2) ** 0.5 * (x - x0) / sigmas[k] + eta * n)
        else:
            # The published chain lands on its last level without noise, xh being the VP state.
            x = xh * (1 + sigmas[-1] ** 2) ** 0.5
    close(torch.complex(*prior.outputs[0][:, 0]), g["cg_x_in"][0])  # before the faults can act


def test_mri_chain_converges_to_the_image_and_not_to_its_turned_copy(mri, replay, watched):
    g, problem, _ = mri
    result = run_mri(g, problem, replay, watched)[0][-1].x0
    truth = g["gt"]
    assert float((result - truth).norm() / truth.norm()) < RECOVERED
    assert float((result - (1 + 1j) * truth).norm() / truth.norm()) > 0.8
    official = g["final"][0, 0]
    assert float((official - truth).norm() / truth.norm()) > 0.9  # the fault that is not copied


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_mri_data_steps_solve_the_hermitian_system(mri, gamma):
    g, problem, twin = mri
    for x0 in g["cg_x_in"][:, 0, 0]:
        five = data_step(problem.unweighted, x0, gamma, iters=5).x
        close(five, torch.as_tensor(twin.prox(x0.numpy(), gamma, 5)), DOUBLE)
        exact = torch.as_tensor(twin.exact(x0.numpy(), gamma))
        close(data_step(problem.unweighted, x0, gamma, iters=60).x, exact, DOUBLE)
        close(five, exact, FIVE)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("gamma", [1, 5])
def test_mri_data_step_through_the_operator_matches_the_stored_iterates(arrays, gamma, steps):
    case = arrays("dds/mri_ops_cg_f64")
    operator = MultiCoilMRI(case["sens"], case["mask"][0, 0])
    problem = Problem(case["y"][0], operator)
    close(problem.unweighted.rhs, case["AHy"], DOUBLE)
    got = data_step(problem.unweighted, case["x0"], float(gamma), iters=steps).x
    close(got, case[f"hermitian_prox_g{gamma}_M{steps}"], DOUBLE)
