"""The middle of k-space where few of its lines were measured side by side: filled, so that coil maps can be seen in it.

Called by the set-up of scans; imports the joint estimate and the maps of this folder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import cg
from restore.operators.mri.coil_maps import Region, espirit
from restore.operators.mri.joint_maps import (
    WIDTH,
    WIDTH_OF_VOLUMES,
    Box,
    JointEstimate,
    check_sampling,
    joint_estimate,
    middle_box,
)
from restore.operators.mri.multicoil import MultiCoilMRI

FEW_LINES = 12
"""Lines along the shorter axis of the fully sampled middle up to which it is filled. From 14 on ESPIRiT of them alone
is as good or better (docs/coils.md)."""

FILLED = 16
"""Lines along each axis that are filled."""

WORSE = 1.15
"""Factor by which maps of the measured lines alone must leave more of the samples about the middle than those of the
filled one, for that to be taken: below it filling lost up to 2.8 dB (docs/coils.md)."""

DAMPING, STEPS, TOLERANCE = 1e-3, 100, 1e-4
"""Of the least squares that tells what maps leave: weight of the image, conjugate gradients, and where these end."""

READOUT = 24
"""Of a volume, samples along the readout that are kept beside them: what ESPIRiT looks at."""


def needs_filling(region: Box, mask: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the fully sampled middle is that short, and the lines around it tell image and maps apart.

    region: rows and columns, of a volume those of its two phase encodings; mask: broadcastable to (H, W) or (D, H, W),
    boolean or 0/1; shape: (coils, H, W) or (coils, D, H, W).
    """
    coils, *plane = shape
    if coils < 2 or min(part.stop - part.start for part in region) > FEW_LINES:
        return False
    try:
        check_sampling(mask, tuple(plane))
    except ConfigError:  # too even for a joint estimate: there are the measured lines alone
        return False
    return True


def calibration_data(
    kspace: Tensor, mask: Tensor, region: Region | None
) -> tuple[Tensor, Region | None, JointEstimate | None]:
    """K-space (coils, H, W) and the region of it that ESPIRiT makes maps of: filled where it needs to be and where that
    explains the samples better; and the estimate that fills it, None where it needs not be."""
    if region is None or not needs_filling(region, mask, tuple(kspace.shape)):
        return kspace, region, None
    estimate = joint_estimate(kspace, mask)
    middle, place = filled_centre(kspace, mask, estimate)
    alone, filled = (
        left_by_maps(kspace, mask, *which) for which in ((kspace, region), (middle, place))
    )
    return (kspace, region, estimate) if alone <= WORSE * filled else (middle, place, estimate)


def left_by_maps(kspace: Tensor, mask: Tensor, middle: Tensor, region: Region) -> float:
    """Share of the samples about the middle, 0..1, that no image explains through ESPIRiT's maps of another k-space.

    kspace: what was measured, complex (coils, H, W); mask: broadcastable to (H, W), boolean or 0/1; middle: k-space
    like it, of whose region the maps are made. All on a grid of as many pixels as there are samples, 64 x 64 at most.
    Zeros leave nothing.
    """
    box = middle_box(tuple(kspace.shape[1:]), WIDTH)
    inside = slice(None), *box
    sampled = mask.to(kspace.device).bool().expand(kspace.shape[1:])[box].contiguous()
    rows, columns = (_within(part, outer) for part, outer in zip(region, box, strict=True))
    maps, _ = espirit(middle[inside].contiguous(), (rows, columns))
    y = kspace[inside] * sampled
    encoding = MultiCoilMRI(maps, sampled)
    image = cg(
        lambda v: torch.add(encoding.normal(v), v, alpha=DAMPING), encoding.adjoint(y),
        iters=STEPS, tol=TOLERANCE, item_ndim=2,
    ).x  # fmt: skip
    size = float(torch.linalg.vector_norm(y))
    return float(torch.linalg.vector_norm(y - encoding(image))) / size if size else 0.0


def _within(part: slice, outer: slice) -> slice:
    """A part of an axis, counted from where the outer one begins and cut to it."""
    start = 0 if part.start is None else part.start
    stop = outer.stop if part.stop is None else part.stop
    return slice(max(start, outer.start) - outer.start, min(stop, outer.stop) - outer.start)


def filled_centre(
    kspace: Tensor, mask: Tensor, estimate: JointEstimate | None = None
) -> tuple[Tensor, Region]:
    """K-space (coils, H, W) with a middle of 16 x 16 samples, and its place: what ESPIRiT makes maps of.

    estimate: of image and maps, where it was made already.

    What was measured stays; what was not is that of image and maps estimated together from the 64 x 64 samples about
    the middle (`joint_estimate`). ESPIRiT of 5 to 7 lines alone has kernels of two samples along them, whose maps shade
    the image in stripes; maps of the joint estimate itself are smoother than coils are. Zero outside of the middle.
    """
    found = joint_estimate(kspace, mask) if estimate is None else estimate
    filled, (rows, columns) = found.centre(tuple(kspace.shape[1:]), FILLED)
    sampled = mask.to(kspace.device).bool().expand(kspace.shape[1:])
    middle = torch.zeros_like(kspace)
    block = (slice(None), rows, columns)
    middle[block] = torch.where(sampled[rows, columns], kspace[block], filled[block])
    return middle, (rows, columns)


def cube_about_middle(matrix: tuple[int, ...]) -> Box:
    """Of k-space of a volume (D, H, W), what `filled_cube` takes."""
    half = WIDTH_OF_VOLUMES // 2
    return tuple(slice(max(0, n // 2 - half), min(n, n // 2 + half)) for n in matrix)


def filled_cube(kspace: Tensor, mask: Tensor, readout: int) -> tuple[Tensor, Box, JointEstimate]:
    """As `filled_centre`, of a volume: samples of its middle, where in the cube they lie, and the estimate.

    kspace: (coils, d, h, w) of `cube_about_middle`; mask: boolean of its shape (d, h, w); readout: the axis of it along
    which all was measured, of which `READOUT` samples are kept, `FILLED` of the others.
    """
    found = joint_estimate(kspace, mask)
    filled, _ = found.centre(tuple(mask.shape), READOUT)
    sizes = [READOUT if axis == readout else FILLED for axis in range(3)]
    box = tuple(
        slice(max(0, n // 2 - size // 2), min(n, n // 2 + size // 2))
        for n, size in zip(mask.shape, sizes, strict=True)
    )
    inside = (slice(None), *box)
    return torch.where(mask[box], kspace[inside], filled[inside]), box, found
