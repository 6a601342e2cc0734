"""Line integrals along the rays of any geometry: exact ones, those of other programs, the transpose, refusals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam, ParallelBeam3D
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.orbits import reduced_parallel
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform

DOT = {torch.float32: 1e-6, torch.float64: 1e-12}  # sums of positive numbers; 2e-8 and 3e-16 seen
SAME = 1e-5  # float32 against float32 of another program: 6e-8 of a sum of ten terms, positions rounded there
EQUAL = 1e-12  # float64: the same weights, summed in another order
BLOB = 0.035  # of the peak: interpolation across a ray errs by h^2 / 8 f'', of two axes 1.21 / 36; half a bin is 9 %

VOLUME, IMAGE = (
    VoxelGrid((20, 22, 24), (1.0, 1.1, 0.9), (0.5, -0.4, 0.3)),
    VoxelGrid((22, 24), (1.1, 0.9), (-0.4, 0.3)),
)
FAN = FanBeam(
    equispaced(7, 360, 5),
    30,
    1.5,
    60.0,
    100.0,
    det_offset_mm=0.4,
    source_offset_mm=-0.5,
    slant_deg=6.0,
)
CONE = ConeBeam(
    equispaced(7, 360, 5), (24, 30), (1.6, 1.5), 60.0, 100.0, (0.5, 0.3), (0.4, -0.6), 5.0, -4.0, 7.0
)  # fmt: skip
ALL: dict[str, Beam] = {
    "fan": FAN,
    "arc": dataclasses.replace(FAN, detector_shape="equiangular", slant_deg=0.0),
    "cone": CONE,
    "helix": dataclasses.replace(CONE, pitch_mm=6.0),
    "parallel": ParallelBeam3D(equispaced(7, 180, 5), (24, 30), (1.0, 0.9), (0.4, -0.3)),
    "steep": FreeBeam([[20, 10, 60, -10, -5, -30, 1.5, 0, 0.5, 0, 1.5, -0.2]], (24, 30)),
}  # fmt: skip


def operator(name: str, **settings: object) -> XRayTransform:
    beam = ALL[name]
    return XRayTransform(beam, IMAGE if beam.in_plane else VOLUME, **settings)  # type: ignore[arg-type]


def lines(op: XRayTransform) -> tuple[np.ndarray, np.ndarray]:
    """A point of every ray and its direction of length one, (views, rows, columns, 3): by the definition of `Views`."""
    v = op.geometry.reduced()
    a, b = v.column_tables()
    i = np.arange(v.rows)[:, None, None] - (v.rows - 1) / 2
    step = (b[:, None] * v.u[:, None])[:, None] + i * v.v[:, None, None]
    if v.parallel:
        point, way = (
            v.centre[:, None, None] + step,
            np.broadcast_to(v.source[:, None, None], step.shape),
        )
    else:
        base, along = v.basis()
        way = base[:, None, None] + (a[:, None] * along[:, None])[:, None] + step
        point = np.broadcast_to(v.source[:, None, None], step.shape)
    return point, way / np.linalg.norm(way, axis=-1, keepdims=True)


def distances(op: XRayTransform, centre: tuple[float, float, float]) -> np.ndarray:
    """From a point (x, y, z) to every ray, in the shape of the measurement."""
    point, way = lines(op)
    return np.linalg.norm(np.cross(point - centre, way), axis=-1).reshape(op.out_shape)


def squared(grid: VoxelGrid, centre: tuple[float, float, float]) -> Tensor:
    """Squared distances in mm of the voxels from a point (x, y, z)."""
    (nz, ny, nx), (dz, dy, dx), (cz, cy, cx) = grid.shape3, grid.pitch3_mm, grid.centre3_mm
    x = cx + (torch.arange(nx) - (nx - 1) / 2) * dx - centre[0]
    y = cy + ((ny - 1) / 2 - torch.arange(ny)) * dy - centre[1]
    z = cz + (torch.arange(nz) - (nz - 1) / 2) * dz - centre[2]
    return (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).reshape(grid.shape)


@pytest.mark.parametrize("name", ALL)
def test_a_blob_has_its_exact_line_integrals(name):
    """exp(-r^2 / 2 s^2) integrates to s sqrt(2 pi) exp(-d^2 / 2 s^2) along a ray at distance d: half a bin shows."""
    op, s = operator(name), 3.0
    centre = (1.5, -1.0, 0.0 if op.geometry.in_plane else 0.8)
    found = op(torch.exp(-squared(op.grid, centre) / (2 * s**2)))
    wanted = s * math.sqrt(2 * math.pi) * np.exp(-(distances(op, centre) ** 2) / (2 * s**2))
    np.testing.assert_allclose(found.numpy(), wanted, atol=BLOB * wanted.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_the_transpose_is_exact(name, dtype):
    """Of positive numbers too: noise alone averages a mismatch away."""
    op = operator(name, dtype=dtype, rays_per_bin=2 if name == "cone" else 1)
    g = torch.Generator().manual_seed(1)
    x, y = (
        torch.rand(2, *shape, generator=g, dtype=dtype) for shape in (op.in_shape, op.out_shape)
    )
    left, right = (op(x).double() * y).sum(), (x.double() * op.adjoint(y)).sum()
    assert abs(float(left / right) - 1) < DOT[dtype]


def test_the_parallel_beam_of_slices_is_a_member():
    """Every slice by `ParallelBeamCT`, and all at once by parallel rays on a panel: the same weights."""
    flat = ParallelBeam(equispaced(9, 200, 3), 14, 0.8, (10, 12), (0.9, 0.7), -0.3)
    x = torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = ParallelBeamCT(flat, dtype=torch.float64)(x)
    panel = ParallelBeam3D(flat.angles, (3, 14), (1.3, 0.8), (0.0, -0.3))
    found = XRayTransform(panel, VoxelGrid((3, 10, 12), (1.3, 0.9, 0.7)), dtype=torch.float64)(x)
    torch.testing.assert_close(found.transpose(0, 1), wanted, rtol=EQUAL, atol=EQUAL)
    vectors = FreeBeam(reduced_parallel(flat).vectors, (1, 14), parallel=True)
    one = XRayTransform(vectors, VoxelGrid((1, 10, 12), (1.3, 0.9, 0.7)), dtype=torch.float64)
    torch.testing.assert_close(one(x[:, None])[..., 0, :], wanted, rtol=EQUAL, atol=EQUAL)


@pytest.mark.parametrize(("dtype", "same"), [(torch.float32, 1e-5), (torch.float64, EQUAL)])
@pytest.mark.parametrize("name", ["fan", "arc"])
def test_stored_matrices_are_the_weights_made_anew(name, dtype, same):
    """In float32 sums of 24 terms in another order: 8e-7 seen."""
    kept, free = (
        operator(name, dtype=dtype, rays_per_bin=2, method=m) for m in ("sparse", "matrix-free")
    )
    g = torch.Generator().manual_seed(5)
    x, y = (torch.randn(2, *s, generator=g, dtype=dtype) for s in (free.in_shape, free.out_shape))
    for found, wanted in ((kept(x), free(x)), (kept.adjoint(y), free.adjoint(y))):
        assert float((found - wanted).abs().max()) < same * float(wanted.abs().max())


def test_memory_decides_what_is_stored_and_volumes_are_not():
    x = torch.rand(IMAGE.shape, generator=torch.Generator().manual_seed(6))
    assert torch.equal(operator("fan")(x), operator("fan", method="sparse")(x))
    tight = operator("fan", memory_budget=1e3)
    assert torch.equal(tight(x), operator("fan", method="matrix-free")(x))
    with pytest.raises(ConfigError, match=r"stores the matrix of scans in the plane.*matrix-free"):
        operator("cone", method="sparse")
    wide = dataclasses.replace(FAN, angles=equispaced(20_000, 360), n_det=4000)
    with pytest.raises(ConfigError, match="beyond 32-bit indices; use method='matrix-free'"):
        XRayTransform(wide, IMAGE, method="sparse")


def test_a_fan_is_the_middle_row_of_a_cone():
    cone = ConeBeam(FAN.angles, (3, 30), 1.5, 60.0, 100.0, (0.0, 0.4), (0.0, -0.5), slant_deg=6.0)
    x = torch.rand(1, *IMAGE.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    grid = VoxelGrid((1, *IMAGE.shape), (1.0, *IMAGE.voxel_mm), (0.0, *IMAGE.centre_mm))
    wanted = XRayTransform(cone, grid, dtype=torch.float64)(x)[:, 1]
    torch.testing.assert_close(operator("fan")(x[0]), wanted, rtol=EQUAL, atol=EQUAL)


RTK = (
    ((4.34451008, 3.61519408, 3.98579788, 3.76445293), (3.62526798, 4.46885586, 4.66836691, 3.05452991)),
    ((4.01544189, 4.51441813, 4.59561777, 4.24675322), (4.2862039, 4.559886, 4.28063393, 3.9094081)),
    ((5.10396004, 4.78565598, 4.74804592, 4.90907383), (5.03617716, 4.48254395, 5.1545992, 4.63659477)),
)  # fmt: skip
"""Of itk-rtk 2.7.0, JosephForwardProjectionImageFilter, gantry at 20, 145, 290 degrees: rows 4, 5, columns 5 to 8."""


def test_a_cone_beam_is_that_of_rtk():
    k, i, j = np.indices((8, 10, 12))
    x = torch.zeros(
        8, 10, 12
    )  # RTK ends its rays at the outermost voxels' centres, hence zeros there
    x[1:-1, 1:-1, 1:-1] = torch.from_numpy((3 * k + 5 * i + 7 * j) % 11 / 11)[1:-1, 1:-1, 1:-1]
    angles = tuple(math.radians(t) for t in (20, 145, 290))
    scan = ConeBeam(angles, (12, 14), (1.25, 1.5), 60.0, 100.0)
    found = XRayTransform(scan, VoxelGrid((8, 10, 12)))(x)[:, 4:6, 5:9]
    torch.testing.assert_close(found, torch.tensor(RTK), rtol=SAME, atol=0)


def test_threads_change_nothing():
    op = operator("cone")
    x = torch.rand(op.in_shape, generator=torch.Generator().manual_seed(4))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        y = op(x)
        z = op.adjoint(y)
        torch.set_num_threads(3)
        assert torch.equal(op(x), y)
        assert torch.equal(op.adjoint(y), z)
    finally:
        torch.set_num_threads(before)


def test_refusals_say_what_to_do():
    with pytest.raises(
        ConfigError, match=r"a fan scan needs a grid of 2 dimensions, got \(20, 22, 24\)"
    ):
        XRayTransform(FAN, VOLUME)
    with pytest.raises(ConfigError, match="source lies inside the volume"):
        XRayTransform(CONE, VoxelGrid((20, 200, 200)))
    with pytest.raises(ConfigError, match="projector is 'gpu', expected one of auto, own, astra"):
        XRayTransform(CONE, VOLUME, projector="gpu")
