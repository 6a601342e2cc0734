"""STSL where theory says what must happen: Gaussian priors, mixtures, oracles, batches, refusals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Gaussian
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianMixture, GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentModel, LatentPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.stsl import STSL
from restore.samplers.toolbox.codes import (
    backprojection,
    decoder_gain,
    first_image,
    largest_gain,
)
from restore.samplers.toolbox.inversion import inverted
from restore.samplers.toolbox.levels import NoiseLevel, place
from restore.samplers.toolbox.surrogate import Surrogate

DOUBLE = 1e-8  # float64: some steps, each of sums over 256 pixels and a gradient; 3e-11 seen
SLOPE = 1e-3  # a finite difference of traces; 3e-6 seen
SAMPLED = 0.05  # a mean over random probes of a fixed seed
GLUED = 1e-6  # where data are they are taken over, but for the last level
RECOVERED = 1e-3  # what the last level leaves
TOP = 0.06  # the largest of eigenvalues by a few steps from random starts
GAIN = 0.05  # the gain is estimated by probes; 2e-14 seen with this prior

SHAPE = (3, 8, 8)
SIDE = 8


class Linear(LatentModel):
    """Codes (4, 4, 4) = W^T x, images W z / k + 1/2, W with orthonormal columns; codes by a given denoiser."""

    factor = 2

    def __init__(self, denoiser: Callable[[Tensor, float], Tensor], k: float = 1.0) -> None:
        g = torch.Generator().manual_seed(11)
        noise = torch.randn(math.prod(SHAPE), 64, generator=g, dtype=torch.float64)
        self.w, self.k, self.denoiser = torch.linalg.qr(noise).Q, k, denoiser

    def encode(self, x: Tensor) -> Tensor:
        return (self.k * (x - 0.5).flatten(1) @ self.w.to(x)).reshape(-1, 4, 4, 4)

    def decode(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.w.mT.to(z) / self.k).reshape(-1, *SHAPE) + 0.5

    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        assert isinstance(sigma, float)
        return self.denoiser(z, sigma)


def shrink(z: Tensor, sigma: float) -> Tensor:
    """Exact for codes N(0, 1)."""
    return z / (1 + sigma**2)


def bent(z: Tensor, sigma: float) -> Tensor:
    """Not Gaussian: its score has a Hessian that varies."""
    return torch.tanh(z) / (1 + sigma**2)


def latent(
    problem: Problem, denoiser: Callable[[Tensor, float], Tensor] = shrink, k: float = 1.0
) -> LatentPrior:
    return LatentPrior(Linear(denoiser, k), problem.item_shape)


def pixel(problem: Problem, prior: Denoiser) -> LatentPrior:
    return LatentPrior(
        ImagePrior(prior, problem.item_shape, problem.operator.is_complex), problem.item_shape
    )


def images(count: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand((count, *SHAPE), generator=g, dtype=torch.float64)


def problem_of(kind: str, x: Tensor, std: float | None = 0.05) -> Problem:
    g, like = torch.Generator().manual_seed(2), torch.empty(0, dtype=torch.float64)
    mask = (torch.rand(SIDE, SIDE, generator=g) < 0.5).double()
    operator = {
        "inpaint": Inpainting(mask, SHAPE),
        "superres": Downsample(SHAPE, 2, "bicubic", like),
        "deblur": Blur(gaussian(0.8, dtype=torch.float64), SHAPE, "circular"),
        "denoise": Identity(SHAPE),
    }[kind]
    return Problem(operator(x), operator, None if std is None else Gaussian(std))


def run(sampler: STSL, problem: Problem, prior: LatentPrior, seed: int = 0) -> list[Step]:
    with torch.no_grad():
        return list(sampler.steps(problem, prior, Draws(seed, problem.ids)))


# ---------------------------------------------------------------------------------------------
# Second order


@pytest.mark.parametrize("apply", ["before", "after"])
@pytest.mark.parametrize("weight", ["covariance", "const", "bound"])
@pytest.mark.parametrize("codes", ["latent", "pixel"])
def test_the_trace_term_does_nothing_on_a_gaussian_prior(codes, weight, apply):
    """The Hessian of a Gaussian's log density is constant."""
    problem = problem_of("deblur", images(2))
    spectrum = 1 / (1 + torch.fft.fftfreq(SIDE).double().square() * 40)
    mean = torch.full(SHAPE, 0.4, dtype=torch.float64)
    prior = GaussianPrior(mean, spectrum=0.1 * spectrum[:, None] * spectrum)
    settings = {
        "n_steps": 3,
        "inner_steps": 2,
        "lam": 0.5,
        "trace_weight": weight,
        "apply": apply,
        "fresh": apply == "before",
    }
    results = [
        run(
            STSL(eta=eta, **settings),
            problem,
            latent(problem) if codes == "latent" else pixel(problem, prior),
        )
        for eta in (0.0, 0.02, 1.0)
    ]
    # The gradient of a difference quotient: what rounding leaves of it, 1e-16 over delta, seen 4e-10 on some kernels.
    near = {"rtol": DOUBLE, "atol": DOUBLE}
    for other in results[1:]:
        torch.testing.assert_close(other[-1].x0, results[0][-1].x0, **near)
    without = STSL(second_order=False, eta_ddim=0.0, **settings)
    with_it = STSL(eta=1.0, eta_ddim=0.0, **settings)
    first, second = (run(s, problem, latent(problem)) for s in (without, with_it))
    torch.testing.assert_close(first[-1].x0, second[-1].x0, **near)


