"""ASTRA's projector of volumes: what it is told, the order of its axes, refusals. CUDA itself is a stand-in."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, DeviceError
from restore.operators.ct import astra_volumes
from restore.operators.ct.beams import Beam, ConeBeam, FreeBeam, ParallelBeam3D
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform

SAME = 1e-5  # float32: the same weights from geometries rounded twice; 3e-7 seen

GRID = VoxelGrid((4, 6, 5), 0.8, (0.2, 0.3, -0.1))
CONE = ConeBeam(
    equispaced(5, 360, 10), (6, 9), (1.4, 1.2), 40.0, 60.0, det_offset_mm=(0.2, -0.4), tilt_deg=3.0, pitch_mm=1.0
)  # fmt: skip
SCANS: dict[str, Beam] = {
    "helix": CONE,
    "parallel": ParallelBeam3D(equispaced(5, 180, 10), (6, 9), (0.9, 0.8), (0.1, 0.2)),
}


class Astra(SimpleNamespace):
    """ASTRA's names on the CPU: rows of a volume towards +y, projections (rows, views, columns), by our own rays."""

    def __init__(self, cuda: bool) -> None:
        self.made: dict[int, XRayTransform] = {}
        self.deleted: list[int] = []
        product = {"direct_FP": self.forward, "direct_BP": self.back, "delete": self.deleted.append}
        super().__init__(
            use_cuda=lambda: cuda,
            create_proj_geom=lambda *given: given,
            create_vol_geom=lambda *given: given,
            create_projector=self.create,
            projector3d=SimpleNamespace(**product),
        )

    def create(self, kind: str, rays: tuple[Any, ...], volume: tuple[Any, ...]) -> int:
        assert kind == "cuda3d"
        ny, nx, nz, x0, x1, y0, y1, z0, z1 = volume
        pitch = np.array([(z1 - z0) / nz, (y1 - y0) / ny, (x1 - x0) / nx])
        grid = VoxelGrid((nz, ny, nx), pitch, ((z0 + z1) / 2, (y0 + y1) / 2, (x0 + x1) / 2))
        word, rows, columns, vectors = rays
        beam = FreeBeam(vectors.tolist(), (rows, columns), parallel=word == "parallel3d_vec")
        self.made[len(self.made)] = XRayTransform(beam, grid)
        return len(self.made) - 1

    def forward(self, which: int, x: Tensor, *, out: Tensor) -> None:
        out.copy_(self.made[which](x.flip(1)).transpose(0, 1))

    def back(self, which: int, y: Tensor, *, out: Tensor) -> None:
        out.copy_(self.made[which].adjoint(y.transpose(0, 1).contiguous()).flip(1))


@pytest.fixture
def stand_in(monkeypatch) -> Astra:
    """With a CUDA device that every tensor lies on."""
    found = Astra(cuda=True)
    monkeypatch.setitem(sys.modules, "astra", found)
    monkeypatch.setattr(astra_volumes, "_finish", lambda device: None)
    monkeypatch.setattr(astra_volumes, "DEVICE", "cpu")
    return found


@pytest.mark.parametrize("rays", [1, 2])
@pytest.mark.parametrize("name", SCANS)
def test_astra_is_told_our_rays_in_its_own_axes(stand_in, name, rays):
    own, other = (
        XRayTransform(SCANS[name], GRID, projector=p, rays_per_bin=rays) for p in ("own", "astra")
    )
    x = torch.rand(2, *GRID.shape, generator=torch.Generator().manual_seed(0))
    y = torch.rand(2, *own.out_shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(other(x), own(x), rtol=SAME, atol=SAME)
    torch.testing.assert_close(other.adjoint(y), own.adjoint(y), rtol=SAME, atol=SAME)
    assert other(x.double()).dtype == torch.float64
    assert len(stand_in.made) == 1
    del other
    assert stand_in.deleted == [0]


def test_no_answer_is_refused(stand_in):
    stand_in.projector3d.direct_FP = lambda which, x, *, out: None
    with pytest.raises(DeviceError, match="gave no answer"):
        XRayTransform(CONE, GRID, projector="astra")(torch.rand(GRID.shape))


def test_without_cuda_it_is_refused_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "astra", Astra(cuda=False))
    with pytest.raises(
        DeviceError, match=r"on a CUDA device, and sees none here; use projector='own'"
    ):
        XRayTransform(CONE, GRID, projector="astra")
    monkeypatch.setitem(sys.modules, "astra", None)
    with pytest.raises(ConfigError, match=r"pip install 'restore\[astra\]'"):
        XRayTransform(CONE, GRID, projector="astra")


def test_tensors_elsewhere_and_voxels_that_are_no_cubes_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "astra", Astra(cuda=True))
    with pytest.raises(DeviceError, match="the tensor lies on cpu"):
        XRayTransform(CONE, GRID, projector="astra")(torch.rand(GRID.shape))
    with pytest.raises(ConfigError, match="cubic voxels only"):
        XRayTransform(CONE, dataclasses.replace(GRID, voxel_mm=(0.8, 0.8, 0.7)), projector="astra")
