"""PiGDM: the released chain replayed, its noiseless and noisy forms against dense pseudo-inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.pigdm import PiGDM

DOUBLE = 1e-9  # float64: some steps of sums over 256 pixels; 2e-14 seen
FITTED = 0.02  # what the last level leaves; 5e-6 seen
SAMPLED = 0.05  # deviations over samples of a fixed seed

SHAPE = (3, 16, 16)


@pytest.fixture
def chain(arrays) -> dict[str, Tensor]:
    return arrays("reddiff/pgdm_inp")


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=DOUBLE)


def test_released_inpainting_chain(chain, replay, watched):
    """RED-diff's repository: seen pixels are put into the estimate, and only unseen ones are guided."""
    g = chain
    operator = Inpainting(g["mask"][0].double(), SHAPE)
    problem = Problem(g["y"].reshape(1, *SHAPE), operator)
    prior = watched(GaussianPrior(g["mean"][0], spectrum=g["S"]))
    sampler = PiGDM.configured("published-inpainting", Inpainting, {"n_steps": 5})
    assert (sampler.eta, sampler.w, sampler.keep_seen) == (1.0, 1.0, True)
    images = ImagePrior(prior, SHAPE, complex_=False)
    with torch.no_grad():
        steps = list(sampler.steps(problem, images, replay(g["noise"])))
    assert [s.evaluations for s in steps] == [1, 2, 3, 4, 5]
    for k, step in enumerate(steps):
        s = step.sigma
        close(prior.inputs[k] / (1 + s**2) ** 0.5, g["xt"][k])
        close((prior.inputs[k] - prior.outputs[k]) / s, g["eps_hat"][k])
        kept = torch.where(g["mask"], problem.y, prior.outputs[k])
        close(kept, g["x0_hats_low_to_high"][4 - k])
    close(steps[-1].x0, g["states_low_to_high"][0])


def reference(
    y: np.ndarray, matrix: np.ndarray, g: dict, eta: float, w: float, std: float
) -> np.ndarray:
    """The paper's chain in variance-preserving coordinates, in numpy, with a dense inverse."""
    spectrum, mean, noise = (g[k].numpy() for k in ("S", "mean", "noise"))
    alphas, times = g["alphas"].numpy(), g["t_visited"].tolist()

    def filtered(v, a):
        return np.fft.ifft2(np.fft.fft2(v) * spectrum * np.sqrt(a) / (a * spectrum + 1 - a)).real

    first, pinv = alphas[times[0] + 1], np.linalg.pinv(matrix)
    x = np.sqrt(first) * (pinv @ y).reshape(1, *SHAPE) + np.sqrt(1 - first) * noise[0]
    for i, t in enumerate(times):
        a = alphas[t + 1]
        b = alphas[times[i + 1] + 1] if i + 1 < len(times) else 1.0
        xh = mean + filtered(x - np.sqrt(a) * mean, a)
        e = (x - np.sqrt(a) * xh) / np.sqrt(1 - a)
        r = y - matrix @ xh.ravel()
        if std:
            r2 = 1 - a
            inverse = np.linalg.inv(r2 * matrix @ matrix.T + std**2 * np.eye(len(matrix)))
            d = r2 * matrix.T @ inverse @ r
        else:
            d = pinv @ r
        c1 = eta * np.sqrt((1 - a / b) * (1 - b) / (1 - a))
        c2 = np.sqrt(1 - b - c1**2)
        raised = w * np.sqrt(a * b) * filtered(d.reshape(1, *SHAPE), a)
        x = np.sqrt(b) * xh + c1 * noise[i + 1] + c2 * e + raised
    return x