def mixture() -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.5, 1.2, -0.3], [1.0, -0.8, -0.4, 0.9]], dtype=torch.float64)
    return GaussianMixture(
        means.reshape(2, 2, 2),
        torch.tensor([0.05, 0.3], dtype=torch.float64),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
    )


def trace_of_covariance(prior: Denoiser, z: Tensor, sigma: float) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda v: prior(v, sigma), z)
    return float(sigma**2 * torch.einsum("abcdabcd->", jacobian))


@pytest.mark.parametrize("delta", ["paper", "scaled"])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_trace_term_makes_the_estimate_more_certain(sigma, delta):
    """tr P_t = (s^2/a^2)(d + s^2 tr Hess log p) falls along the push."""
    prior = mixture()
    operator = Identity((2, 2))
    problem = Problem(torch.zeros(1, 2, 2, dtype=torch.float64), operator)
    settings = {
        "data_step": "none",
        "lam": 0.0,
        "eta": 0.1,
        "trace_weight": "const",
        "cap": None,
        "delta": delta,
    }
    g = torch.Generator().manual_seed(4)
    for _ in range(2):
        z = 0.1 * torch.randn(1, 1, 2, 2, generator=g, dtype=torch.float64)
        before = trace_of_covariance(prior, z, sigma)
        sampler = Surrogate(STSL(**settings), problem, pixel(problem, prior), Draws(0, ("0",)))
        level, code = place(0, 1, sigma), z[:, 0]
        for _ in range(40):
            code = code - sampler.guide(code, level, sigma, 0).push
        assert trace_of_covariance(prior, code[:, None], sigma) < 0.95 * before


def test_the_covariance_weight_makes_the_term_a_posterior_variance():
    """Along the term's mean, eta tr Cov(z0 | z) changes as the loss does."""
    prior, sigma = mixture(), 0.6
    problem = Problem(torch.zeros(1, 2, 2, dtype=torch.float64), Identity((2, 2)))
    level = place(0, 1, sigma)
    settings = {"data_step": "none", "eta": 1.0, "delta_scale": 1e-4, "cap": None}
    points = [
        torch.tensor(p, dtype=torch.float64).reshape(1, 2, 2)
        for p in ([0.1, 0, 0.2, 0], [0.6, -0.3, 0.1, 0.3])
    ]
    loss = []
    for z in points:
        # Probes along the axes, doubled: the average of v v^T is the identity.
        probes = 2 * torch.eye(4, dtype=torch.float64).reshape(4, 2, 2)
        chain = Surrogate(STSL(**settings), problem, pixel(problem, prior), Draws(0, ("0",)))
        _, _, trace = chain.estimate(z.expand(4, 2, 2), level, 0, probes)
        assert trace is not None
        loss.append(float(trace.mean() * chain.trace_weight(z, level, 0.0)))
    exact = [trace_of_covariance(prior, z[:, None], sigma) for z in points]
    assert abs(exact[1] - exact[0]) > 0.1
    assert loss[1] - loss[0] == pytest.approx(exact[1] - exact[0], rel=SLOPE)


