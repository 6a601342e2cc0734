"""The CUDA kernels in numba's simulator, and the gathered transpose, against the products of the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.operators.ct import voxels
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, ParallelBeam3D
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform

EQUAL = 1e-12  # float64: the same weights, summed in another order

ANGLES = (0.3, 2.0, 4.4)
SCANS: dict[str, Beam] = {
    "fan": FanBeam(ANGLES, 7, 0.9, 20.0, 30.0, 0.3),
    "arc": FanBeam(ANGLES, 7, 0.9, 20.0, 30.0, 0.3, detector_shape="equiangular"),
    "cone": ConeBeam(ANGLES, (3, 7), 0.9, 20.0, 30.0, (0.2, 0.3), tilt_deg=8.0, skew_deg=5.0),
    "parallel": ParallelBeam3D(ANGLES, (3, 7), (0.8, 0.6), (0.1, 0.2)),
}


def operator(name: str) -> XRayTransform:
    grid = (
        VoxelGrid((5, 4), (0.7, 0.8))
        if SCANS[name].in_plane
        else VoxelGrid((2, 5, 4), (0.9, 0.7, 0.8))
    )
    return XRayTransform(SCANS[name], grid, dtype=torch.float64)


@pytest.mark.parametrize("name", SCANS)
def test_the_gathered_transpose_is_the_spread_one(name):
    op = operator(name)
    scan = op._layout
    y = torch.rand(scan.sinogram, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = op.adjoint(y.reshape(op.out_shape)).reshape(scan.shape).numpy()
    found = np.zeros(scan.shape)
    constants = scan.shape, scan.pitch, scan.pad, (0, 0, 0), scan.parallel, scan.level
    for place in np.ndindex(*scan.shape):
        found[place] = voxels.gathered(
            y.numpy(), scan.views, scan.turn, scan.place, constants, (True, True, True), *place
        )
    np.testing.assert_allclose(found, wanted, rtol=EQUAL, atol=EQUAL)


SIMULATED = """
import numpy as np, torch
from restore.operators.ct import ray_cuda, ray_products
from test_ray_cuda import SCANS, operator
for name in SCANS:
    op = operator(name)
    scan, g = op._layout, torch.Generator().manual_seed(2)
    x, y = (torch.rand(1, *s, generator=g, dtype=torch.float64) for s in (scan.shape, scan.sinogram))
    shares, axes = np.array([0.5, 0.7, 0.9]), ray_products.driving_axes(scan)
    for there, here in (
        (ray_cuda.forward(x, scan), ray_products.forward(x, scan)),
        (ray_cuda.adjoint(y, scan, axes), ray_products.adjoint(y, scan, axes)),
        (ray_cuda.smeared(y, scan, shares), ray_products.smeared(y, scan, shares)),
    ):
        torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12)
        assert bool(there.any())
print("same")
"""


@pytest.mark.slow
def test_kernels_in_the_simulator():
    """In a process of its own: whether numba simulates is settled when it is imported."""
    simulated = {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    folders = (str(Path(__file__).parent), str(Path.cwd()), os.environ.get("PYTHONPATH", ""))
    here = os.pathsep.join(folders)
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED], env={**os.environ, **simulated, "PYTHONPATH": here},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "same", done.stdout + done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("name", SCANS)
def test_kernels_on_a_device(name):
    op = operator(name)
    x = torch.rand(op.in_shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = op(x)
    torch.testing.assert_close(op(x.cuda()).cpu(), y, rtol=EQUAL, atol=EQUAL)
    torch.testing.assert_close(op.adjoint(y.cuda()).cpu(), op.adjoint(y), rtol=EQUAL, atol=EQUAL)
    torch.testing.assert_close(op.pinv(y.cuda()).cpu(), op.pinv(y), rtol=1e-9, atol=1e-9)  # FFTs
