"""The kernels of `rays` and `voxels` on a CUDA device, on torch's own memory: a thread for every ray or voxel.

Called by `ray_products`. numba compiles the same functions as for the CPU. The transpose and the backprojection gather,
so that no two threads write to one place and the result is always the same. Without numba's CUDA target or without a
device of it `serves` says no, and the products go through the CPU.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba.cuda
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.operators.ct.rays import Layout, line_sum, padded
from restore.operators.ct.voxels import gathered, smeared_to

cuda: Any = numba.cuda  # its types are those of its own stubs, not of kernels
_THREADS = 128  # of a block


def serves(x: Tensor) -> bool:
    """Whether numba can compute where this tensor lies."""
    return type(x) is Tensor and x.is_cuda and bool(cuda.is_available())


def forward(x: Tensor, scan: Layout) -> Tensor:
    """As `ray_products.forward`, on the device of x."""
    volumes, out = padded(x.detach(), scan), x.new_empty(len(x), *scan.sinogram)
    there = _tables(scan, x.device)
    for volume, answer in zip(volumes, out, strict=True):
        _run(_kernels().project, answer, volume.reshape(-1), answer, *there[:3], *_numbers(scan))
    return out


def adjoint(y: Tensor, scan: Layout, axes: tuple[int, ...]) -> Tensor:
    """As `ray_products.adjoint`, on the device of y."""
    measured, out = y.detach().contiguous(), y.new_empty(len(y), *scan.shape)
    there = _tables(scan, y.device)
    used = tuple(axis in axes for axis in range(3))
    for one, volume in zip(measured, out, strict=True):
        _run(_kernels().gather, volume, one, volume, *there[:3], *_numbers(scan), *used)
    return out


def smeared(filtered: Tensor, scan: Layout, shares: NDArray[np.float64]) -> Tensor:
    """As `ray_products.smeared`, on the device of `filtered`."""
    views, out = filtered.detach().contiguous(), filtered.new_empty(len(filtered), *scan.shape)
    where = _tables(scan, filtered.device)[0]
    part = torch.from_numpy(shares).to(filtered.device)
    for one, volume in zip(views, out, strict=True):
        _run(_kernels().smear, volume, one, volume, where, part, scan.parallel, scan.level)
    return out


def _tables(scan: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The views and the columns' tables there: some hundred bytes a view."""
    views, turn, place = (
        torch.from_numpy(t).to(device) for t in (scan.views, scan.turn, scan.place)
    )
    return views, turn, place


def _numbers(scan: Layout) -> tuple[Any, ...]:
    return *scan.shape, *scan.pitch, scan.pad[0], scan.pad[1], scan.parallel, scan.level


def _run(kernel: Any, out: Tensor, *arguments: Any) -> None:
    """One thread for every entry of `out`, in the stream that torch works in."""
    blocks = -(-out.numel() // _THREADS)
    if not out.is_cuda:  # numba's simulator, which has no streams and reads arrays
        arrays = [a.numpy() if isinstance(a, Tensor) else a for a in arguments]
        kernel[blocks, _THREADS](*arrays)
        return
    stream = cuda.external_stream(torch.cuda.current_stream(out.device).cuda_stream)
    with torch.cuda.device(out.device):
        kernel[blocks, _THREADS, stream](*arguments)


class _Kernels(NamedTuple):
    project: Any
    gather: Any
    smear: Any


@functools.cache
def _kernels() -> _Kernels:
    """Made at the first product: the decorator asks for a driver."""

    @cuda.jit
    def project(
        volume: Any, out: Any, views: Any, turns: Any, places: Any, nz: int, ny: int, nx: int,
        dz: float, dy: float, dx: float, pad_z: int, pad: int, parallel: bool, level: bool,
    ) -> None:  # fmt: skip
        at = cuda.grid(1)
        if at < out.size:
            rows, columns = out.shape[1], out.shape[2]
            view, i, j = at // (rows * columns), (at // columns) % rows, at % columns
            wide = nx + 2 * pad
            scan = (
                (nz, ny, nx), (dz, dy, dx), (pad_z, pad, pad), ((ny + 2 * pad) * wide, wide, 1), parallel, level,
            )  # fmt: skip
            out[view, i, j] = line_sum(
                volume, views[view], turns[j], places[j], i - (rows - 1) / 2, scan
            )

    @cuda.jit
    def gather(
        y: Any, out: Any, views: Any, turns: Any, places: Any, nz: int, ny: int, nx: int,
        dz: float, dy: float, dx: float, pad_z: int, pad: int, parallel: bool, level: bool,
        along_z: bool, along_y: bool, along_x: bool,
    ) -> None:  # fmt: skip
        at = cuda.grid(1)
        if at < out.size:
            k, i, j = at // (ny * nx), (at // nx) % ny, at % nx
            scan = (
                (nz, ny, nx), (dz, dy, dx), (pad_z, pad, pad), (ny * nx, nx, 1), parallel, level,
            )  # fmt: skip
            axes = (along_z, along_y, along_x)
            out[k, i, j] = gathered(y, views, turns, places, scan, axes, k, i, j)

    @cuda.jit
    def smear(
        filtered: Any, out: Any, views: Any, shares: Any, parallel: bool, level: bool
    ) -> None:
        at = cuda.grid(1)
        if at < out.size:
            ny, nx = out.shape[1], out.shape[2]
            k, i, j = at // (ny * nx), (at // nx) % ny, at % nx
            total = 0.0
            for view in range(len(filtered)):
                total += smeared_to(
                    filtered[view], views[view], shares[view], parallel, level, k, i, j
                )
            out[k, i, j] = total

    return _Kernels(project, gather, smear)