def test_the_bound_weighs_the_trace_by_the_gain_of_operator_and_decoder():
    problem = problem_of("superres", images(1))
    prior, draws = latent(problem, bent, k=0.5), Draws(0, ("0",))
    settings = {"trace_weight": "bound", "mode": "square", "lam": 3.0, "data_step": "none", "cap": None}  # fmt: skip
    level, z = place(0, 1, 0.7), torch.randn(1, 4, 4, 4, generator=torch.Generator()).double()
    losses = [
        Surrogate(STSL(eta=eta, **settings), problem, prior, Draws(0, ("0",))).guide(z, level, 0.7, 0).loss
        for eta in (0.0, 1.0)
    ]  # fmt: skip
    v = draws.normal_like(z, 3)
    _, _, trace = Surrogate(STSL(**settings), problem, prior, draws).estimate(z, level, 0, v)
    assert trace is not None
    w = prior.model.w / 0.5  # type: ignore[union-attr]
    columns = problem.operator(w.mT.reshape(-1, *SHAPE)).flatten(1)
    gain = torch.linalg.matrix_norm(columns, 2) ** 2
    torch.testing.assert_close(
        losses[1] - losses[0], 3.0 * gain * level.s**4 / level.a**2 * trace, rtol=SAMPLED, atol=0
    )


# ---------------------------------------------------------------------------------------------
# Recovery


