"""SIRT, CGLS and FDK: closed forms, items that stay apart, volumes as items, any operator that they serve."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

import restore
from restore.errors import ConfigError
from restore.noise import Exact
from restore.operators.base import dense
from restore.operators.ct.beams import ConeBeam, FanBeam
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.operators.diagonal import Diagonal
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import check_operator, load_sampler

SOLVED = (
    1e-8  # float64: 20 steps of conjugate gradients on 20 unknowns of condition 100; 1e-12 seen
)
SAME = 1e-9  # float64: sums of a batch in another order, grown by ten steps
NEAR = 0.05  # of the object: what a few dozen iterations leave on a grid of 10 x 12 pixels
WITHOUT = Exact()

CONE = ConeBeam(equispaced(12, 360), (8, 16), 1.5, 60.0, 100.0)
OPERATORS = {
    "parallel": ParallelBeamCT(
        ParallelBeam.covering(shape=(10, 12), views=24), dtype=torch.float64
    ),
    "fan": XRayTransform(
        FanBeam(equispaced(24, 360), 24, 1.2, 60.0, 100.0), VoxelGrid((10, 12)), dtype=torch.float64
    ),
    "cone": XRayTransform(CONE, VoxelGrid((4, 10, 12)), dtype=torch.float64),
}


def object_of(shape: tuple[int, ...]) -> torch.Tensor:
    x = torch.zeros(shape, dtype=torch.float64)
    x[..., 2:8, 3:9] = 0.02
    x[..., 4:6, 4:6] = 0.03
    return x


def run(name: str, op, y: torch.Tensor, **settings) -> list[torch.Tensor]:
    problem = Problem(y, op, WITHOUT)
    steps = load_sampler(name)(**settings).steps(problem, None, Draws(0, problem.ids))
    return [step.x0 for step in steps]


def test_cgls_ends_at_the_least_squares_solution():
    g = torch.Generator().manual_seed(1)
    weight = torch.rand(20, generator=g, dtype=torch.float64) + 0.1
    op = Diagonal(weight, (20,))
    y = torch.randn(20, generator=g, dtype=torch.float64)
    found = run("cgls", op, y, n_steps=30)
    assert torch.linalg.vector_norm(found[-1] - y / weight) < SOLVED
    left = [float(torch.linalg.vector_norm(op(x) - y)) for x in found]
    assert all(b <= a + SOLVED for a, b in itertools.pairwise(left))
    assert torch.isfinite(found[-1]).all()  # ten steps after it was solved


def test_cgls_serves_complex_operators_slice_by_slice():
    op = MultiCoilMRI.example(torch.Generator().manual_seed(2)).to(torch.float64)
    x = torch.randn(op.in_shape, generator=torch.Generator().manual_seed(3), dtype=torch.complex128)
    y = op(x)
    found = run("cgls", op, y, n_steps=12)[-1]
    twice = run("cgls", op, torch.stack([y, 1e3 * y]), n_steps=12)[-1]
    torch.testing.assert_close(twice[0], found, rtol=SAME, atol=SAME)
    torch.testing.assert_close(twice[1], 1e3 * found, rtol=SAME, atol=1e3 * SAME)


@pytest.mark.parametrize("kind", OPERATORS)
def test_iterations_reconstruct_an_object(kind):
    op = OPERATORS[kind]
    x = object_of(op.in_shape)
    y = op(x)
    for name, settings in (("sirt", {"n_steps": 80}), ("cgls", {"n_steps": 60})):
        found = run(name, op, y, **settings)[-1]
        # Of a cone of twelve views least squares leave more open than what is known of attenuation.
        left, all_ = (op(found) - y, y) if name == "cgls" else (found - x, x)
        assert torch.linalg.vector_norm(left) < NEAR * torch.linalg.vector_norm(all_), name


def test_sirt_is_its_formula_and_leaves_the_unseen_alone():
    scan = ParallelBeam(equispaced(4, 180), 5, 1.0, (10, 12))  # a strip through the middle
    op = ParallelBeamCT(scan, dtype=torch.float64)
    y = op(object_of(op.in_shape))
    matrix = dense(op)
    rows, columns = matrix.sum(1), matrix.sum(0)
    x = torch.zeros(120, dtype=torch.float64)
    for _ in range(3):
        rest = torch.where(rows > 0, (y.flatten() - matrix @ x) / rows, 0)
        x = x + 0.7 * torch.where(columns > 0, matrix.T @ rest / columns, 0)
    found = run("sirt", op, y, n_steps=3, relaxation=0.7, nonnegative=False)[-1]
    torch.testing.assert_close(found.flatten(), x, rtol=SAME, atol=SAME)
    assert bool((found.flatten()[columns == 0] == 0).all())


def test_fdk_is_filtered_backprojection():
    op = OPERATORS["cone"]
    y = op(object_of(op.in_shape))
    (fdk,), (fbp,) = run("fdk", op, y, filter="hann"), run("fbp", op, y, filter="hann")
    assert torch.equal(fdk, fbp)
    assert torch.equal(fdk, op.backproject(y, "hann"))
    helix = XRayTransform(dataclasses.replace(CONE, pitch_mm=40.0), VoxelGrid((40, 10, 12)))
    with pytest.raises(ConfigError, match="fdk serves CT with filtered backprojection"):
        check_operator(load_sampler("fdk"), helix)
    check_operator(load_sampler("sirt"), helix)


@pytest.mark.parametrize("name", ["fdk", "sirt", "cgls", "tv"])
def test_solve_takes_a_volume_as_one_item(name):
    """Two volumes are a batch; each comes out as alone."""
    op = OPERATORS["cone"]
    y = op(object_of(op.in_shape))
    settings = {} if name == "fdk" else {"n_steps": 6}
    both = restore.solve(torch.stack([y, 0.5 * y]), op, noise=0.01, sampler=name, **settings).image
    alone = restore.solve(0.5 * y, op, noise=0.01, sampler=name, **settings).image
    assert both.shape == (2, 4, 10, 12)
    torch.testing.assert_close(both[1], alone, rtol=SAME, atol=SAME)
