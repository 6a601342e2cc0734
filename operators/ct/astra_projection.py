"""Line integrals and their transpose by the ASTRA toolbox: a second projector behind `ParallelBeamCT`.

ASTRA's "linear" projector is Joseph's method, as ours is: on a CPU the two agree to the rounding of
single precision, and its backprojector is its exact transpose. On a CUDA device its projectors are
"cuda", whose backprojector is in general not the transpose of the projector. ASTRA (GPL) is
optional and imported on first use.

Called by the CT operator only. Same units, order and signs as `projection`; one small cache.
"""

from __future__ import annotations

import functools
import math
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, DeviceError
from restore.extras import load_extra
from restore.operators.ct.geometry import ParallelBeam

_CACHED_PROJECTORS = 4


def forward(x: Tensor, geometry: ParallelBeam) -> Tensor:
    """Line integrals of images, computed in single precision.

    x: (n, ny, nx), in 1/mm. Returns (n, views, detectors) in the precision of x, without unit. Raises
    ConfigError (pixels not square, no ASTRA), DeviceError (ASTRA cannot use the tensor's device).
    """
    return _each(_projector(geometry, _kind(x)).forward, x, geometry.sinogram_shape)


def adjoint(y: Tensor, geometry: ParallelBeam) -> Tensor:
    """ASTRA's backprojection: on a CPU the transpose of `forward`.

    y: (n, views, detectors). Returns (n, ny, nx) in the precision of y. Raises as `forward` does.
    """
    return _each(_projector(geometry, _kind(y)).backward, y, geometry.shape)


def check_geometry(geometry: ParallelBeam) -> None:
    """Refuse what ASTRA cannot do, before any work. Raises ConfigError."""
    load_extra("astra", "astra", "projector='astra'")
    dy, dx = geometry.pixel_mm
    if not math.isclose(dy, dx, rel_tol=1e-9):
        raise ConfigError(
            f"ASTRA takes square pixels only, got {dy} x {dx} mm; use projector='own'"
        )


def astra_geometry(geometry: ParallelBeam) -> tuple[dict[str, Any], dict[str, Any]]:
    """ASTRA's (projection geometry, volume geometry) of a scan, in mm: for calling ASTRA oneself.

    The projection geometry is "parallel_vec", which knows the offset of the detector: a ray runs along
    (sin, -cos), bin k lies at u_k (cos, sin) with u_k = (k - (n_det - 1)/2) spacing + offset.
    Raises ConfigError (pixels not square, no ASTRA).
    """
    check_geometry(geometry)
    astra = load_extra("astra", "astra", "astra_geometry")
    (ny, nx), pixel = geometry.shape, geometry.pixel_mm[0]
    x, y = nx / 2 * pixel, ny / 2 * pixel
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

    def __init__(self, geometry: ParallelBeam, kind: str) -> None:
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
def _projector(geometry: ParallelBeam, kind: str) -> _Projector:
    return _Projector(geometry, kind)


def _kind(x: Tensor) -> str:
    if x.device.type not in ("cpu", "cuda"):
        raise DeviceError(f"ASTRA computes on CPU and CUDA, not on {x.device}; use projector='own'")
    return "linear" if x.device.type == "cpu" else "cuda"


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
