"""The middle of k-space where few of its lines were measured side by side: filled, so that coil maps can be seen in it.

Called by the set-up of scans; imports the joint estimate of this folder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.joint_maps import (
    WIDTH_OF_VOLUMES,
    Box,
    JointEstimate,
    check_sampling,
    joint_estimate,
)

FEW_LINES = 12
"""Lines along the shorter axis of the fully sampled middle up to which it is filled. From 14 on ESPIRiT of them alone
is as good or better (docs/coils.md)."""

FILLED = 16
"""Lines along each axis that are filled."""

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
    """K-space (coils, H, W) and the region of it that ESPIRiT makes maps of: filled where it needs to be, by what."""
    if region is None or not needs_filling(region, mask, tuple(kspace.shape)):
        return kspace, region, None
    estimate = joint_estimate(kspace, mask)
    return *filled_centre(kspace, mask, estimate), estimate


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
