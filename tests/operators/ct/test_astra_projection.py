"""ASTRA behind the CT operator: the same numbers as our own projector, its transpose, clean refusals."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest
import torch

from restore.errors import ConfigError, DeviceError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators import check
from restore.operators.ct import astra_projection
from restore.operators.ct.beams import FanBeam
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.operators.laws import LAWS

LAWS_SINGLE = 1e-4  # float32 sums over some thousand products, 6e-8 of each; 5e-6 seen
DOT = 1e-6  # the dot product is summed in float64, of float32 values; 1.5e-8 seen
CHORD = 1e-5  # float32: a sum of eight lengths that float32 holds exactly or nearly so
STEPS = 1e-3  # the steps of a sampler carry the rounding of float32 along
TEXTURE = 1e-3  # CUDA's projector interpolates by textures of 8 bits of fraction
LINES = 0.01  # Joseph's interpolation against lengths in pixels, on a blob of 5 pixels; 2e-3 seen
UNMATCHED = 0.2  # CUDA's backprojector is not the transpose of its projector

astra = pytest.importorskip("astra")

SCANS = {
    "square": ParallelBeam.covering(shape=(40, 40), views=30, pixel_mm=0.8),
    "flat": ParallelBeam.covering(shape=(17, 30), views=11, pixel_mm=0.5, start_deg=12.0),
    "fine": ParallelBeam.covering(shape=(32, 32), views=20, pixel_mm=1.0, det_spacing_mm=0.7),
    "whole turn": ParallelBeam.covering(shape=(24, 24), views=25, arc_deg=360.0),
    "small detector": ParallelBeam((0.1, 0.7, 2.0), 9, 1.3, (16, 16), 1.0),
}
SCANS["offset"] = dataclasses.replace(SCANS["square"], det_offset_mm=1.7)

# Both are Joseph's method in single precision. A ray's position is rounded once (1e-7 of some 50 bins) and multiplied
# by the difference of two neighbours: 4e-6 of the sinogram seen on these noise images, where that is largest.
SAME = 5e-5


def images(scan: ParallelBeam, count: int = 2) -> torch.Tensor:
    return torch.rand(count, *scan.shape, generator=torch.Generator().manual_seed(1))


def pair(name: str, rays: int = 1) -> tuple[ParallelBeamCT, ParallelBeamCT]:
    scan = SCANS[name]
    return tuple(ParallelBeamCT(scan, projector=p, rays_per_bin=rays) for p in ("own", "astra"))  # type: ignore[return-value]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize("rays", [1, 2])
@pytest.mark.parametrize("name", SCANS)
def test_same_as_our_own(name, rays):
    own, other = pair(name, rays)
    x = images(SCANS[name])
    y = own(x)
    assert relative(other(x), y) < SAME
    assert relative(other.adjoint(y), own.adjoint(y)) < SAME


@pytest.mark.parametrize("name", SCANS)
def test_the_adjoint_is_matched(name):
    """Sums of positive numbers: |<Ax, y>/<x, A^T y> - 1|, 1e-8 seen; float32 rounds every entry by 6e-8."""
    _, other = pair(name, 2)
    # Single precision, whatever it is asked for; a detector that sees a part alone has no good inverse.
    check(other, laws=[law for law in LAWS if law != "pinv"], tolerance=LAWS_SINGLE)
    x = images(SCANS[name], 1)[0]
    y = torch.rand(other.out_shape, generator=torch.Generator().manual_seed(2))
    left = (other(x).double() * y.double()).sum()
    right = (x.double() * other.adjoint(y).double()).sum()
    assert abs(float(left / right) - 1) < DOT


def test_units_are_mm():
    """A uniform square of 1/mm, seen along the rows: its width in mm, whatever the pixel."""
    for pixel in (0.25, 1.0, 3.0):
        scan = ParallelBeam((0.0, math.pi / 2), 8, pixel, (8, 8), pixel)
        line = ParallelBeamCT(scan, projector="astra")(torch.ones(8, 8))
        assert torch.allclose(line, torch.full((2, 8), 8 * pixel), rtol=CHORD)


def test_precision_batches_and_complex_images():
    own, other = pair("flat")
    x = images(SCANS["flat"], 6).reshape(2, 3, *SCANS["flat"].shape)
    assert other(x.double()).dtype == torch.float64
    assert relative(other(x.double()).float(), own(x)) < SAME
    z = torch.complex(x, -x)
    assert relative(other(z), own(z)) < SAME
    assert other(x[:0]).shape == (0, 3, *other.out_shape)
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(other(strided), other(x))


def test_gradients_come_from_the_adjoint():
    _, other = pair("square")
    x = images(SCANS["square"], 1)[0].requires_grad_()
    v = torch.rand(other.out_shape, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad(other(x), x, v)
    assert torch.equal(gradient, other.adjoint(v))


def disc(scan: ParallelBeam) -> torch.Tensor:
    side = torch.linspace(-1, 1, scan.shape[0])
    r = (side[:, None] ** 2 + side[None] ** 2).sqrt()
    return 0.02 * (r < 0.8) + 0.01 * (r < 0.3)


def test_reconstructions_agree():
    """FBP of either sinogram (3e-6 apart), and two samplers on either operator (4e-6 and 7e-5)."""
    own, other = pair("square", 2)
    x = disc(SCANS["square"])
    y = own(x)
    classical = fbp(y, SCANS["square"])
    assert relative(fbp(other(x), SCANS["square"]), classical) < SAME
    for sampler, steps in (("dds", 8), ("tv", 60)):
        ours, theirs = (
            solve(y, A, noise=Gaussian(0.01), sampler=sampler, n_steps=steps).image
            for A in (own, other)
        )
        # Their inner conjugate gradients carry the projectors' rounding along from step to step.
        assert relative(theirs, ours) < STEPS
        assert relative(theirs, x) < relative(classical, x)


def test_auto_is_our_own():
    own, _ = pair("square")
    x = images(SCANS["square"])
    assert torch.equal(ParallelBeamCT(SCANS["square"])(x), own(x))


def test_astra_itself_takes_the_geometry():
    """`astra_geometry` through ASTRA's own interface gives what the operator gives."""
    scan = SCANS["offset"]
    rays, volume = astra_projection.astra_geometry(scan)
    projector = astra.create_projector("linear", rays, volume)
    x = images(scan, 1)[0]
    sinogram = astra.OpTomo(projector).FP(x.numpy())
    assert torch.equal(torch.from_numpy(sinogram), ParallelBeamCT(scan, projector="astra")(x))
    astra.projector.delete(projector)


