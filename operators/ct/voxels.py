"""What one voxel sees: its place on the detector, backprojection, and the transpose of Joseph's rays in gather form.

The other side of `rays`, compiled as those are. The CPU backprojects by `smear_rows`, CUDA voxel by voxel by
`smeared_to`; on CUDA the transpose is gathered too (`gathered`), where the CPU spreads it ray by ray: the same weights.
"""

from __future__ import annotations

import math
from typing import Any

from restore.operators.ct.rays import (
    across,
    chosen,
    compiled,
    course,
    driving_axis,
    mm_a_slab,
    ray,
)


@compiled
def seen_at(one: Any, p0: float, p1: float, p2: float, parallel: bool) -> Any:
    """Where a point is seen: bins from the detector's middle along columns and rows, and its depth (`Views.locate`)."""
    q0, q1, q2 = p0 - one[0], p1 - one[1], p2 - one[2]
    ahead = one[15] * q0 + one[16] * q1 + one[17] * q2
    beside = one[18] * q0 + one[19] * q1 + one[20] * q2
    above = one[21] * q0 + one[22] * q1 + one[23] * q2
    if parallel:
        return beside, above, 1.0
    if one[25] > 0:
        aside = beside / one[25]
        depth = math.sqrt(ahead * ahead + aside * aside)
        return math.atan2(aside, ahead) * one[25], above / depth - one[24], depth
    over = 1 / ahead
    return beside * over, above * over, ahead


@compiled
def read(grey: Any, column: float, row: float, level: bool) -> float:
    """A view (rows, columns) at a place between bins: linear, zero off the detector."""
    high, wide = grey.shape
    left, low = math.floor(column), math.floor(row)
    if left < -1 or left >= wide or (not level and (low < -1 or low >= high)):
        return 0.0
    f, g = column - left, row - low
    w0, w1 = (1 - f if left >= 0 else 0.0), (f if left + 1 < wide else 0.0)
    c0, c1 = max(left, 0), min(left + 1, wide - 1)
    if level:
        return w0 * grey[0, c0] + w1 * grey[0, c1]
    total = 0.0
    if low >= 0:
        total += (1 - g) * (w0 * grey[low, c0] + w1 * grey[low, c1])
    if low + 1 < high:
        total += g * (w0 * grey[low + 1, c0] + w1 * grey[low + 1, c1])
    return total


@compiled
def smeared_to(
    grey: Any, one: Any, share: float, parallel: bool, level: bool, k: int, i: int, j: int
) -> float:  # fmt: skip
    """What a voxel gets of one filtered view by backprojection: its value there times share over depth squared."""
    column, row, depth = seen_at(one, k, i, j, parallel)
    high, wide = grey.shape
    value = read(grey, column + (wide - 1) / 2, row + (high - 1) / 2, level)
    return value * share / (depth * depth)


@compiled
def smear_rows(
    out: Any, filtered: Any, views: Any, shares: Any, parallel: bool, level: bool, start: int, stop: int
) -> None:  # fmt: skip
    """Add the backprojection to rows start..stop - 1 of a volume (slices, rows, columns), counted through all slices.

    filtered: (views, rows, columns). shares: (views,) radians. `smeared_to` written out: three times as fast.
    """
    count, high, wide = filtered.shape
    ny, nx = out.shape[1], out.shape[2]
    for view in range(count):
        one, grey = views[view], filtered[view]
        for item in range(start, stop):
            k, i = item // ny, item % ny
            for j in range(nx):
                column, row, depth = seen_at(one, k, i, j, parallel)
                column += (wide - 1) / 2
                row += (high - 1) / 2
                left = math.floor(column)
                if left < -1 or left >= wide:
                    continue
                f = column - left
                share = shares[view] / (depth * depth)
                w0 = 1 - f if left >= 0 else 0.0
                w1 = f if left + 1 < wide else 0.0
                c0, c1 = max(left, 0), min(left + 1, wide - 1)
                if level:
                    out[k, i, j] += share * (w0 * grey[0, c0] + w1 * grey[0, c1])
                    continue
                low = math.floor(row)
                if low < -1 or low >= high:
                    continue
                g = row - low
                total = 0.0
                if low >= 0:
                    total += (1 - g) * (w0 * grey[low, c0] + w1 * grey[low, c1])
                if low + 1 < high:
                    total += g * (w0 * grey[low + 1, c0] + w1 * grey[low + 1, c1])
                out[k, i, j] += share * total


