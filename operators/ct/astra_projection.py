"""Line integrals and their transpose by the ASTRA toolbox: a second projector behind `ParallelBeamCT`, and for fans.

ASTRA's "linear" projector is Joseph's method, as ours is: on a CPU the two agree to the rounding of
single precision, and its backprojector is its exact transpose. Of flat fans it has "line_fanflat"
alone, the length of a ray in every pixel, matched too. Volumes, which it projects on CUDA alone, are `astra_volumes`'.
On a CUDA device its projectors are "cuda", whose backprojector is in general not the transpose of the projector. ASTRA
(GPL) is optional and imported on first use.

Called by the CT operator only. Same units, order and signs as `projection`; one small cache.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, DeviceError
from restore.extras import load_extra
from restore.operators.ct.beams import Beam, FanBeam
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.grid import VoxelGrid

_CACHED_PROJECTORS = 4


class Fan(NamedTuple):
    """A flat fan and the image that it looks at, with what is asked of a `ParallelBeam` here."""

    beam: FanBeam
    grid: VoxelGrid

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(views, detectors)."""
        return len(self.beam.angles), self.beam.n_det

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.grid.shape3[1:]

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """(dy, dx)."""
        return self.grid.pitch3_mm[1:]


def fan(beam: Beam, grid: VoxelGrid, rays: int) -> Fan:
    """The fan as ASTRA projects it, with so many rays a bin. Raises ConfigError for what it cannot project on a CPU."""
    if not isinstance(beam, FanBeam) or beam.detector_shape != "flat":
        kind = f"{beam.detector_shape} fan" if isinstance(beam, FanBeam) else f"{beam.kind} scan"
        raise ConfigError(
            f"projector='astra': ASTRA has flat fans alone on a CPU, no {kind}; use projector='own'"
        )
    finer = dataclasses.replace(
        beam, n_det=beam.n_det * rays, det_spacing_mm=beam.det_spacing_mm / rays
    )
    found = Fan(finer, grid)
    check_geometry(found)
    return found


def forward(x: Tensor, geometry: ParallelBeam | Fan) -> Tensor:
    """Line integrals of images, computed in single precision.

    x: (n, ny, nx), in 1/mm. Returns (n, views, detectors) in the precision of x, without unit. Raises
    ConfigError (pixels not square, no ASTRA), DeviceError (ASTRA cannot use the tensor's device).
    """
    return _each(_projector(geometry, _kind(x, geometry)).forward, x, geometry.sinogram_shape)


def adjoint(y: Tensor, geometry: ParallelBeam | Fan) -> Tensor:
    """ASTRA's backprojection: on a CPU the transpose of `forward`.

    y: (n, views, detectors). Returns (n, ny, nx) in the precision of y. Raises as `forward` does.
    """
    return _each(_projector(geometry, _kind(y, geometry)).backward, y, geometry.shape)


def check_geometry(geometry: ParallelBeam | Fan) -> None:
    """Refuse what ASTRA cannot do, before any work. Raises ConfigError."""
    load_extra("astra", "astra", "projector='astra'")
    dy, dx = geometry.pixel_mm
    if not math.isclose(dy, dx, rel_tol=1e-9):
        raise ConfigError(
            f"ASTRA takes square pixels only, got {dy} x {dx} mm; use projector='own'"
        )


def astra_geometry(geometry: ParallelBeam | Fan) -> tuple[dict[str, Any], dict[str, Any]]:
    """ASTRA's (projection geometry, volume geometry) of a scan, in mm: for calling ASTRA oneself.

    The projection geometry is "parallel_vec", which knows the offset of the detector: a ray runs along
    (sin, -cos), bin k lies at u_k (cos, sin) with u_k = (k - (n_det - 1)/2) spacing + offset. That of a fan is
    "fanflat_vec".
    Raises ConfigError (pixels not square, no ASTRA).
    """
    check_geometry(geometry)
    astra = load_extra("astra", "astra", "astra_geometry")
    (ny, nx), pixel = geometry.shape, geometry.pixel_mm[0]
    x, y = nx / 2 * pixel, ny / 2 * pixel
    if isinstance(geometry, Fan):
        views, (_, cy, cx) = geometry.beam.reduced(), geometry.grid.centre3_mm
        parts = [part[:, :2] for part in (views.source, views.centre, views.u)]
        return (
            astra.create_proj_geom("fanflat_vec", geometry.beam.n_det, np.hstack(parts)),
            astra.create_vol_geom(ny, nx, cx - x, cx + x, cy - y, cy + y),
        )
    theta = np.asarray(geometry.angles)
    axis = np.stack([np.cos(theta), np.sin(theta)], 1)
    rays = np.stack([np.sin(theta), -np.cos(theta)], 1)
    vectors = np.hstack([rays, geometry.det_offset_mm * axis, geometry.det_spacing_mm * axis])
    return (
        astra.create_proj_geom("parallel_vec", geometry.n_det, vectors),
        astra.create_vol_geom(ny, nx, -x, x, -y, y),
    )


class _Projector:
    """One of ASTRA's projector objects, deleted together with this one."""

    def __init__(self, geometry: ParallelBeam | Fan, kind: str) -> None:
        astra = load_extra("astra", "astra", "projector='astra'")
        if kind == "cuda" and not astra.use_cuda():  # without a driver it would answer nothing
            raise DeviceError(
                "the image lies on a CUDA device that ASTRA cannot use; use projector='own'"
            )
        self._id = astra.create_projector(kind, *astra_geometry(geometry))
        self._product = astra.projector
        weakref.finalize(self, astra.projector.delete, self._id)

    def forward(self, x: Tensor, out: Tensor) -> None:
        self._product.direct_FP(self._id, x, out=out)

    def backward(self, y: Tensor, out: Tensor) -> None:
        self._product.direct_BP(self._id, y, out=out)


@functools.lru_cache(maxsize=_CACHED_PROJECTORS)
def _projector(geometry: ParallelBeam | Fan, kind: str) -> _Projector:
    return _Projector(geometry, kind)


def _kind(x: Tensor, geometry: ParallelBeam | Fan) -> str:
    if x.device.type not in ("cpu", "cuda"):
        raise DeviceError(f"ASTRA computes on CPU and CUDA, not on {x.device}; use projector='own'")
    if x.device.type != "cpu":
        return "cuda"
    return "line_fanflat" if isinstance(geometry, Fan) else "linear"


def _each(product: Any, data: Tensor, shape: tuple[int, int]) -> Tensor:
    """ASTRA reads and writes float32 tensors in place, one image at a time."""
    source = data.detach().to(torch.float32).contiguous()
    # NaN first: a CUDA product that fails may return without a word and without an answer.
    out = source.new_full((len(source), *shape), math.nan)
    for one, answer in zip(source, out, strict=True):
        product(one, answer)
    if out.is_cuda and bool(out[:, 0, 0].isnan().any()) and bool(source.isfinite().all()):
        raise DeviceError("ASTRA gave no answer on the CUDA device; use projector='own'")
    return out.to(data.dtype)
