"""ASTRA's own projectors as operators of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.errors import ConfigError, DeviceError
from restore.front_door import solve
from restore.operators.ct.astra_projection import astra_geometry
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.interop import from_astra

SINGLE = 1e-4  # float32 on both sides, sums over some hundred products; 5e-6 seen
STEPS = 1e-3  # ten steps of a sampler carry the rounding of float32 along
KERNELS = 0.01  # the kernels' discretisations differ; 0.3 and 0.2 % seen
RECOVERED = 0.1  # what is left after the sampler's few steps

astra = pytest.importorskip("astra")

SCAN = ParallelBeam.covering(shape=(24, 20), views=18, pixel_mm=1.5)


@pytest.fixture
def projector():
    made = []

    def make(kind: str, rays=None, volume=None) -> int:
        own = astra_geometry(SCAN)
        made.append(astra.create_projector(kind, rays or own[0], volume or own[1]))
        return made[-1]

    yield make
    astra.projector.delete(made)


def test_joseph_is_our_projector(projector, same_map):
    """Both in single precision: 5e-6 seen, see tests/operators/ct/test_astra_projection.py."""
    op = from_astra(projector("linear"))
    same_map(op, ParallelBeamCT(SCAN), SINGLE)
    assert op.kind == "ct"
    assert op.mismatch < SINGLE


def test_samplers_give_the_same_image(projector):
    """The same lengths in mm, hence the same intensity scale, and the same image to the rounding of the steps."""
    theirs, ours = from_astra(projector("linear")), ParallelBeamCT(SCAN)
    truth = torch.zeros(24, 20)
    truth[6:18, 5:14] = 0.02
    y = ours(truth)
    assert theirs.unit_scale(y) == ours.unit_scale(y)
    for sampler in ("tv", "dds"):
        images = [
            solve(y, A, noise=0.01, sampler=sampler, n_steps=10).image for A in (theirs, ours)
        ]
        difference = torch.linalg.vector_norm(images[0] - images[1])
        assert difference < STEPS * torch.linalg.vector_norm(images[1]), (sampler, difference)


@pytest.mark.parametrize("kind", ["line", "strip"])
def test_other_kernels_measure_the_same_lines(projector, kind):
    """They differ from Joseph's by the discretisation: below 1 % for a smooth disc (0.3 and 0.2 % seen)."""
    op = from_astra(astra.OpTomo(projector(kind)))
    row = torch.linspace(-1, 1, 24)[:, None] ** 2 + torch.linspace(-0.83, 0.83, 20)[None] ** 2
    x = torch.exp(-6 * row)
    ours = ParallelBeamCT(SCAN)(x)
    assert torch.linalg.vector_norm(op(x) - ours) < KERNELS * torch.linalg.vector_norm(ours)


def test_a_fan_beam_is_reconstructed(projector):
    """A geometry that this package has no operator for, through a sampler that needs no more than A and its adjoint."""
    rays = astra.create_proj_geom(
        "fanflat", 1.0, 48, np.linspace(0, 2 * np.pi, 40, endpoint=False), 80.0, 80.0
    )
    op = from_astra(projector("line_fanflat", rays, astra.create_vol_geom(24, 20)))
    truth = torch.zeros(24, 20)
    truth[6:18, 5:14] = 0.02
    found = solve(op(truth), op, sampler="tv", n_steps=40, weight=1e-4).image
    assert torch.linalg.vector_norm(found - truth) < RECOVERED * torch.linalg.vector_norm(truth)


def test_what_is_no_usable_projector_is_refused(projector):
    with pytest.raises(ConfigError, match="got a str, expected the id of a projector"):
        from_astra("linear")
    with pytest.raises(ConfigError, match="ASTRA has no projector 999999"):
        from_astra(999999)
    if not astra.use_cuda():
        with pytest.raises(DeviceError, match="needs a CUDA device, and ASTRA finds none"):
            from_astra(projector("cuda"))
        cone = astra.create_proj_geom("cone", 1, 1, 10, 10, [0.0, 1.0], 100, 100)
        volume = projector("cuda3d", cone, astra.create_vol_geom(8, 8, 8))
        with pytest.raises(DeviceError, match="needs a CUDA device"):
            from_astra(volume)
