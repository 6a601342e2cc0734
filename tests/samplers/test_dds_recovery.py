"""DDS with a denoiser that knows the truth, its modes and its refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Exact, Gaussian
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.wrappers import FromDenoiser
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.dds import DDS
from restore.samplers.reddiff import REDdiff

DOUBLE = 1e-9  # float64: CG steps on some hundred unknowns; 5e-14 seen

SIDE = 16


def slices(count: int, generator: torch.Generator, complex_: bool) -> Tensor:
    """Images with values far beyond 1 and below 0: nothing may clip them."""
    shape = (count, SIDE, SIDE)
    real = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    imaginary = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.complex(real, imaginary) if complex_ else real


def operator_of(kind: str, generator: torch.Generator):
    if kind == "mri":
        maps = torch.randn(4, SIDE, SIDE, generator=generator, dtype=torch.complex128)
        maps = maps / torch.linalg.vector_norm(maps, dim=0)
        return MultiCoilMRI(maps, torch.rand(SIDE, generator=generator) < 0.4)
    if kind == "ct":
        return ParallelBeamCT(
            ParallelBeam.covering(shape=(SIDE, SIDE), views=5), dtype=torch.float64
        )
    return Inpainting.random((SIDE, SIDE), 0.3, generator)


def run(sampler: DDS, problem: Problem, prior: Denoiser, seed: int = 0) -> Tensor:
    images = ImagePrior(prior, problem.item_shape, problem.operator.is_complex)
    *_, last = sampler.steps(problem, images, Draws(seed, problem.ids))
    return last.x0


@pytest.mark.parametrize("weight", ["noise", "fixed", "krylov"])
@pytest.mark.parametrize("std", [None, 0.05])
@pytest.mark.parametrize("kind", ["mri", "ct", "inpainting"])
def test_the_truth_is_a_fixed_point(oracle, generator, kind, std, weight):
    operator = operator_of(kind, generator)
    truth = slices(3, generator, operator.is_complex)
    noise = None if std is None else Gaussian(std)
    problem = Problem(operator(truth), operator, noise)
    got = run(DDS(n_steps=6, data_weight=weight), problem, oracle(truth))
    torch.testing.assert_close(got, truth, rtol=DOUBLE, atol=DOUBLE)
    assert problem.misfit(got) < DOUBLE


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_noisy_data_pull_the_truth_as_far_as_the_last_level_allows(oracle, generator, kind):
    operator = operator_of(kind, generator)
    truth = slices(1, generator, operator.is_complex)
    noise = Gaussian(0.05)
    problem = Problem(noise.sample(operator(truth), generator), operator, noise)
    end = 0.001
    got = run(DDS(n_steps=4, sigma_end=end, gamma=1.0, cg_iters=60), problem, oracle(truth))
    bound = end**2 / 0.05 * operator.norm() * math.sqrt(2 * problem.y.numel())
    assert 0 < float((got - truth).norm()) < bound


def test_dds_3d_couples_slices_and_keeps_a_constant_volume(oracle, generator):
    operator = operator_of("ct", generator)
    truth = slices(1, generator, complex_=False).expand(4, SIDE, SIDE)
    problem = Problem(operator(truth), operator, Gaussian(0.1))
    for boundary in ("periodic", "neumann"):
        sampler = DDS(n_steps=4, tv_weight=0.1, tv_boundary=boundary)
        torch.testing.assert_close(
            run(sampler, problem, oracle(truth)), truth, rtol=DOUBLE, atol=DOUBLE
        )
    rough = slices(4, generator, complex_=False)
    loose = Problem(operator(rough), operator, Gaussian(10.0))
    smooth = run(DDS(n_steps=8, tv_weight=5.0, tv_rho=5.0, cg_iters=50), loose, oracle(rough))
    assert smooth.diff(dim=0).abs().sum() < 0.7 * rough.diff(dim=0).abs().sum()


def test_dds_3d_needs_slices(oracle, generator):
    operator = operator_of("ct", generator)
    truth = slices(1, generator, complex_=False)[0]
    problem = Problem(operator(truth), operator)
    with pytest.raises(ConfigError, match="slice dimension"):
        run(DDS(tv_weight=0.1), problem, oracle(truth))


class Failing(Denoiser):
    """Returns a nan from the given call on."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.calls += 1
        out = x.clone()
        if self.calls >= self.call:
            out[0, 0, 0, 0] = torch.nan
        return out


@pytest.mark.parametrize("settings", [{}, {"data_weight": "krylov"}, {"tv_weight": 0.1}])
def test_a_nan_stops_at_its_step(generator, settings):
    operator = operator_of("ct", generator)
    problem = Problem(operator(slices(2, generator, complex_=False)), operator, Gaussian(0.1))
    sampler = DDS(n_steps=7, **settings)
    with pytest.raises(DivergenceError, match=r"step 3 of 7, sigma 0\.") as caught:
        run(sampler, problem, Failing(3))
    assert f"{sampler.levels()[2].sigma:.4g}" in str(caught.value)