def test_refusals_say_what_to_do(monkeypatch):
    oblong = ParallelBeam.covering(shape=(8, 8), views=3, pixel_mm=(1.0, 2.0))
    with pytest.raises(ConfigError, match=r"square pixels only, got 1\.0 x 2\.0 mm.*'own'"):
        ParallelBeamCT(oblong, projector="astra")
    with pytest.raises(ConfigError, match="projector is 'gpu', expected one of auto, own, astra"):
        ParallelBeamCT(SCANS["square"], projector="gpu")
    with pytest.raises(DeviceError, match="not on meta"):
        astra_projection.forward(torch.empty(1, 40, 40, device="meta"), SCANS["square"])
    monkeypatch.setitem(sys.modules, "astra", None)
    with pytest.raises(
        ConfigError, match=r"needs the package astra.*pip install 'restore\[astra\]'"
    ):
        ParallelBeamCT(SCANS["square"], projector="astra")


FANS = {
    "full turn": FanBeam(equispaced(30, 360), 60, 1.2, 60.0, 100.0, 0.4),
    "slanted, source off the axis": FanBeam(
        equispaced(30, 360), 66, 1.2, 60.0, 100.0, source_offset_mm=2.0, slant_deg=8.0
    ),
}


@pytest.mark.parametrize("name", FANS)
def test_fans_agree_and_are_matched(name):
    """A blob, whose two discretisations of lines differ little: the geometry is the same."""
    grid = VoxelGrid((40, 44), 0.8, (0.5, -0.4))
    own, other = (
        XRayTransform(FANS[name], grid, projector=p, rays_per_bin=2) for p in ("own", "astra")
    )
    r = (torch.arange(40)[:, None] - 17.0) ** 2 + (torch.arange(44) - 24.0) ** 2
    blob = torch.exp(-r / (2 * 5.0**2))
    assert relative(other(blob), own(blob)) < LINES
    check(other, laws=[law for law in LAWS if law != "pinv"], tolerance=LAWS_SINGLE)
    assert relative(other.pinv(other(blob)), blob) < 2 * relative(own.pinv(own(blob)), blob)


def test_other_scans_are_refused():
    arc = dataclasses.replace(FANS["full turn"], detector_shape="equiangular")
    with pytest.raises(ConfigError, match="no equiangular fan; use projector='own'"):
        XRayTransform(arc, VoxelGrid((8, 8)), projector="astra")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    """Its projector is Joseph's in single precision; its backprojector is not the exact transpose."""
    if not astra.use_cuda():
        pytest.skip("this ASTRA sees no CUDA device")
    own, other = pair("square")
    x = images(SCANS["square"])
    assert relative(other.to("cuda")(x.cuda()).cpu(), own(x)) < TEXTURE
    y = own(x)
    assert relative(other.to("cuda").adjoint(y.cuda()).cpu(), own.adjoint(y)) < UNMATCHED
