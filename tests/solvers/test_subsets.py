"""Parts of the views in turns: they add up to the whole, SIRT and TV come further in a pass, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.errors import ConfigError
from restore.noise import Exact, Gaussian
from restore.operators.base import LinearOperator, dense
from restore.operators.ct.beams import ConeBeam, FanBeam, FreeBeam
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.operators.diagonal import Identity
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import load_sampler
from restore.scaling import Scaling
from restore.solvers.proximal import DataTerm
from restore.solvers.subsets import curvature, interleaved

D = torch.float64
ROUNDED = 1e-10  # float64: sums over a hundred rays in another order; 1e-14 seen
CYCLE = 0.02  # of the largest value: where the subsets' cycle stays beside the minimum; 2e-3 seen

CONE = ConeBeam(equispaced(12, 360), (6, 12), 1.6, 60.0, 100.0)
GRID = VoxelGrid((3, 6, 7))
SCANS: dict[str, LinearOperator] = {
    "cone": XRayTransform(CONE, GRID, dtype=D),
    "helix": XRayTransform(dataclasses.replace(CONE, pitch_mm=1.5), GRID, dtype=D),
    "vectors": XRayTransform(FreeBeam(CONE.reduced().vectors, CONE.detector), GRID, dtype=D),
    "fan": XRayTransform(FanBeam(CONE.angles, 12, 1.6, 60.0, 100.0), VoxelGrid((6, 7)), dtype=D),
    "parallel": ParallelBeamCT(ParallelBeam.covering(shape=(6, 7), views=12), dtype=D),
}


def measured(op: LinearOperator, generator) -> torch.Tensor:
    return op(torch.rand((2, *op.in_shape), generator=generator, dtype=D))


@pytest.mark.parametrize("name", SCANS)
def test_parts_add_up_to_the_whole(generator, name):
    op = SCANS[name]
    y = measured(op, generator)
    x = torch.rand((2, *op.in_shape), generator=generator, dtype=D)
    for precision in (None, 3.0, 1 + torch.rand(op.out_shape, generator=generator, dtype=D)):
        whole = DataTerm(op, y, precision)
        parts = interleaved(whole, 5)
        assert [p.operator.out_shape[0] for p in parts] == [3, 3, 2, 2, 2]
        total = sum(p.gradient(x) for p in parts)
        torch.testing.assert_close(total, whole.gradient(x), rtol=ROUNDED, atol=ROUNDED)


def test_the_curvature_is_above_the_hessian(generator):
    op = SCANS["cone"]
    weights = torch.rand(op.out_shape, generator=generator, dtype=D)
    term = DataTerm(op, measured(op, generator)[0], weights)
    a = dense(op)
    above = torch.diag(curvature(term).flatten()) - a.T @ (weights.flatten()[:, None] * a)
    assert float(torch.linalg.eigvalsh(above)[0]) > -ROUNDED * float(above.diagonal().max())


def run(name: str, op: LinearOperator, y: torch.Tensor, noise=None, **settings) -> torch.Tensor:
    problem = Problem(y, op, noise or Exact(), Scaling(1.0))
    *_, step = load_sampler(name)(**settings).steps(problem, None, Draws(0, problem.ids))
    return step.x0


def test_sirt_comes_as_far_in_a_pass_as_in_several(generator):
    op = SCANS["parallel"]
    x = torch.rand((2, *op.in_shape), generator=generator, dtype=D)
    y = op(x)
    error = {n: float((run("sirt", op, y, n_steps=10, subsets=n) - x).norm()) for n in (1, 4)}
    assert error[4] < 0.6 * error[1]
    assert error[4] < float((run("sirt", op, y, n_steps=30) - x).norm()) * 1.1


def test_tv_by_subsets_ends_near_the_minimum(generator):
    op = SCANS["cone"]
    x = torch.full(op.in_shape, 0.2, dtype=D)
    x[:, 2:4, 2:5] = 1
    y = op(x) + 0.05 * torch.randn(op.out_shape, generator=generator, dtype=D)
    settings = {"noise": Gaussian(0.05), "weight": 0.02, "nonnegative": True}
    least = run("tv", op, y, n_steps=120, **settings)
    found = run("tv", op, y, n_steps=120, subsets=3, **settings)
    assert float((found - least).abs().max()) < CYCLE
    early = run("tv", op, y, n_steps=12, subsets=3, **settings)
    assert float((early - least).norm()) < 0.25 * float(
        least.norm()
    )  # 0.14 seen, of 1 at the start


def test_what_has_no_views_and_more_subsets_than_views_are_refused(generator):
    with pytest.raises(ConfigError, match="13 subsets of 12 views"):
        run("sirt", SCANS["fan"], measured(SCANS["fan"], generator), subsets=13)
    with pytest.raises(ConfigError, match="no views to take in turns"):
        run("tv", Identity((4, 4)), torch.rand(4, 4), noise=Gaussian(0.1), subsets=2)