def test_items_do_not_feel_their_company(generator):
    operator = operator_of("mri", generator)
    problem = Problem(operator(slices(3, generator, complex_=True)), operator, Gaussian(0.1))
    prior = GaussianPrior(torch.zeros(SIDE, SIDE).double(), spectrum=4.0)
    whole = run(DDS(n_steps=5), problem, prior)
    for k in (2, 0):
        alone = Problem(problem.y[k : k + 1], operator, Gaussian(0.1), ids=(str(k),))
        torch.testing.assert_close(
            run(DDS(n_steps=5), alone, prior)[0], whole[k], rtol=DOUBLE, atol=DOUBLE
        )


def test_unknown_noise_falls_back_to_krylov_steps(generator):
    operator = operator_of("mri", generator)
    problem = Problem(operator(slices(1, generator, complex_=True)), operator)
    prior = GaussianPrior(torch.zeros(SIDE, SIDE).double(), spectrum=4.0)
    got = run(DDS(n_steps=5), problem, prior)
    assert torch.equal(got, run(DDS(n_steps=5, data_weight="krylov"), problem, prior))


def test_zero_eta_draws_no_influence_after_the_start(generator):
    """eta = 0 is deterministic given its start; eta = 1 is not."""
    operator = operator_of("inpainting", generator)
    problem = Problem(operator(slices(1, generator, complex_=False)), operator, Gaussian(0.1))
    prior = GaussianPrior(torch.zeros(SIDE, SIDE).double(), spectrum=1.0)

    class Once(Draws):
        """The same start for every seed."""

        started = False

        def normal_like(self, x: Tensor, item_ndim: int) -> Tensor:
            first, self.started = not self.started, True
            return torch.ones_like(x) if first else super().normal_like(x, item_ndim)

    def result(eta: float, seed: int) -> Tensor:
        images = ImagePrior(prior, problem.item_shape, complex_=False)
        *_, last = DDS(n_steps=5, eta=eta).steps(problem, images, Once(seed, problem.ids))
        return last.x0

    assert torch.equal(result(0.0, 1), result(0.0, 2))
    assert not torch.equal(result(1.0, 1), result(1.0, 2))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_steps": 0},
        {"cg_iters": 0},
        {"eta": 1.1},
        {"eta": -0.1},
        {"eta": math.nan},
        {"gamma": 0.0},
        {"gamma": math.inf},
        {"tv_weight": -1.0},
        {"tv_weight": math.nan},
        {"tv_rho": 0.0},
        {"sigma_start": 0.001},
        {"sigma_end": 0.0},
        {"schedule": "vp", "n_steps": 1001},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        DDS(**settings)


@pytest.mark.parametrize("views", [60, 2])
def test_few_data_raise_the_start(oracle, generator, views):
    operator = ParallelBeamCT(ParallelBeam.covering(shape=(SIDE, SIDE), views=views))
    truth = slices(1, generator, complex_=False).float()
    problem = Problem(operator(truth), operator, Gaussian(0.05))
    sampler = DDS.configured("tuned", ParallelBeamCT, {"n_steps": 2})
    images = ImagePrior(oracle(truth), problem.item_shape, complex_=False)
    first = next(iter(sampler.steps(problem, images, Draws(0, problem.ids))))
    unknowns = SIDE * SIDE / math.prod(operator.out_shape)
    assert (unknowns > 2.5) == (views == 2)
    assert first.sigma == pytest.approx(0.1 * max(1, unknowns / 2.5) ** 1.2)


@pytest.mark.parametrize("sampler", [DDS(n_steps=12), REDdiff(n_steps=12, lr=0.1)])
def test_one_coil_without_noise_is_followed_in_single_precision(generator, sampler):
    """A^H A of one coil is a projection: CG is done after one step, and its roundings once grew without end."""
    maps = torch.ones(1, SIDE, SIDE, dtype=torch.complex64)
    operator = MultiCoilMRI(maps, torch.rand(SIDE, generator=generator) < 0.4)
    truth = slices(1, generator, True).to(torch.complex64)
    problem = Problem(operator(truth), operator, Exact())
    images = ImagePrior(FromDenoiser(lambda x, s: x / (1 + s**2)), problem.item_shape, True)
    *_, last = sampler.steps(problem, images, Draws(0, problem.ids))
    assert problem.misfit(last.x0) < 0.1  # REDdiff comes near in twelve steps; 1e17 was seen
    assert float(last.x0.abs().max()) < 10 * float(truth.abs().max())
