"""Cone beams through every sampler with a prior: a volume comes back, in memory of a few volumes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

import restore
from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.priors.analytic import GaussianPrior
from restore.scaling import Scaling

SHAPE = (4, 10, 12)
OP = XRayTransform(ConeBeam(equispaced(16, 360), (9, 20), 1.5, 60.0, 100.0), VoxelGrid(SHAPE))
NOISE = 0.05
SETTINGS = {
    "dds": {"n_steps": 8},
    "split": {"n_steps": 8},
    "diffpir": {"n_steps": 8},
    "reddiff": {"n_steps": 60},
    "diffusionmbir": {"n_steps": 6},
}
COPIES = 70
"""Volumes that a run may hold at its peak besides the scan: images, noise, the splitting of TV, CG's vectors, spectra,
double precision inside the prior and the padded copies of the projector; 25 (reddiff), 30 (dds, diffpir),
35 (diffusionmbir) and 44 (split) seen."""


def object_of() -> torch.Tensor:
    x = torch.full(SHAPE, 0.2)
    x[1:3, 2:7, 3:9] = 0.9
    return x


@pytest.mark.parametrize("name", SETTINGS)
def test_a_cone_beam_comes_back(name):
    x = object_of()
    noise = NOISE * torch.randn(OP.out_shape, generator=torch.Generator().manual_seed(0))
    f = torch.fft.fftfreq(10)[:, None] ** 2 + torch.fft.fftfreq(12) ** 2
    prior = GaussianPrior(torch.full(SHAPE[1:], 0.3), spectrum=0.3 / (1 + f / 0.02) ** 2)
    found = restore.solve(
        OP(x) + noise, OP, noise=NOISE, prior=prior, sampler=name, scaling=Scaling(1.0), **SETTINGS[name]
    )  # fmt: skip
    assert found.image.shape == SHAPE
    assert float((found.image - x).norm() / x.norm()) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_memory_is_a_few_volumes(name):
    """Growth of a fresh process while a run of two steps of a volume of 8 MB goes on."""
    program = f"""
        import resource, torch, restore
        from restore.operators.ct.beams import ConeBeam
        from restore.operators.ct.geometry import equispaced
        from restore.operators.ct.grid import VoxelGrid
        from restore.operators.ct.x_ray_transform import XRayTransform
        from restore.priors.analytic import GaussianPrior
        from restore.scaling import Scaling
        torch.set_num_threads(1)
        def run(side, slices):
            grid = VoxelGrid((slices, side, side))
            op = XRayTransform(ConeBeam(equispaced(4, 360), (slices, side), 2.0, 400.0, 800.0), grid)
            prior = GaussianPrior(torch.zeros(side, side), spectrum=1.0)
            restore.solve(op(torch.ones(grid.shape)), op, noise=1.0, prior=prior, sampler={name!r},
                          scaling=Scaling(1.0), n_steps=2)
        run(16, 4)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(160, 80)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * 160 * 160 * 80))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < COPIES, done.stdout