@pytest.mark.parametrize("preset", STSL.presets)
@pytest.mark.parametrize("kind", ["inpaint", "superres", "deblur", "denoise"])
def test_a_code_oracle_recovers_the_truth(kind, preset):
    code = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    truth = Linear(shrink).decode(code)
    problem = problem_of(kind, truth)
    sampler = STSL.configured(preset, type(problem.operator), {"n_steps": 10})
    prior = latent(problem, lambda z, sigma: code.repeat(z.shape[0] // 2, 1, 1, 1) + 0 * z)
    steps = run(sampler, problem, prior)
    error = float((steps[-1].x0 - truth).norm() / truth.norm())
    # Released code decodes its lowest level, noise and all.
    assert error < (0.05 if sampler.landing else 2e-3), error
    assert steps[-1].evaluations == sampler.cost()


@pytest.mark.parametrize("std", [None, 0.02])
def test_the_data_step_brings_in_what_the_decoder_cannot_say(std):
    truth = images(2, seed=3)
    problem = problem_of("inpaint", truth, std)
    code = Linear(shrink).encode(truth)
    prior = latent(problem, lambda z, sigma: code.repeat(z.shape[0] // 2, 1, 1, 1) + 0 * z)
    seen = problem.operator(torch.ones_like(truth)) > 0
    with_it, without = (
        run(STSL(data_step=rule), problem, prior)[-1].x0 for rule in ("proximal", "none")
    )
    lost = float((without - truth)[seen].norm())
    assert lost > 1
    if std is None:
        torch.testing.assert_close(with_it[seen], truth[seen], rtol=GLUED, atol=GLUED)
    else:
        assert float((with_it - truth)[seen].norm()) < lost


def mri(count: int) -> tuple[Problem, Tensor]:
    g = torch.Generator().manual_seed(6)
    maps = torch.randn(4, SIDE, SIDE, generator=g, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    operator = MultiCoilMRI(maps, torch.rand(SIDE, generator=g) < 0.6)
    truth = 2 * torch.randn(count, SIDE, SIDE, generator=g, dtype=torch.complex128)
    return Problem(operator(truth), operator, Gaussian(0.05)), truth


def test_complex_pixels_pass_as_identity_codes(oracle):
    problem, truth = mri(2)
    sampler = STSL(inner_steps=2, n_steps=10)
    model = oracle(truth)

    class Flat(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return model(x, sigma) + 0 * x

    x0 = run(sampler, problem, pixel(problem, Flat()))[-1].x0
    assert float((x0 - truth).norm() / truth.norm()) < RECOVERED


def test_complex_and_real_codes_agree():
    """A real image as a complex one: the same estimate, the trace of twice as many dimensions."""
    problem, _ = mri(1)
    real = Problem(torch.zeros(1, 2, 2).double(), Identity((2, 2)))
    prior, level = mixture(), place(0, 1, 0.8)
    z = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    v = torch.ones_like(z)
    one = Surrogate(STSL(data_step="none"), real, pixel(real, prior), Draws(0, ("0",)))
    two = Surrogate(STSL(data_step="none"), problem, pixel(problem, prior), Draws(0, ("0",)))
    two.prior = LatentPrior(ImagePrior(prior, (2, 2), complex_=True), (2, 2))
    both = torch.complex(z, z)
    zh, e, trace = one.estimate(z, level, 0, v)
    zh2, e2, trace2 = two.estimate(both, level, 0, torch.complex(v, v))
    torch.testing.assert_close(zh2, torch.complex(zh, zh))
    torch.testing.assert_close(e2, torch.complex(e, e))
    torch.testing.assert_close(trace2, 2 * trace)
    assert (one.evaluations, two.evaluations) == (2, 2)


def test_non_linear_measurements_are_fitted():
    projection = ParallelBeamCT(
        ParallelBeam.covering(shape=(SIDE, SIDE), views=7), dtype=torch.float64
    )
    operator = BeerLambert(projection, 1.0)
    truth = 0.05 * torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(8)).double()
    problem = Problem(operator(truth), operator)
    prior = GaussianPrior(torch.full((SIDE, SIDE), 0.025).double(), spectrum=0.001)
    sampler = STSL.configured(
        "tuned", BeerLambert, {"n_steps": 20, "sigma_start": 0.1, "second_order": False}
    )
    *_, last = run(sampler, problem, pixel(problem, prior))
    assert problem.misfit(last.x0) < 0.3 * problem.misfit(torch.full_like(truth, 0.025))


def test_ddim_inversion_leads_back_to_its_image():
    def predict(z: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        zh = shrink(z, level.sigma)
        return zh, (z - zh) / level.sigma

    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    sigmas = torch.logspace(-2, 1, 400, dtype=torch.float64).tolist()
    top = inverted(predict, z, sigmas, "ddim")
    # The DDIM path of a Gaussian is z sqrt(1 + sigma^2).
    torch.testing.assert_close(top, z * 101**0.5, rtol=TOP, atol=0)
    for s, lower in itertools.pairwise(reversed(sigmas)):
        zh, e = predict(top, place(0, 1, s))
        top = zh + lower * e
    torch.testing.assert_close(top, z, rtol=TOP, atol=0)


# ---------------------------------------------------------------------------------------------
# Batches, failures, refusals


@pytest.mark.parametrize(
    "settings",
    [
        {"inner_steps": 2},
        {"mode": "square", "trace_weight": "bound", "gamma": 0.1, "cap": 0.02, "noisy_loss": 0.05},
        {
            "apply": "after",
            "fresh": False,
            "data_step": "none",
            "delta": "paper",
            "trace_weight": "const",
        },
        {"inversion_steps": 5, "fresh": False, "gamma": 0.1, "transpose": "adjoint"},
        {"inversion_steps": 5, "inversion": "bdia"},
        {"inversion_steps": 5, "inversion": "edict"},
        {"schedule": "ldm", "start": "noise", "noise_rule": "ddim", "eta_ddim": 0.5},
    ],
)
def test_a_batch_gives_what_its_items_give(settings):
    x = images(3)
    sampler = STSL(**({"n_steps": 5, "lam": 0.5} | settings))
    problem = problem_of("superres", x)
    whole = run(sampler, problem, latent(problem, bent))
    assert whole[-1].evaluations == sampler.cost()
    for k in (2, 0):
        alone = Problem(problem.y[k : k + 1], problem.operator, problem.noise, ids=(str(k),))
        result = run(sampler, alone, latent(alone, bent))[-1].x0
        torch.testing.assert_close(result[0], whole[-1].x0[k], rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize(
    "settings", [{"lam": 0.5}, {"apply": "after", "fresh": False}, {"inner_steps": 0}]
)
@pytest.mark.parametrize("good", [0, 4])
def test_a_nan_from_the_network_stops_with_the_step_named(settings, good):
    problem, calls = problem_of("denoise", images(2)), itertools.count()
    sampler = STSL(n_steps=8, **settings)
    prior = latent(problem, lambda z, sigma: z * (0.5 if next(calls) < good else torch.nan))
    with pytest.raises(DivergenceError, match=r"STSL: .* step \d of 8, sigma"):
        run(sampler, problem, prior)


def test_long_pushes_are_shortened_and_reported():
    problem = problem_of("deblur", images(2))
    settings = {"n_steps": 3, "lam": 1e4, "data_step": "none", "second_order": False}
    free = run(STSL(cap=None, **settings), problem, latent(problem))
    held = run(STSL(cap=0.05, **settings), problem, latent(problem))
    assert [s.info["capped"] for s in held] == [2, 2, 2]
    assert [s.info["capped"] for s in free] == [0, 0, 0]
    assert free[-1].x0.norm() > 10 * held[-1].x0.norm()


def test_missing_pixels_start_at_middle_intensity():
    truth = images(1)
    problem = problem_of("inpaint", truth)
    start = first_image(problem, latent(problem))
    seen = problem.operator(torch.ones_like(truth)) > 0
    torch.testing.assert_close(start[seen], truth[seen])
    assert bool((start[~seen] == 0.5).all())
    blurred = problem_of("deblur", truth)
    torch.testing.assert_close(first_image(blurred, latent(blurred)), blurred.y)


def test_gluing_shows_low_resolution_by_repeated_pixels_or_by_the_adjoint():
    problem = problem_of("superres", images(1))
    repeated = backprojection(problem, "official")(problem.y)
    assert torch.equal(repeated[..., 0::2, 1::2], problem.y)
    adjoint = backprojection(problem, "adjoint")(problem.y)
    torch.testing.assert_close(adjoint, problem.linear.adjoint(problem.y))
    mask = problem_of("inpaint", images(1))
    assert backprojection(mask, "official")(mask.y) is mask.y


def test_gains_of_linear_maps_are_their_norms():
    g = torch.Generator().manual_seed(9)
    matrix = torch.randn(5, 8, generator=g, dtype=torch.float64)
    z, v = (torch.randn(3, 2, 4, generator=g, dtype=torch.float64) for _ in range(2))
    gain = largest_gain(lambda x: x.flatten(1) @ matrix.mT, z, v, 2)
    wanted = torch.linalg.matrix_norm(matrix, 2).expand(3) ** 2
    torch.testing.assert_close(gain, wanted, rtol=GAIN, atol=0)
    problem = problem_of("denoise", images(1))
    assert decoder_gain(pixel(problem, mixture()), problem) == 1
    # Orthonormal columns: 64 of 192 directions, each stretched by 1/k.
    assert decoder_gain(latent(problem, k=0.5), problem) == pytest.approx(2 / 3**0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"inner_steps": -1},
        {"inversion_steps": -1},
        {"inversion": "bdia"},
        {"inversion": "edict", "inversion_steps": 5, "start": "noise"},
        {"cg_iters": 0},
        {"n_steps": 0},
        {"n_steps": 1001, "schedule": "sd"},
        {"sigma_end": 2.0},
        {"eta_ddim": 1.5},
        {"lam": -1.0},
        {"eta": math.nan},
        {"gamma": math.inf},
        {"cap": 0.0},
        {"width": 0.0},
        {"apply": "after"},
        {"fresh": False, "inner_steps": 0},
        {"apply": "after", "inner_steps": 0, "fresh": False},
        {"second_order": False},
        {"trace_weight": "bound"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        STSL(**wrong)
