"""DPS: the released chain of a published repository replayed, and what the rules promise on small problems."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.nonlinear import NonlinearOperator
from restore.operators.phase.coded_fourier import CodedFourier
from restore.operators.phase.magnitudes import Magnitudes
from restore.operators.phase.pupil_views import PupilViews
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dps import DPS

DOUBLE = 1e-9  # float64: some steps of sums over 256 pixels; 2e-14 seen
RECOVERED = 0.2  # a photograph's missing pixels, with an imperfect prior; 0.02 seen
MET = 3.0  # misfit of a chain whose last push is at a noise level above the data's; 1.7 seen
ORACLE = 0.02  # what the last level leaves; 4e-9 seen

SHAPE = (3, 16, 16)


@pytest.fixture
def chain(arrays) -> dict[str, Tensor]:
    return arrays("reddiff/dps_inp")


def vp(x: Tensor, sigma: float) -> Tensor:
    return x / (1 + sigma**2) ** 0.5


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=DOUBLE)


def test_released_inpainting_chain(chain, replay, watched):
    """RED-diff's repository, deterministic share 0.5: states, noise estimates and clean estimates of every step."""
    g = chain
    operator = Inpainting(g["mask"][0].double(), SHAPE)
    problem = Problem(g["y"].reshape(1, *SHAPE), operator)
    close(problem.degraded, g["init_pinv"])
    prior = watched(GaussianPrior(g["mean"][0], spectrum=g["S"]))
    sampler = DPS.configured("published-ddim", Inpainting, {"n_steps": 5})
    assert sampler.eta == 0.5
    assert sampler.zeta == 2 * 0.5  # w/||r|| times the gradient of ||r||^2
    images = ImagePrior(prior, SHAPE, complex_=False)
    with torch.no_grad():
        steps = list(sampler.steps(problem, images, replay(g["noise"])))
    assert [s.evaluations for s in steps] == [1, 2, 3, 4, 5]
    for k, step in enumerate(steps):
        close(vp(prior.inputs[k], step.sigma), g["xt"][k])
        close((prior.inputs[k] - prior.outputs[k]) / step.sigma, g["eps_hat"][k])
        close(prior.outputs[k], g["x0_hats_low_to_high"][4 - k])
    close(steps[-1].x0, g["states_low_to_high"][0])


def reference(y: np.ndarray, matrix: np.ndarray, g: dict, w: float, eta: float) -> np.ndarray:
    """The same chain in variance-preserving coordinates, in numpy, for any dense operator."""
    spectrum, mean, noise = (g[k].numpy() for k in ("S", "mean", "noise"))
    alphas, times = g["alphas"].numpy(), g["t_visited"].tolist()

    def filtered(v, a):  # derivative of the clean estimate with respect to x_t
        return np.fft.ifft2(np.fft.fft2(v) * spectrum * np.sqrt(a) / (a * spectrum + 1 - a)).real

    first = alphas[times[0] + 1]
    start = (np.linalg.pinv(matrix) @ y).reshape(1, *SHAPE)
    x = np.sqrt(first) * start + np.sqrt(1 - first) * noise[0]
    for i, t in enumerate(times):
        a = alphas[t + 1]
        b = alphas[times[i + 1] + 1] if i + 1 < len(times) else 1.0
        xh = mean + filtered(x - np.sqrt(a) * mean, a)
        e = (x - np.sqrt(a) * xh) / np.sqrt(1 - a)
        r = y - matrix @ xh.ravel()
        gradient = filtered(-2 * (matrix.T @ r).reshape(1, *SHAPE), a)
        c1 = eta * np.sqrt((1 - a / b) * (1 - b) / (1 - a))
        c2 = np.sqrt(1 - b - c1**2)
        x = np.sqrt(b) * xh + c1 * noise[i + 1] + c2 * e - w / np.linalg.norm(r) * gradient
    return x


@pytest.mark.parametrize(("factor", "w", "eta"), [(4, 0.5, 0.5), (2, 0.3, 0.0), (4, 1.0, 1.0)])
def test_released_rule_for_super_resolution(chain, replay, factor, w, eta):
    g = chain
    operator = Downsample(SHAPE, factor, "area", torch.empty(0, dtype=torch.float64))
    eye = torch.eye(768, dtype=torch.float64).reshape(-1, *SHAPE)
    matrix = operator(eye).flatten(1).mT.numpy()
    y = operator(g["x_true"])
    sampler = DPS.configured(
        "published-ddim", Downsample, {"n_steps": 5, "zeta": 2 * w, "eta": eta}
    )
    images = ImagePrior(GaussianPrior(g["mean"][0], spectrum=g["S"]), SHAPE, complex_=False)
    with torch.no_grad():
        *_, last = sampler.steps(Problem(y, operator), images, replay(g["noise"]))
    close(last.x0, torch.as_tensor(reference(y.numpy().ravel(), matrix, g, w, eta)))


# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Squares(NonlinearOperator):
    """y = x^2 + x, pixel by pixel."""

    shape: tuple[int, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shape

    def _apply(self, x: Tensor) -> Tensor:
        return x**2 + x


@pytest.fixture
def run(generator) -> Callable[..., Tensor]:
    def steps(sampler: DPS, problem: Problem, prior: Denoiser, seed: int = 0) -> Tensor:
        images = ImagePrior(prior, problem.item_shape, problem.operator.is_complex)
        with torch.no_grad():
            *_, last = sampler.steps(problem, images, Draws(seed, problem.ids))
        return last.x0

    return steps


def white(mean: float = 0.5, variance: float = 0.05) -> GaussianPrior:
    return GaussianPrior(torch.full((8, 8), mean, dtype=torch.float64), spectrum=variance)


def test_a_nonlinear_measurement_is_met(run, generator):
    x = 0.5 + 0.2 * torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    operator = Squares((8, 8))
    problem = Problem(operator(x), operator, Gaussian(0.01))
    found = run(DPS(zeta=1.5), problem, white())
    assert float((found - x).norm() / (x - 0.5).norm()) < RECOVERED


def own_masks(gain: float) -> LinearOperator:
    """Somebody's masks: values of any phase and up to 3 times the gain, which spread the norm of A unevenly."""
    seeded = torch.Generator().manual_seed(4)
    sizes = 3 * gain * torch.rand(4, 8, 8, generator=seeded, dtype=torch.float64)
    return CodedFourier(
        torch.polar(sizes, 6 * torch.rand(4, 8, 8, generator=seeded, dtype=torch.float64)), (8, 8)
    )


def own_pupil(gain: float) -> LinearOperator:
    """A lens out of focus, seen through by nine lamps."""
    d = torch.arange(5, dtype=torch.float64) - 2
    square = d[:, None] ** 2 + d**2
    pupil = torch.polar(gain * (square <= 5).double(), 0.3 * square)
    tilts = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    return PupilViews(pupil, tilts, (8, 8))


@pytest.mark.parametrize("own", [own_masks, own_pupil])
def test_magnitudes_of_any_gain_give_the_same_image(run, generator, own):
    """With masks of norm 3 the chain left all bounds while the step took every non-linear operator to have norm 1."""
    x = 0.5 + 0.2 * torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    found = []
    for gain in (0.1, 1.0, 8.0):
        operator = Magnitudes(own(gain))
        problem = Problem(operator(x), operator, Gaussian(0.01 * gain))
        found.append(run(DPS.configured("tuned", Magnitudes, {}), problem, white()))
        assert problem.misfit(found[-1]) < MET
    for image in found[1:]:
        torch.testing.assert_close(image, found[0], rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("guidance", ["norm", "square", "relative", "likelihood"])
def test_items_of_a_batch_do_not_meet(run, generator, guidance):
    x = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    operator: LinearOperator = Inpainting((torch.arange(8) % 2).double(), (8, 8))
    sampler = DPS(n_steps=6, guidance=guidance, zeta=0.01)
    scaled = operator(x) * torch.tensor([1.0, 30.0, 0.0]).reshape(3, 1, 1)
    whole = run(sampler, Problem(scaled, operator, Gaussian(0.1)), white())
    for k in range(3):
        one = Problem(scaled[k : k + 1], operator, Gaussian(0.1), ids=(str(k),))
        torch.testing.assert_close(
            run(sampler, one, white())[0], whole[k], rtol=DOUBLE, atol=DOUBLE
        )


def test_the_norm_has_no_gradient_where_the_data_are_met(run):
    """Without measured pixels the residual is zero: the chain is the prior's."""
    operator = Inpainting(torch.zeros(8, 8), (8, 8))
    y = torch.zeros(1, 8, 8, dtype=torch.float64)
    settings = {"n_steps": 60, "schedule": "vp", "start": "noise", "noise_rule": "ddim"}
    free = run(DPS(**settings, guidance="norm", zeta=0.0), Problem(y, operator), white())
    found = run(DPS(**settings, guidance="norm", zeta=1.0), Problem(y, operator), white())
    torch.testing.assert_close(found, free, rtol=0, atol=0)


def test_clipping_is_an_option(run, generator):
    x = 3 * torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    operator = Inpainting(torch.ones(8, 8), (8, 8))
    problem = Problem(operator(x), operator, Gaussian(0.01))
    wide = white(0.0, 9.0)
    free = run(DPS(guidance="relative"), problem, wide)
    assert float((free - x).norm() / x.norm()) < ORACLE
    clipped = run(DPS(guidance="relative", zeta=0.0, clip_x0=True), problem, wide)
    assert float(clipped.min()) >= 0
    assert float(clipped.max()) <= 1


def test_refusals(run):
    operator = Inpainting(torch.ones(8, 8), (8, 8))
    problem = Problem(torch.zeros(1, 8, 8), operator)
    with pytest.raises(ConfigError, match="noise level"):
        run(DPS(guidance="likelihood"), problem, white())
    for settings in ({"eta": 1.5}, {"zeta": -1.0}, {"n_steps": 0}, {"sigma_start": 0.001}):
        with pytest.raises(ConfigError):
            DPS(**settings)
    mri = MultiCoilMRI.single_coil(torch.ones(8), (8, 8))
    scan = Problem(torch.zeros(1, 1, 8, 8, dtype=torch.complex64), mri)
    with pytest.raises(ConfigError, match="clip_x0"):
        run(DPS(clip_x0=True), scan, white())


def test_too_strong_a_push_is_reported(run, generator):
    y = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    problem = Problem(y, Inpainting(torch.ones(8, 8), (8, 8)), Gaussian(1e-3))
    sampler = DPS(n_steps=1000, schedule="vp", start="noise", guidance="square", zeta=1e6)
    with pytest.raises(DivergenceError, match=r"step \d+ of 1000"):
        run(sampler, problem, white())
