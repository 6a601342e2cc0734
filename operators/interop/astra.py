"""ASTRA: a projector of its own, with whatever geometry, as our operator.

Called by users through `restore.operators.interop`. For parallel beams of this package's geometry see
`ParallelBeamCT(..., projector="astra")` instead, and `astra_geometry` for the way there. ASTRA is optional and imported
on first use.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.errors import ConfigError, DeviceError
from restore.extras import load_extra
from restore.operators.interop.arrays import NumpyProducts
from restore.operators.interop.foreign import Foreign, wrapped


def from_astra(
    projector: Any, *, kind: str = "ct", allow_unmatched: bool = False, name: str = ""
) -> Foreign:
    """An ASTRA projector, by its id or as an `OpTomo`, as an operator from volumes to sinograms.

    Images have the shape of the volume geometry, (rows, columns) or (slices, rows, columns); measurements that of the
    projection geometry, (views, detectors) or (detector rows, views, detector columns). Lengths are those of the
    geometry; kind "ct" says that they are mm, so that images are in 1/mm. ASTRA computes in single precision,
    item by item; its arrays lie on the CPU, also where it projects on a CUDA device. It must not be deleted while the
    operator is used. Raises ConfigError (no projector; an adjoint that is none, as those of most CUDA projectors,
    unless `allow_unmatched`), DeviceError (a CUDA projector, and no device).
    """
    astra = load_extra("astra", "astra", "from_astra")
    number = getattr(projector, "proj_id", projector)
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise ConfigError(
            f"from_astra: got a {type(projector).__name__}, expected the id of a projector or an OpTomo"
        )
    flat, volume = _room(astra, int(number))
    if flat.is_cuda(number) and not astra.use_cuda():
        # Without a driver a 2-D product answers nothing, and a 3-D product ends the process.
        raise DeviceError(
            f"from_astra: projector {number} needs a CUDA device, and ASTRA finds none"
        )
    before = tuple(map(int, astra.geom_size(volume)))
    after = tuple(map(int, astra.geom_size(flat.projection_geometry(number))))
    products = NumpyProducts(
        AstraMap(flat.direct_FP, int(number), after),
        AstraMap(flat.direct_BP, int(number), before),
        before,
        after,
        precision=torch.float32,
    )
    operator = Foreign(products, name or f"astra projector {number}", before, after, kind=kind)
    return wrapped(operator, allow_unmatched=allow_unmatched)


@dataclasses.dataclass(frozen=True)
class AstraMap:
    """One of ASTRA's products: it fills an array that it is given."""

    product: Callable[..., Any]
    projector: int
    shape: tuple[int, ...]

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """The product of x, in single precision."""
        # NaN first: a CUDA product that fails may return without a word and without an answer.
        out = np.full(self.shape, math.nan, np.float32)
        self.product(self.projector, np.ascontiguousarray(x), out=out)
        return out


def _room(astra: Any, number: int) -> tuple[Any, dict[str, Any]]:
    """The part of ASTRA that holds a projector, for planes or for volumes, and its volume geometry."""
    for part in (astra.projector, astra.projector3d):
        try:
            return part, part.volume_geometry(number)
        except astra.log.AstraError:
            continue
    raise ConfigError(f"from_astra: ASTRA has no projector {number}")
