"""Total variation inside volumes of a cone beam: `tv` and data steps find the minimum that another algorithm finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import restore
from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.base import dense
from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.priors.analytic import GaussianPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import load_sampler
from restore.samplers.toolbox.consistency import SliceTV, VolumeStep
from restore.scaling import Scaling

Array = NDArray[np.float64]
SHAPE = (3, 4, 5)
CONE = ConeBeam(equispaced(7, 360), (5, 9), 1.5, 60.0, 100.0)
OP = XRayTransform(CONE, VoxelGrid(SHAPE), dtype=torch.float64)
NOISE = 0.05
LIMIT = 2e-3  # two first-order methods after 120 to 1500 steps, of values up to 1; 1e-4 seen
ALIKE = 1e-4  # float32 volumes of two runs; 1e-6 seen


def object_of() -> torch.Tensor:
    x = torch.full(SHAPE, 0.2, dtype=torch.float64)
    x[1:, 1:3, 2:4] = 1.0
    return x


def differences() -> Array:
    """K (3 voxels, voxels): one step along every axis, zero at the end."""
    parts = []
    for axis in range(3):
        n = SHAPE[axis]
        step = np.diff(np.eye(n), axis=0, append=np.eye(n)[-1:])
        sides = [np.eye(m) for m in SHAPE]
        sides[axis] = step
        parts.append(np.kron(np.kron(sides[0], sides[1]), sides[2]))
    return np.concatenate(parts)


def minimiser(hessian: Array, linear: Array, lam: float, ball: Callable[[Array], Array]) -> Array:
    """argmin 1/2 v' H v - g' v + lam TV(v) by Condat's primal-dual steps, on matrices alone.

    ball: K v to the nearest point of the dual norm's unit ball.
    """
    k = differences()
    top = float(np.linalg.eigvalsh(hessian)[-1])
    dual = 0.02 * top
    primal = 1 / (top / 2 + dual * 12)  # ||K||^2 <= 12 in three dimensions
    v, p = np.zeros(len(linear)), np.zeros(len(k))
    for _ in range(1500):
        new = v - primal * (hessian @ v - linear + k.T @ p)
        p = lam * ball((p + dual * (k @ (2 * new - v))) / lam)
        v = new
    return v


def joint(p: Array) -> Array:
    """Isotropic: the three differences of a voxel have one length."""
    parts = p.reshape(3, -1)
    return (parts / np.maximum(1, np.linalg.norm(parts, axis=0))).ravel()


def single(p: Array) -> Array:
    """Anisotropic."""
    return np.clip(p, -1, 1)


def measured() -> torch.Tensor:
    clean = OP(object_of())
    generator = torch.Generator().manual_seed(4)
    return clean + NOISE * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def test_tv_of_a_cone_beam_is_the_minimiser_in_three_dimensions():
    y, weight = measured(), 0.02
    problem = Problem(y, OP, Gaussian(NOISE), Scaling(1.0))
    sampler = load_sampler("tv")(n_steps=150, cg_iters=5, weight=weight)
    *_, step = sampler.steps(problem, None, Draws(0, problem.ids))
    a = dense(OP).numpy() / NOISE
    right = a.T @ (y.numpy().ravel() / NOISE)
    wanted = minimiser(a.T @ a, right, weight * np.abs(right).max(), joint)
    np.testing.assert_allclose(step.x0.numpy().ravel(), wanted, atol=LIMIT)
    alone = load_sampler("tv")(n_steps=40, cg_iters=6, weight=weight, tv_axes="slice")
    *_, apart = alone.steps(problem, None, Draws(0, problem.ids))
    assert np.abs(apart.x0.numpy().ravel() - wanted).max() > 10 * LIMIT


def test_a_data_step_of_dds_with_tv_inside_a_volume_is_the_minimiser():
    """The splitting persists over the calls of one x0 and ends at argmin w f(v) + |v - x0|^2 / 2 + lam TV(v)."""
    y, weight, lam = measured(), 0.01, 0.3
    problem = Problem(y, OP, Gaussian(NOISE), Scaling(1.0))
    x0 = torch.full(SHAPE, 0.5, dtype=torch.float64)
    step = VolumeStep(problem, SliceTV(lam, 4.0, "neumann", "all"), cg_iters=20)
    for _ in range(120):
        got = step(x0, weight)
    a = dense(OP).numpy() / NOISE
    hessian = np.eye(x0.numel()) + weight * a.T @ a
    right = x0.numpy().ravel() + weight * a.T @ (y.numpy().ravel() / NOISE)
    np.testing.assert_allclose(
        got.numpy().ravel(), minimiser(hessian, right, lam, single), atol=LIMIT
    )


@pytest.mark.parametrize("axes", ["z", "all"])
def test_dds_takes_tv_inside_a_volume(axes):
    prior = GaussianPrior(torch.full(SHAPE[1:], 0.4), spectrum=torch.full(SHAPE[1:], 0.3))
    settings = {"n_steps": 4, "scaling": Scaling(1.0)}
    found = [
        restore.solve(
            measured().float(), OP.to(torch.float32), noise=NOISE, prior=prior, sampler="dds",
            tv_weight=w, tv_axes=axes, **settings,
        ).image
        for w in (0.0, 0.1)
    ]  # fmt: skip
    rough = [sum(x.diff(dim=d).abs().sum() for d in range(3)) for x in found]
    assert rough[1] < 0.95 * rough[0]
    assert (found[1] - object_of()).norm() < 0.6 * object_of().norm()


def test_tv_joins_the_slices_of_a_stack_on_demand():
    op = ParallelBeamCT.example(torch.Generator().manual_seed(0))
    y = op(torch.rand(3, *op.in_shape, generator=torch.Generator().manual_seed(1)))
    both = [
        restore.solve(y, op, noise=0.01, sampler="tv", n_steps=5, tv_axes=axes).image
        for axes in ("item", "slice", "all")
    ]
    torch.testing.assert_close(both[0], both[1], rtol=ALIKE, atol=ALIKE)
    assert (both[2] - both[1]).norm() > 1e-2 * both[1].norm()
    assert load_sampler("tv")(tv_axes="all").couples_slices
    assert not load_sampler("tv")().couples_slices
    with pytest.raises(ConfigError, match=r"no slice dimension.*tv_axes=slice"):
        restore.solve(y[0], op, noise=0.01, sampler="tv", tv_axes="all")