@compiled
def gathered(
    y: Any, views: Any, turns: Any, places: Any, scan: Any, axes: Any, k: int, i: int, j: int
) -> float:
    """What one voxel gets from the transpose of `line_sum`: the same weights, met from the voxel's side.

    The rays that give to a voxel cross its slab within one voxel of it. That square, seen from the source, is a
    quadrilateral on the detector; the bins of its bounding box are tried. axes: (3,) bool, the driving axes that occur.
    No two voxels write to the same place, which is what many threads without a cache of their own want.
    """
    shape, pitch, _, _, parallel, level = scan
    count, high, wide = y.shape
    total = 0.0
    for view in range(count):
        one = views[view]
        for axis in range(3):
            if axes[axis]:
                low_j, top_j, low_i, top_i = window(one, axis, k, i, j, high, wide, parallel, level)
                for row in range(low_i, top_i + 1):
                    for column in range(low_j, top_j + 1):
                        total += y[view, row, column] * voxel_weight(
                            one, turns[column], places[column], row - (high - 1) / 2,
                            shape, pitch, parallel, level, axis, k, i, j,
                        )  # fmt: skip
    return total


@compiled
def window(
    one: Any, axis: int, k: int, i: int, j: int, high: int, wide: int, parallel: bool, level: bool
) -> Any:  # fmt: skip
    """The bins that may see a voxel along a driving axis: first and last column, first and last row."""
    b, c = across(axis)
    left, right, low, top = wide + 0.0, -1.0, high + 0.0, -1.0
    for corner in range(4):
        x, y = 2.0 * (corner // 2) - 1, 2.0 * (corner % 2) - 1
        d0 = x if b == 0 else 0.0
        d1 = x if b == 1 else (y if c == 1 else 0.0)
        d2 = y if c == 2 else 0.0
        column, row, _ = seen_at(one, k + d0, i + d1, j + d2, parallel)
        left, right = min(left, column), max(right, column)
        low, top = min(low, row), max(top, row)
    edge = 1.0 if one[25] > 0 else 1e-6  # the quadrilateral of an arc bulges
    middle, centre = (wide - 1) / 2, (high - 1) / 2
    first, last = (
        max(0, math.ceil(left + middle - edge)),
        min(wide - 1, math.floor(right + middle + edge)),
    )
    if level:
        return first, last, 0, 0
    return (
        first,
        last,
        max(0, math.ceil(low + centre - edge)),
        min(high - 1, math.floor(top + centre + edge)),
    )


@compiled
def voxel_weight(
    one: Any, turn: float, place: float, row: float, shape: Any, pitch: Any, parallel: bool, level: bool,
    axis: int, k: int, i: int, j: int,
) -> float:  # fmt: skip
    """The entry of the matrix for one ray and one voxel, zero where the ray has another driving axis."""
    o0, o1, o2, d0, d1, d2 = ray(one, turn, place, row, parallel)
    if driving_axis(d0, d1, d2) != axis:
        return 0.0
    slab = chosen(axis, k, i, j)
    b, c, pb, sb, pc, sc, low, high = course(
        axis, (o0, o1, o2), (d0, d1, d2), shape, int(slab), int(slab)
    )
    if low > high:
        return 0.0
    weight = 1 - abs(pc + sc * slab - chosen(c, k, i, j))
    if not level:
        weight = max(weight, 0.0) * max(1 - abs(pb + sb * slab - chosen(b, k, i, j)), 0.0)
    return max(weight, 0.0) * mm_a_slab(axis, d0, d1, d2, pitch)
