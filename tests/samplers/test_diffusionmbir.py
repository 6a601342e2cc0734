"""DiffusionMBIR beyond the published traces: refusals, coupling, complex volumes, memory, failures."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.diffusionmbir import DiffusionMBIR

RECOVERED = 5e-3  # what the last level and CG leave; not rounding
LAST = 0.02  # the noise of the last level, 0.01, is not taken away
DOUBLE = 1e-9  # float64: ADMM's sums over a small volume
REPEATED = 1e-4  # float32 noise; the same steps in another order; 3e-15 seen

SIDE, SLICES = 16, 5
CT = ParallelBeamCT(ParallelBeam.covering(shape=(SIDE, SIDE), views=9), dtype=torch.float64)
SHORT_PAPER = {"n_steps": 8, "sigma_start": 10.0}


def volume(generator: torch.Generator, complex_: bool = False, slices: int = SLICES) -> Tensor:
    """Slices that change slowly, values beyond 1 and below 0."""
    parts = torch.randn(2, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    parts = 1.5 * parts + 0.05 * torch.arange(slices)[:, None, None]
    return torch.complex(parts[0], parts[1]) if complex_ else parts[0]


def mri(generator: torch.Generator) -> MultiCoilMRI:
    maps = torch.randn(4, SIDE, SIDE, generator=generator, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    return MultiCoilMRI(maps, torch.arange(SIDE) % 3 != 1)


def gaussian() -> GaussianPrior:
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    spectrum = 0.002 + 0.498 / (1 + (f[:, None] ** 2 + f**2) / 0.08**2) ** 2
    return GaussianPrior(torch.full((SIDE, SIDE), 0.3, dtype=torch.float64), spectrum=spectrum)


def run(
    sampler: DiffusionMBIR, problem: Problem, model: Denoiser | None = None, seed: int = 0
) -> list[Step]:
    images = ImagePrior(model or gaussian(), problem.item_shape, problem.operator.is_complex)
    return list(sampler.steps(problem, images, Draws(seed, problem.ids)))


def error(x: Tensor, truth: Tensor) -> float:
    return float((x - truth).norm() / truth.norm())


@pytest.mark.parametrize("axes", ["z", "all"])
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("kind", ["ct", "mri"])
def test_an_oracle_recovers_the_volume(generator, oracle, kind, boundary, axes):
    truth = volume(generator, complex_=kind == "mri")
    operator: LinearOperator = CT if kind == "ct" else mri(generator)
    # TV within slices contradicts these images, which are white: its pull, lambda sigma_end, has to be small.
    weight = 0.5 if axes == "z" else 0.05
    settings = {"tv_axes": axes, "tv_boundary": boundary, "tv_weight": weight, "n_steps": 20}
    sampler = DiffusionMBIR.configured("tuned", type(operator), settings)
    problem = Problem(operator(truth), operator, Gaussian(0.05))
    assert error(run(sampler, problem, oracle(truth))[-1].x0, truth) < RECOVERED


def test_the_published_chain_recovers_from_an_oracle_as_well(generator, oracle):
    truth = volume(generator)
    sampler = DiffusionMBIR.configured("published-ct", ParallelBeamCT, {"n_steps": 200})
    steps = run(sampler, Problem(CT(truth), CT), oracle(truth))
    assert error(steps[-1].x0, truth) < LAST  # the noise of its last level, 0.01, is not taken away
    assert steps[-1].evaluations == 400
    assert steps[0].x0.abs().max() < 10  # the estimate, not the volume of the chain at sigma 378


@pytest.mark.parametrize("settings", [{}, {"consistency": "noisy", **SHORT_PAPER}])
def test_a_single_image_is_refused(generator, settings):
    problem = Problem(CT(volume(generator)[0]), CT)
    with pytest.raises(ConfigError, match=r"no slice dimension; give \(slices"):
        run(DiffusionMBIR(**settings), problem)


def test_a_volume_of_one_slice_is_served(generator):
    problem = Problem(CT(volume(generator)[:1]), CT, Gaussian(0.05))
    assert run(DiffusionMBIR(n_steps=3), problem)[-1].x0.shape == (1, SIDE, SIDE)


@pytest.mark.parametrize("settings", [{}, {"consistency": "noisy", **SHORT_PAPER}])
def test_neighbours_matter_with_tv_and_do_not_without(generator, settings):
    x = volume(generator)
    y = CT(x) + 0.05 * torch.randn(CT(x).shape, generator=generator, dtype=x.dtype)
    for weight, coupled in ((0.04, True), (0.0, False)):
        sampler = DiffusionMBIR(**{"n_steps": 10, **settings, "tv_weight": weight})
        whole = run(sampler, Problem(y, CT, Gaussian(0.05)))[-1].x0
        part = Problem(y[:2], CT, Gaussian(0.05), ids=("0", "1"))
        difference = error(run(sampler, part)[-1].x0[:1], whole[:1])
        assert (difference > 1e-4) if coupled else (difference < DOUBLE)


def test_two_volumes_at_once_do_not_mix(generator):
    x = torch.stack([volume(generator), 3 * volume(generator)])
    sampler = DiffusionMBIR(n_steps=3)
    both = run(sampler, Problem(CT(x), CT, Gaussian(0.05)))[-1].x0
    ids = tuple(str(k) for k in range(SLICES, 2 * SLICES))
    alone = run(sampler, Problem(CT(x[1]), CT, Gaussian(0.05), ids=ids))[-1].x0
    torch.testing.assert_close(both[1], alone, rtol=DOUBLE, atol=DOUBLE)


def test_tv_brings_slices_of_a_constant_volume_together(generator):
    x = volume(generator)[:1].expand(SLICES, SIDE, SIDE)
    y = CT(x) + 0.3 * torch.randn(SLICES, *CT.out_shape, generator=generator, dtype=x.dtype)
    problem = Problem(y, CT, Gaussian(0.3))
    rough = [
        run(DiffusionMBIR(n_steps=8, tv_weight=w), problem)[-1].x0.diff(dim=0).norm()
        for w in (0.0, 1.0)
    ]
    assert rough[1] < 0.5 * rough[0]


def test_langevin_steps_are_per_slice_or_per_chunk(generator, replay):
    n = torch.randn(13, SIDE, SIDE, generator=generator, dtype=torch.float64)
    score = torch.arange(1, 14)[:, None, None] * torch.ones_like(n)
    problem = Problem(CT(torch.zeros_like(n)), CT)
    for norms, groups in (("slice", [1] * 13), ("chunk", [7, 6])):
        sampler = DiffusionMBIR(step_norms=norms)
        got = sampler._langevin(torch.zeros_like(n), score, replay([n]), problem)
        parts = [
            2 * (0.16 * b.flatten(1).norm(dim=1).mean() / a.flatten(1).norm(dim=1).mean()) ** 2
            for a, b in zip(score.split(groups), n.split(groups), strict=True)
        ]
        eps = torch.cat([e.expand(k) for e, k in zip(parts, groups, strict=True)])[:, None, None]
        torch.testing.assert_close(got, eps * score + (2 * eps).sqrt() * n)


def test_a_zero_score_is_no_division_by_zero(generator, replay):
    x = volume(generator)
    problem = Problem(CT(x), CT)
    got = DiffusionMBIR()._langevin(x, torch.zeros_like(x), replay([torch.randn_like(x)]), problem)
    assert torch.equal(got, x)


def test_the_final_step_leaves_pixels_alone_that_no_measurement_meets(generator):
    x = volume(generator)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    mask[:, : SIDE // 2] = 1
    operator = Inpainting(mask, (SIDE, SIDE))
    problem = Problem(operator(x), operator, Gaussian(0.05))
    plain, final = (run(DiffusionMBIR(n_steps=3, final=f), problem)[-1].x0 for f in (False, True))
    torch.testing.assert_close(final[..., : SIDE // 2], x[..., : SIDE // 2])
    assert torch.equal(final[..., SIDE // 2 :], plain[..., SIDE // 2 :])


def test_relative_weights_do_not_see_the_unit_of_the_operator(generator):
    x = volume(generator)
    fine = ParallelBeamCT(
        ParallelBeam.covering(shape=(SIDE, SIDE), views=9, pixel_mm=0.1), dtype=torch.float64
    )
    sampler = DiffusionMBIR.configured("published-ct", ParallelBeamCT, SHORT_PAPER)
    one, other = (run(sampler, Problem(a(x), a))[-1].x0 for a in (CT, fine))
    torch.testing.assert_close(one, other, rtol=REPEATED, atol=REPEATED)


@pytest.mark.parametrize("consistency", ["noisy", "estimate"])
def test_a_nan_names_the_step(generator, consistency):
    class Failing(Denoiser):
        calls = 0

        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            self.calls += 1
            return x * torch.nan if self.calls > 4 else 0.5 * x

    problem = Problem(CT(volume(generator)), CT, Gaussian(0.05))
    with pytest.raises(DivergenceError, match=r"DiffusionMBIR: .* step 3 of 10"):
        run(DiffusionMBIR(n_steps=10, consistency=consistency), problem, Failing())


@pytest.mark.parametrize("consistency", ["noisy", "estimate"])
def test_no_step_is_remembered(generator, consistency):
    problem = Problem(CT(volume(generator)), CT, Gaussian(0.05))
    images = ImagePrior(gaussian(), problem.item_shape, complex_=False)
    sampler = DiffusionMBIR(n_steps=6, consistency=consistency)
    seen = []
    gc.freeze()  # what was there before need not be looked through six times
    for step in sampler.steps(problem, images, Draws(0, problem.ids)):
        seen.append(weakref.ref(step.x0))
        del step
        gc.collect()
        assert sum(ref() is not None for ref in seen) <= 1  # the generator's own, while it waits
    gc.unfreeze()


def test_unknown_noise_is_served(generator, oracle):
    truth = volume(generator)
    steps = run(DiffusionMBIR(n_steps=10), Problem(CT(truth), CT), oracle(truth))
    assert error(steps[-1].x0, truth) < LAST


@pytest.mark.parametrize(
    "settings",
    [
        {"n_steps": 0}, {"cg_iters": 0}, {"chunk": 0}, {"tv_weight": -1.0}, {"tv_rho": 0.0}, {"gamma": 0.0},
        {"snr": float("nan")}, {"sigma_start": 0.0}, {"official_index": True},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        DiffusionMBIR(**settings)


def test_published_numbers():
    paper, brain = (
        DiffusionMBIR.configured(p, LinearOperator, {}) for p in ("published", "published-mri")
    )
    assert (paper.n_steps, paper.snr, paper.tv_rho, paper.tv_weight) == (2000, 0.16, 10, 0.04)
    assert (brain.tv_rho, brain.tv_weight, brain.chunk, brain.final) == (0.01, 0.005, 20, False)
    levels = paper.levels()
    assert (levels[0].told, levels[-1].told, levels[-1].next) == pytest.approx((378, 0.01, 0))
    relative = DiffusionMBIR.configured("published-ct", LinearOperator, {})
    assert relative.tv_weight / relative.tv_rho == pytest.approx(paper.tv_weight / paper.tv_rho)
    assert dataclasses.replace(paper, n_steps=5).levels()[2].told == pytest.approx(1.94422221)
