"""The data step of a sampler: CG ends where the noise that comes next hides the rest."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.front_door import solve_problem
from restore.noise import EdgeError, Exact, Gaussian, PostLogPoisson
from restore.operators import MultiCoilMRI
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.priors.analytic import GaussianPrior
from restore.problem import Problem
from restore.samplers.dds import DDS
from restore.samplers.toolbox.consistency import (
    ProximalStep,
    SliceTV,
    VolumeStep,
    edge_weighted,
)
from restore.scaling import Scaling

SIGMA, TOL = 0.1, 0.1


@pytest.fixture
def problem(generator) -> Problem:
    """Two slices whose data terms differ: what one needs the other does not."""
    maps = torch.randn(2, 4, 24, 20, generator=generator, dtype=torch.complex64)
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    mask = torch.rand(2, 1, 20, generator=generator) < torch.tensor([0.3, 0.9])[:, None, None]
    operator = MultiCoilMRI(maps, mask.expand(2, 24, 20))
    y = operator(torch.randn(2, 24, 20, generator=generator, dtype=torch.complex64))
    return Problem(y, operator, Gaussian(0.005))


def counted(problem: Problem, monkeypatch) -> list[int]:
    """Applications of A^H A from now on."""
    calls: list[int] = []
    whole = type(problem.data).normal
    monkeypatch.setattr(
        type(problem.data), "normal", lambda self, x: calls.append(1) or whole(self, x)
    )
    return calls


@pytest.mark.parametrize("volume", [False, True])
def test_cg_ends_when_the_rest_is_hidden_by_the_next_noise(problem, generator, monkeypatch, volume):
    x0 = torch.randn(2, 24, 20, generator=generator, dtype=torch.complex64)
    weight = SIGMA**2

    def step(tol: float):
        if volume:
            return VolumeStep(problem, SliceTV(1e-3, 0.1, "neumann"), cg_iters=60, cg_tol=tol)
        return ProximalStep(problem, cg_iters=60, cg_tol=tol)

    exact = step(0.0)(x0, weight, SIGMA)
    calls = counted(problem, monkeypatch)
    got = step(TOL)(x0, weight, SIGMA)
    assert len(calls) < 40
    off = (got - exact).abs().square().mean((-2, -1)).sqrt() / 2**0.5  # per real number
    # A step of that length is followed by shorter ones: together no longer than five of it (seen: 0.6).
    assert float(off.max()) < 5 * TOL * SIGMA
    assert float(off.max()) > 0
    calls.clear()
    assert torch.equal(step(0.0)(x0, weight, SIGMA), exact)
    assert len(calls) > 55


@pytest.mark.parametrize("volume", [False, True])
def test_cg_ends_at_a_small_residual(problem, generator, monkeypatch, volume):
    x0 = torch.randn(2, 24, 20, generator=generator, dtype=torch.complex64)

    def step(residual: float):
        if volume:
            tv = SliceTV(1e-3, 0.1, "neumann")
            return VolumeStep(problem, tv, cg_iters=60, cg_residual=residual)
        return ProximalStep(problem, cg_iters=60, cg_residual=residual)

    exact = step(0.0)(x0, SIGMA**2)
    calls = counted(problem, monkeypatch)
    got = step(1e-3)(x0, SIGMA**2)
    assert len(calls) < 55  # of 61
    # I + w A^H A is not below one, so the error is not above the residual: 1e-3 of a right-hand side that is at most
    # 1 + w ||A||^2 times as long as the image.
    off = torch.linalg.vector_norm(got - exact) / torch.linalg.vector_norm(exact)
    longest = 1 + SIGMA**2 * float(problem.data.lipschitz.max())
    assert 0 < float(off) < 1e-3 * longest


def test_a_level_without_noise_on_top_makes_all_steps(problem, generator, monkeypatch):
    x0 = torch.randn(2, 24, 20, generator=generator, dtype=torch.complex64)
    calls = counted(problem, monkeypatch)
    ProximalStep(problem, cg_iters=7, cg_tol=TOL)(x0, SIGMA**2)
    assert len(calls) == 8  # one for the first residual


def test_dds_with_fewer_steps_of_cg_draws_the_same_image(problem, monkeypatch):
    prior = GaussianPrior(torch.zeros(24, 20), spectrum=1.0)
    settings = {"n_steps": 6, "sigma_start": 1.0, "sigma_end": 0.01, "cg_iters": 40}
    whole = DDS(**settings)
    exact = solve_problem(problem, prior=prior, sampler=whole).image
    calls = counted(problem, monkeypatch)
    short = dataclasses.replace(whole, cg_tol=TOL)
    got = solve_problem(problem, prior=prior, sampler=short).image
    assert len(calls) < 6 * 35
    off = torch.linalg.vector_norm(got - exact) / torch.linalg.vector_norm(exact)
    assert 0 < float(off) < 0.1  # the share of the noise that may be left out


def test_published_settings_make_every_step():
    published = [DDS(**DDS.presets[p]) for p in DDS.presets if p.startswith("published")]
    assert all(dds.cg_tol == dds.cg_residual == 0 for dds in published)


def test_rays_beside_edges_count_less_and_nothing_else_does(problem):
    rays = ParallelBeamCT(ParallelBeam.covering(shape=(12, 12), views=6))
    image = torch.zeros(1, 12, 12)
    image[0, 3:9, 3:9] = 1.0
    scan = Problem(rays(image), rays, PostLogPoisson(1e4), Scaling(2.0))
    term = edge_weighted(scan, 0.05)
    noise = EdgeError(PostLogPoisson(1e4), 0.05)
    told = dataclasses.replace(scan, noise=noise)
    assert torch.equal(term.precision, told.precision)
    assert bool((term.precision <= scan.precision).all())
    assert bool((term.precision < scan.precision / 2).any())
    x0 = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(1))
    by_setting = DDS(edge_error=0.05)._consistency(scan)(x0, SIGMA**2)
    assert torch.equal(by_setting, ProximalStep(told, cg_iters=10)(x0, SIGMA**2))
    assert not torch.equal(by_setting, DDS()._consistency(scan)(x0, SIGMA**2))
    # Told twice, exact, off, or no line integrals: nothing changes.
    exact = dataclasses.replace(scan, noise=Exact())
    for same, bins in ((told, 0.05), (exact, 0.05), (scan, 0.0), (problem, 0.05)):
        assert edge_weighted(same, bins) is None
