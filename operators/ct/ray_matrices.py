"""Joseph's weights of a scan in the plane as stored sparse matrices: memory against time.

Called by the operator `x_ray_transform`; pure functions. The weights are those that `rays` makes anew in every product.
Volumes have none: a ray of a cone takes four voxels a slab, and a small panel of a short scan is beyond any memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from restore.operators.ct import rays
from restore.operators.ct.projection import csr
from restore.operators.ct.rays import Layout

_TAPS = 2  # pixels that a ray takes in a slab
_INDEX_BYTES = 4


class Pair:
    """A (rays, pixels) and its transpose in CSR: an object, since tuples cannot be referred to weakly."""

    def __init__(self, rays_first: Tensor, pixels_first: Tensor) -> None:
        self.rays_first, self.pixels_first = rays_first, pixels_first

    def forward(self, x: Tensor, scan: Layout) -> Tensor:
        """x: (n, rows, columns) in 1/mm. Returns (n, views, 1, columns), without unit."""
        return (self.rays_first @ x.flatten(1).T).T.reshape(len(x), *scan.sinogram)

    def adjoint(self, y: Tensor, scan: Layout) -> Tensor:
        """y: (n, views, 1, columns). Returns (n, 1, rows, columns)."""
        return (self.pixels_first @ y.flatten(1).T).T.reshape(len(y), *scan.shape)


_STORED: weakref.WeakValueDictionary[Hashable, Pair] = weakref.WeakValueDictionary()


def most_entries(scan: Layout) -> int:
    """How many weights a scan has at most, without making them."""
    return len(scan.views) * scan.rows * len(scan.turn) * _TAPS * max(scan.shape)


def most_bytes(scan: Layout, dtype: torch.dtype) -> int:
    """What both matrices take at most."""
    return 2 * most_entries(scan) * (dtype.itemsize + _INDEX_BYTES)


def stored(
    key: Hashable, scan: Callable[[], Layout], dtype: torch.dtype, device: torch.device
) -> Pair:
    """The matrices of a scan in the plane; those who give the same key share them as long as one holds them."""
    key = (key, dtype, device)
    found = _STORED.get(key)
    if found is None:
        with torch.inference_mode(False):  # others may use them in another mode
            found = _made(scan(), dtype, device)
        _STORED[key] = found
    return found


def _made(scan: Layout, dtype: torch.dtype, device: torch.device) -> Pair:
    count = len(scan.views) * len(scan.turn)
    starts = np.zeros(count + 1, np.int32)
    empty = np.zeros(0, np.int32), np.zeros(0)
    numbers = (scan.views, scan.turn, scan.place, scan.shape, scan.pitch, scan.parallel)
    _write(*numbers, starts, *empty, False)
    np.cumsum(starts, out=starts)
    columns = np.empty(starts[-1], np.int32)
    values = np.empty(starts[-1], np.float64 if dtype == torch.float64 else np.float32)
    _write(*numbers, starts, columns, values, True)
    size = count, scan.shape[1] * scan.shape[2]
    turned = sparse.csr_matrix((values, columns, starts), size).tocsc()
    first = _tensor(starts, columns, values, size, device)
    second = _tensor(turned.indptr, turned.indices, turned.data, size[::-1], device)
    return Pair(first, second)


def _tensor(
    starts: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], size: tuple[int, int], device: torch.device
) -> Tensor:  # fmt: skip
    rows, indices, entries = (
        torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (starts, columns, values)
    )
    return csr(rows, indices, entries, size)


@rays.compiled
def _write(
    views: Any, turns: Any, places: Any, shape: Any, pitch: Any, parallel: bool,
    starts: Any, columns: Any, values: Any, fill: bool,
) -> None:  # fmt: skip
    """The weights of `rays.line_sum` in the plane. fill=False: count those of ray k into starts[k + 1] alone."""
    for view in range(len(views)):
        for bin in range(len(turns)):
            k = view * len(turns) + bin
            o0, o1, o2, d0, d1, d2 = rays.ray(views[view], turns[bin], places[bin], 0.0, parallel)
            axis = rays.driving_axis(d0, d1, d2)
            _, c, _, _, start, slope, low, high = rays.course(
                axis, (o0, o1, o2), (d0, d1, d2), shape, 0, shape[axis] - 1
            )
            length = rays.mm_a_slab(axis, d0, d1, d2, pitch)
            step = shape[2] if axis == 1 else 1
            beside = shape[2] if c == 1 else 1
            at = starts[k]
            for slab in range(low, high + 1):
                place = start + slope * slab + rays.PAD  # positive, so that int rounds down
                left = int(place) - rays.PAD
                share = place - int(place)
                for tap in range(_TAPS):
                    i = left + tap
                    if i < 0 or i >= shape[c]:
                        continue
                    if fill:
                        columns[at] = slab * step + i * beside
                        values[at] = length * (share if tap else 1 - share)
                        at += 1
                    else:
                        starts[k + 1] += 1