@pytest.mark.parametrize("std", [0.0, 0.2])
@pytest.mark.parametrize(("factor", "eta", "w"), [(4, 1.0, 1.0), (2, 0.4, 0.7)])
def test_published_rule_for_super_resolution(chain, replay, factor, eta, w, std):
    g = chain
    operator = Downsample(SHAPE, factor, "area", torch.empty(0, dtype=torch.float64))
    eye = torch.eye(768, dtype=torch.float64).reshape(-1, *SHAPE)
    matrix = operator(eye).flatten(1).mT.numpy()
    y = operator(g["x_true"]) + 0.1
    sampler = PiGDM.configured("published", Downsample, {"n_steps": 5, "eta": eta, "w": w})
    problem = Problem(y, operator, Gaussian(std) if std else None)
    images = ImagePrior(GaussianPrior(g["mean"][0], spectrum=g["S"]), SHAPE, complex_=False)
    with torch.no_grad():
        *_, last = sampler.steps(problem, images, replay(g["noise"]))
    close(last.x0, torch.as_tensor(reference(y.numpy().ravel(), matrix, g, eta, w, std)))


# ---------------------------------------------------------------------------------------------


def final(sampler: PiGDM, problem: Problem, variance: float = 0.05) -> Tensor:
    mean = torch.full((8, 8), 0.5, dtype=torch.float64)
    prior = GaussianPrior(mean, spectrum=variance)
    images = ImagePrior(prior, problem.item_shape, problem.operator.is_complex)
    with torch.no_grad():
        *_, last = sampler.steps(problem, images, Draws(0, problem.ids))
    return last.x0


def seen() -> LinearOperator:
    return Inpainting((torch.arange(64).reshape(8, 8) % 3 == 0).double(), (8, 8))


@pytest.mark.parametrize("rule", ["published", "posterior"])
def test_noiseless_data_are_met(rule, generator):
    x = 0.5 + 0.2 * torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    operator = seen()
    problem = Problem(operator(x), operator)
    found = final(PiGDM(rule=rule), problem)
    assert float(problem.residual(found).norm() / problem.y.norm()) < FITTED


def test_the_right_spread_is_exact_on_a_white_prior(generator):
    """A white prior has P = r^2 I with S^2 its variance: the ancestral chain ends in the posterior, mean and spread."""
    variance, std, count = 0.09, 0.1, 300
    x = 0.5 + 0.3 * torch.randn(8, 8, generator=generator, dtype=torch.float64)
    operator = seen()
    y = (operator(x) + std * operator.mask * 0.7).expand(count, 8, 8)
    sampler = PiGDM(
        n_steps=300, sigma_start=20.0, start="noise", noise_rule="ddim", prior_std=0.3, turns=False
    )
    found = final(sampler, Problem(y, operator, Gaussian(std)), variance)
    gain = operator.mask * variance / (variance + std**2)
    mean = 0.5 + gain * (y[0] - 0.5)
    spread = (variance * (1 - gain)).sqrt()
    assert float((found.mean(0) - mean).abs().mean()) < 3 * float(spread.mean()) / count**0.5
    assert float((found.std(0) / spread).mean()) == pytest.approx(1, abs=SAMPLED)


def test_complex_images(generator):
    operator = MultiCoilMRI.single_coil(torch.arange(8) % 2 == 0, (8, 8)).to(torch.float64)
    x = torch.randn(2, 8, 8, 2, generator=generator, dtype=torch.float64)
    problem = Problem(operator(torch.view_as_complex(x)), operator, Gaussian(0.01))
    found = final(PiGDM(), problem, variance=1.0)
    assert found.is_complex()
    assert problem.misfit(found) < 2


def test_refusals():
    for settings in (
        {"eta": 2.0},
        {"w": -1.0},
        {"prior_std": 0.0},
        {"cg_iters": 0},
        {"n_steps": 0},
    ):
        with pytest.raises(ConfigError):
            PiGDM(**settings)
    operator = Downsample((8, 8), 2)
    with pytest.raises(ConfigError, match="keep_seen"):
        final(PiGDM(keep_seen=True), Problem(torch.zeros(1, 4, 4), operator))
