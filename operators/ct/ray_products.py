"""Line integrals along the rays of any geometry and their transpose, on tensors: who computes, in how many threads.

Called by the operator `x_ray_transform`. The forward product runs over detector rows, the transpose over slabs of the
volume that fit the cache: a slab is written by one thread, in the order of the rays, so that the result does not depend
on the number of threads. Tensors of other devices than the CPU go to CUDA kernels where there are any, else through the
CPU and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.operators.ct import ray_cuda, rays, voxels
from restore.operators.ct.rays import Layout

_ROWS = 8  # detector rows a piece of work
_SLABS = 16  # slabs a piece of work: a megabyte of a volume of 128 cubed


def forward(x: Tensor, scan: Layout) -> Tensor:
    """Line integrals of volumes.

    x: (n, slices, rows, columns), float32 or float64, in 1/mm. Returns (n, views, rows, columns), without unit.
    """
    if ray_cuda.serves(x):
        return ray_cuda.forward(x, scan)
    volumes = rays.padded(_here(x), scan)
    out = volumes.new_empty(len(x), *scan.sinogram)
    count = scan.sinogram[0] * scan.sinogram[1]
    for volume, answer in zip(volumes, out, strict=True):
        flat, into = volume.flatten().numpy(), answer.numpy()

        def piece(start: int, flat: Any = flat, into: Any = into) -> None:
            stop = min(start + _ROWS, count)
            rays.project_rows(
                flat, scan.views, scan.turn, scan.place, _constants(scan), into, start, stop
            )

        _all(piece, range(0, count, _ROWS))
    return _there(out, x)


def adjoint(y: Tensor, scan: Layout, axes: tuple[int, ...]) -> Tensor:
    """The transpose of `forward`.

    y: (n, views, rows, columns), float32 or float64. axes: `driving_axes`. Returns (n, slices, rows, columns).
    """
    if ray_cuda.serves(y):
        return ray_cuda.adjoint(y, scan, axes)
    measured = _here(y)
    out = measured.new_zeros(len(y), *scan.padded)
    for one, volume in zip(measured, out, strict=True):
        source, flat = one.numpy(), volume.view(-1).numpy()
        for axis in axes:

            def piece(first: int, source: Any = source, flat: Any = flat, axis: int = axis) -> None:
                last = min(first + _SLABS, scan.shape[axis]) - 1
                rays.spread_slabs(
                    flat, source, scan.views, scan.turn, scan.place, _constants(scan), axis, first, last
                )  # fmt: skip

            _all(piece, range(0, scan.shape[axis], _SLABS))
    inside = tuple(slice(p, p + n) for p, n in zip(scan.pad, scan.shape, strict=True))
    return _there(out[(slice(None), *inside)].contiguous(), y)


def smeared(filtered: Tensor, scan: Layout, shares: NDArray[np.float64]) -> Tensor:
    """Backprojection: what every voxel sees of filtered views, linear between bins, over the square of its depth.

    filtered: (n, views, rows, columns). shares: (views,) float64, radians that each view stands for. Returns
    (n, slices, rows, columns). Not the transpose of `forward`, whose weights do not add up to a constant.
    """
    if ray_cuda.serves(filtered):
        return ray_cuda.smeared(filtered, scan, shares)
    views = _here(filtered)
    out = views.new_zeros(len(views), *scan.shape)
    count = scan.shape[0] * scan.shape[1]
    for one, volume in zip(views, out, strict=True):
        source, into = one.numpy(), volume.numpy()

        def piece(start: int, source: Any = source, into: Any = into) -> None:
            stop = min(start + _ROWS, count)
            voxels.smear_rows(
                into, source, scan.views, shares, scan.parallel, scan.level, start, stop
            )

        _all(piece, range(0, count, _ROWS))
    return _there(out, filtered)


def driving_axes(scan: Layout) -> tuple[int, ...]:
    """The axes along which the rays of a scan step: one pass over its rays."""
    used = np.zeros(3, np.bool_)
    rays.axes_in_use(scan.views, scan.turn, scan.place, scan.rows, scan.parallel, used)
    return tuple(int(axis) for axis in np.flatnonzero(used))


def _here(x: Tensor) -> Tensor:
    """The values on the CPU, in the order of their indices."""
    x = x.detach()
    if x.device.type != "cpu":
        x = torch.empty(x.shape, dtype=x.dtype, device="cpu").copy_(x)
    return x.contiguous()


def _there(values: Tensor, like: Tensor) -> Tensor:
    """Values where another tensor lies."""
    if like.device.type == "cpu":
        return values
    return like.new_empty(values.shape).copy_(values)


def _constants(scan: Layout) -> tuple[Any, ...]:
    _, ny, nx = scan.padded
    return scan.shape, scan.pitch, scan.pad, (ny * nx, nx, 1), scan.parallel, scan.level


def _all(piece: Callable[[int], None], starts: Iterable[int]) -> None:
    """Every piece of work once, in as many threads as torch has; an error of one is raised."""
    threads = torch.get_num_threads()
    if threads == 1:
        for start in starts:
            piece(start)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(piece, starts):
            pass
