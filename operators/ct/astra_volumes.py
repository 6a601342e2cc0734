"""Line integrals of volumes by the ASTRA toolbox on a CUDA device: a second projector behind `XRayTransform`.

Called by the operator alone. ASTRA projects volumes on CUDA only, in single precision; its backprojector drives voxels
and is not the transpose of its projector, so that solvers stop somewhat beside the minimum. Any geometry goes there as
the vectors of its views. ASTRA (GPL) is optional and imported on first use.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, DeviceError
from restore.extras import load_extra
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.views import Views

_WHO = "projector='astra'"
DEVICE = "cuda"
"""Where ASTRA projects volumes."""
_MIRROR = np.array([1.0, -1.0, 1.0])
"""ASTRA's rows of a volume run towards +y, ours towards -y: it is shown the mirrored scan of the mirrored volume."""


def check(grid: VoxelGrid) -> None:
    """Refuse what ASTRA cannot do here, before any work. Raises ConfigError, DeviceError."""
    astra = load_extra("astra", "astra", _WHO)
    if max(grid.pitch3_mm) > min(grid.pitch3_mm) * (1 + 1e-9):
        raise ConfigError(
            f"{_WHO}: volumes with cubic voxels only, got {grid.pitch3_mm} mm; use projector='own'"
        )
    if not astra.use_cuda():
        raise DeviceError(
            f"{_WHO}: ASTRA projects volumes on a CUDA device, and sees none here; use projector='own'"
        )


def geometries(views: Views, grid: VoxelGrid) -> tuple[dict[str, Any], dict[str, Any]]:
    """ASTRA's (projection geometry, volume geometry), in mm: cone_vec or parallel3d_vec of the mirrored scan."""
    astra = load_extra("astra", "astra", _WHO)
    vectors = views.vectors.reshape(-1, 4, 3) * _MIRROR
    kind = "parallel3d_vec" if views.parallel else "cone_vec"
    (nz, ny, nx), (dz, dy, dx), (z, y, x) = grid.shape3, grid.pitch3_mm, grid.centre3_mm
    sides = ((x, nx * dx), (-y, ny * dy), (z, nz * dz))
    ends = [middle + sign * length / 2 for middle, length in sides for sign in (-1, 1)]
    return (
        astra.create_proj_geom(kind, views.rows, views.columns, vectors.reshape(-1, 12)),
        astra.create_vol_geom(ny, nx, nz, *ends),
    )


class VolumeProjector:
    """One of ASTRA's projector objects, deleted together with this one. Raises as `check`."""

    def __init__(self, views: Views, grid: VoxelGrid) -> None:
        check(grid)
        astra = load_extra("astra", "astra", _WHO)
        self._views, self._grid = views.shape, grid.shape3
        self._id = astra.create_projector("cuda3d", *geometries(views, grid))
        self._astra = astra.projector3d
        weakref.finalize(self, astra.projector3d.delete, self._id)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, slices, rows, columns) on CUDA, in 1/mm. Returns (n, views, rows, columns) in its precision, without
        unit. Raises DeviceError for a tensor that lies elsewhere, and where ASTRA fails."""
        views, rows, columns = self._views
        found = _each(self._id, self._astra.direct_FP, x, (rows, views, columns))
        return found.transpose(1, 2).contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """ASTRA's backprojection, about the transpose of `forward`. y: (n, views, rows, columns) on CUDA. Returns
        (n, slices, rows, columns). Raises as `forward`."""
        return _each(self._id, self._astra.direct_BP, y.transpose(1, 2), self._grid)


def _each(projector: int, product: Any, data: Tensor, shape: tuple[int, ...]) -> Tensor:
    """ASTRA reads and writes float32 tensors in place, one volume at a time."""
    if data.device.type != DEVICE:
        raise DeviceError(
            f"{_WHO}: ASTRA projects volumes on CUDA, and the tensor lies on {data.device}; move operator and data "
            "with .to('cuda'), or use projector='own'"
        )
    source = data.detach().to(torch.float32).contiguous()
    # NaN first: a CUDA product that fails may return without a word and without an answer.
    out = source.new_full((len(source), *shape), math.nan)
    _finish(data.device)  # ASTRA works in a stream of its own
    for one, answer in zip(source, out, strict=True):
        product(projector, one, out=answer)
    if bool(out.flatten(1)[:, :1].isnan().any()) and bool(source.isfinite().all()):
        raise DeviceError(f"{_WHO}: ASTRA gave no answer on the CUDA device; use projector='own'")
    return out.to(data.dtype)


def _finish(device: torch.device) -> None:
    """Wait for what torch still computes there."""
    torch.cuda.synchronize(device)
