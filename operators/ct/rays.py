"""Joseph's rays in three dimensions: the arithmetic of one ray and of one voxel, shared by every processor.

Joseph (IEEE TMI 1982) steps along the axis that a ray crosses fastest, slab by slab of voxels, and interpolates
linearly between the four voxels beside it (two in the plane). The functions here are compiled by numba, for the CPU
where `ray_products` calls them and for CUDA where the kernels of `ray_cuda` do: one source, the same weights.

Volumes are flat and padded by zeros, so that no tap needs a mask. Positions are in voxels and in double precision
whatever the volume is: single precision would move a ray by 1e-5 of a voxel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.views import Views

PAD = 2
"""Zero voxels on every side: a tap may lie one voxel outside, and rounding may move it by one more."""

compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
"""Without Python's lock, so that threads run side by side; numba's own threads abort where two callers meet."""


class Layout(NamedTuple):
    """A scan as the kernels read it.

    views: (views, 26) float64, in voxels in the order (slice, row, column): origin, base, along, column step, row step
    (`Views.basis`), then the inverse of the last three, what of base lies along the row step, and bins a radian.
    turn, place: (columns,) of `Views.column_tables`. shape: of the volume; pitch: (dz, dy, dx) in mm. pad: zeros on
    each side. level: whether all rays run within one slice. rows: of the detector.
    """

    views: NDArray[np.float64]
    turn: NDArray[np.float64]
    place: NDArray[np.float64]
    shape: tuple[int, int, int]
    pitch: tuple[float, float, float]
    pad: tuple[int, int, int]
    rows: int
    parallel: bool
    level: bool

    @property
    def padded(self) -> tuple[int, ...]:
        """Shape of a padded volume."""
        return tuple(n + 2 * p for n, p in zip(self.shape, self.pad, strict=True))

    @property
    def sinogram(self) -> tuple[int, int, int]:
        """(views, rows, columns)."""
        return len(self.views), self.rows, len(self.turn)


def layout(views: Views, grid: VoxelGrid) -> Layout:
    """Views and voxels as the kernels read them."""
    base, along = views.basis()
    origin = grid.to_index(views.centre if views.parallel else views.source)
    steps = [grid.directions_to_index(v) for v in (base, along, views.u, views.v)]
    inverse = np.linalg.inv(np.stack(steps[1:], axis=-1))
    sunk = (inverse @ steps[0][..., None])[:, 2]
    radian = np.full_like(sunk, views.bins_a_radian)
    packed = np.hstack([origin, *steps, inverse.reshape(-1, 9), sunk, radian])
    level = grid.in_plane and views.rows == 1
    turn, place = views.column_tables()
    return Layout(
        np.ascontiguousarray(packed), turn, place, grid.shape3, grid.pitch3_mm,
        (0 if level else PAD, PAD, PAD), views.rows, views.parallel, level,
    )  # fmt: skip


def padded(x: Tensor, scan: Layout) -> Tensor:
    """Volumes (n, slices, rows, columns) with the zeros around that the kernels count on."""
    slices, rows, columns = scan.pad
    return pad(x, (columns, columns, rows, rows, slices, slices))


@compiled
def ray(one: Any, turn: float, place: float, row: float, parallel: bool) -> Any:
    """Origin and direction of the ray through a bin: six numbers, in voxels as (slice, row, column)."""
    r0, r1, r2 = one[12] * row, one[13] * row, one[14] * row
    u0, u1, u2 = one[9] * place + r0, one[10] * place + r1, one[11] * place + r2
    if parallel:
        return one[0] + u0, one[1] + u1, one[2] + u2, one[6], one[7], one[8]
    return (
        one[0], one[1], one[2],
        one[3] + turn * one[6] + u0, one[4] + turn * one[7] + u1, one[5] + turn * one[8] + u2,
    )  # fmt: skip


@compiled
def driving_axis(d0: float, d1: float, d2: float) -> int:
    """The axis of the volume that a ray crosses fastest; rows rather than columns, columns rather than slices."""
    best, axis = abs(d1), 1
    if abs(d2) > best * (1 + 1e-9):
        best, axis = abs(d2), 2
    if abs(d0) > best * (1 + 1e-9):
        axis = 0
    return axis


@compiled
def across(axis: int) -> Any:
    """The two axes besides the driving one."""
    if axis == 0:
        return 1, 2
    return 0, 3 - axis


@compiled
def chosen(axis: int, x0: float, x1: float, x2: float) -> Any:
    """One of three numbers."""
    if axis == 0:
        return x0
    return x1 if axis == 1 else x2


@compiled
def mm_a_slab(axis: int, d0: float, d1: float, d2: float, pitch: Any) -> float:
    """Length of a ray between two slabs of its driving axis."""
    x, y, z = d0 * pitch[0], d1 * pitch[1], d2 * pitch[2]
    return math.sqrt(x * x + y * y + z * z) / abs(chosen(axis, d0, d1, d2))


@compiled
def narrowed(start: float, slope: float, n: int, low: int, high: int) -> Any:
    """The slabs low..high at which start + slope slab lies within the reach of n voxels, -1 to n."""
    if abs(slope) < 1e-12:
        if start <= -1 or start >= n:
            return 1, 0
        return low, high
    first, last = (-1 - start) / slope, (n - start) / slope
    if first > last:
        first, last = last, first
    if first > low:
        low = math.ceil(min(first, high + 1.0))
    if last < high:
        high = math.floor(max(last, low - 1.0))
    return low, high


@compiled
def course(axis: int, o: Any, d: Any, shape: Any, low: int, high: int) -> Any:
    """How a ray crosses the slabs low..high of its axis: the axes beside it, place and slope in each, and which slabs.

    At slab s the ray stands at place + slope s; it meets the volume in the slabs that come last.
    """
    b, c = across(axis)
    oa, da = chosen(axis, o[0], o[1], o[2]), chosen(axis, d[0], d[1], d[2])
    slope_b = chosen(b, d[0], d[1], d[2]) / da
    slope_c = chosen(c, d[0], d[1], d[2]) / da
    start_b = chosen(b, o[0], o[1], o[2]) - oa * slope_b
    start_c = chosen(c, o[0], o[1], o[2]) - oa * slope_c
    low, high = narrowed(start_b, slope_b, shape[b], low, high)
    low, high = narrowed(start_c, slope_c, shape[c], low, high)
    return b, c, start_b, slope_b, start_c, slope_c, low, high


@compiled
def line_sum(volume: Any, one: Any, turn: float, place: float, row: float, scan: Any) -> float:
    """The line integral along one ray. scan: (shape, pitch, pad, strides, parallel, level)."""
    shape, pitch, pad, strides, parallel, level = scan
    o0, o1, o2, d0, d1, d2 = ray(one, turn, place, row, parallel)
    axis = driving_axis(d0, d1, d2)
    b, c, pb, sb, pc, sc, low, high = course(
        axis, (o0, o1, o2), (d0, d1, d2), shape, 0, shape[axis] - 1
    )
    pb, pc = pb + pad[b], pc + pad[c]
    step_b, step_c, total = strides[b], strides[c], 0.0
    at = (low + pad[axis]) * strides[axis]
    for slab in range(low, high + 1):
        y = pc + sc * slab
        j = int(y)
        fy = y - j
        if level:
            k = at + j * step_c
            total += volume[k] + fy * (volume[k + step_c] - volume[k])
        else:
            x = pb + sb * slab
            i = int(x)
            fx = x - i
            k = at + i * step_b + j * step_c
            near = volume[k] + fy * (volume[k + step_c] - volume[k])
            k += step_b
            far = volume[k] + fy * (volume[k + step_c] - volume[k])
            total += near + fx * (far - near)
        at += strides[axis]
    return total * mm_a_slab(axis, d0, d1, d2, pitch)


@compiled
def spread(
    volume: Any, value: float, one: Any, turn: float, place: float, row: float, scan: Any,
    axis: int, first: int, last: int,
) -> None:  # fmt: skip
    """The transpose of `line_sum` within slabs first..last of an axis: nothing where the ray has another one."""
    shape, pitch, pad, strides, parallel, level = scan
    o0, o1, o2, d0, d1, d2 = ray(one, turn, place, row, parallel)
    if driving_axis(d0, d1, d2) != axis:
        return
    b, c, pb, sb, pc, sc, low, high = course(axis, (o0, o1, o2), (d0, d1, d2), shape, first, last)
    pb, pc = pb + pad[b], pc + pad[c]
    step_b, step_c = strides[b], strides[c]
    value *= mm_a_slab(axis, d0, d1, d2, pitch)
    at = (low + pad[axis]) * strides[axis]
    for slab in range(low, high + 1):
        y = pc + sc * slab
        j = int(y)
        fy = y - j
        if level:
            k = at + j * step_c
            volume[k] += value * (1 - fy)
            volume[k + step_c] += value * fy
        else:
            x = pb + sb * slab
            i = int(x)
            fx = x - i
            k = at + i * step_b + j * step_c
            far = value * fx
            near = value - far
            volume[k] += near * (1 - fy)
            volume[k + step_c] += near * fy
            k += step_b
            volume[k] += far * (1 - fy)
            volume[k + step_c] += far * fy
        at += strides[axis]


@compiled
def project_rows(
    volume: Any, views: Any, turns: Any, places: Any, scan: Any, out: Any, start: int, stop: int
) -> None:
    """Line integrals of the detector rows start..stop - 1, counted through all views. out: (views, rows, columns)."""
    rows = out.shape[1]
    for item in range(start, stop):
        view, i = item // rows, item % rows
        row = i - (rows - 1) / 2
        for j in range(len(turns)):
            out[view, i, j] = line_sum(volume, views[view], turns[j], places[j], row, scan)


@compiled
def spread_slabs(
    volume: Any, y: Any, views: Any, turns: Any, places: Any, scan: Any, axis: int, first: int, last: int
) -> None:  # fmt: skip
    """What all rays with this driving axis give to slabs first..last, in the order of the rays."""
    count, rows, columns = y.shape
    for view in range(count):
        for i in range(rows):
            row = i - (rows - 1) / 2
            for j in range(columns):
                if y[view, i, j] != 0:
                    spread(
                        volume, y[view, i, j], views[view], turns[j], places[j], row, scan, axis, first, last,
                    )  # fmt: skip


@compiled
def axes_in_use(views: Any, turns: Any, places: Any, rows: int, parallel: bool, used: Any) -> None:
    """Mark in `used` (3,) the driving axes that occur."""
    for view in range(len(views)):
        for i in range(rows):
            for j in range(len(turns)):
                _, _, _, d0, d1, d2 = ray(
                    views[view], turns[j], places[j], i - (rows - 1) / 2, parallel
                )
                used[driving_axis(d0, d1, d2)] = True
