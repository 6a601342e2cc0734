"""Joseph's weights of parallel-beam rays, as seen from the rays and as seen from the pixels.

Joseph (IEEE TMI 1982) steps along the image axis that a ray crosses fastest and interpolates
linearly between the two pixels beside it. Seen from a pixel the same weight is a triangle on the
detector,

    w(k) = L max(0, 1 - |u_k - u_pixel| / h),   h = |cos| dx,  L = dy / |cos|,

which gives the exact transpose in gather form: no scatter, no atomics, always the same order of
summation.

Called by the projection products only. Pure functions of a block of views (see `view_symmetry`),
whose rays all step along rows.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.view_symmetry import Block

PAD = 2
"""Zero columns on either side of an image, so that taps beside it need no mask."""


class Triangle(NamedTuple):
    """What a pixel looks like on the detector, for every angle of a block.

    half: (R,) half width in bins. height: (R,) in mm. taps: the most bins strictly inside.
    """

    half: Tensor
    height: Tensor
    taps: int


def footprint(block: Block, geometry: ParallelBeam) -> Triangle:
    """The triangle of Joseph's weights; its area is that of the pixel."""
    half = block.cos * block.pixel_mm[1] / geometry.det_spacing_mm
    taps = math.ceil(2 * float(half.max()) - 1e-9)
    return Triangle(half, block.pixel_mm[0] / block.cos, taps)


def interpolation(block: Block, geometry: ParallelBeam) -> Triangle:
    """The triangle that interpolates linearly between bins: height one, to the next bins."""
    one = torch.ones_like(block.cos)
    return Triangle(one, one, 2)


def ray_taps(
    block: Block, geometry: ParallelBeam, views: slice, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What every ray reads in every row.

    Returns columns and weights (R, detectors, rows, 2) and the left pixel (R, detectors, rows).
    Positions are in double precision whatever `like` is: single precision would move a ray by
    1e-5 of a pixel. Rays beside the image read its zero columns.
    """
    (rows, cols), (dy, dx) = block.shape, block.pixel_mm
    cos, sin = (t[views].to(like.device)[:, None] for t in (block.cos, block.sin))
    place = functools.partial(torch.arange, dtype=torch.float64, device=like.device)
    bins = place(geometry.n_det) - (geometry.n_det - 1) / 2
    u = bins * geometry.det_spacing_mm + geometry.det_offset_mm
    y = ((rows - 1) / 2 - place(rows)) * dy
    start = u / (cos * dx) + (cols - 1) / 2
    position = start[:, :, None] - (y * sin / (cos * dx))[:, None, :]
    left = position.clamp_(-PAD, cols).floor()
    right_weight = position.sub_(left).mul_((dy / cos)[:, :, None])
    value = like.new_empty(*left.shape, 2)
    value[..., 1] = right_weight
    torch.sub((dy / cos)[:, :, None], right_weight, out=right_weight)
    value[..., 0] = right_weight
    column = torch.empty(*left.shape, 2, dtype=torch.int32, device=like.device)
    column[..., 0] = left + (place(rows) * (cols + 2 * PAD) + PAD)
    torch.add(column[..., 0], 1, out=column[..., 1])
    return column, value, left


def pixel_taps(
    block: Block,
    geometry: ParallelBeam,
    triangle: Triangle,
    views: slice,
    part: slice,
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """What every pixel of some image rows reads of some views.

    Returns columns and weights, both (rows, cols, R, taps).
    """
    (rows, cols), (dy, dx) = block.shape, block.pixel_mm
    taps, spacing = triangle.taps, geometry.det_spacing_mm
    per_view = (block.cos, block.sin, triangle.half, triangle.height)
    cos, sin, half, height = (t[views].to(like.device) for t in per_view)
    place = functools.partial(torch.arange, dtype=torch.float64, device=like.device)
    x = (place(cols) - (cols - 1) / 2) * dx
    y = ((rows - 1) / 2 - place(rows)[part]) * dy
    middle = (geometry.n_det - 1) / 2 - geometry.det_offset_mm / spacing
    foot = (x[:, None] * cos / spacing + middle - half) + (y[:, None] * sin / spacing)[:, None, :]
    first = foot.clamp_(-taps - 1, geometry.n_det - 1).floor().add_(1)
    # How far the first bin lies from the triangle's foot, in half widths.
    rise = torch.sub(first, foot, out=foot).div_(half).to(like.dtype)
    value = like.new_empty(*rise.shape, taps)
    column = torch.empty(value.shape, dtype=torch.int32, device=like.device)
    base = place(len(cos)) * (geometry.n_det + 2 * taps) + taps
    height = height.to(like.dtype)
    for tap in range(taps):
        to_top = (rise + (tap / half - 1).to(like.dtype)).abs_()
        value[..., tap] = torch.sub(1, to_top, out=to_top).clamp_(min=0).mul_(height)
        column[..., tap] = first + (base + tap)
    return column, value
