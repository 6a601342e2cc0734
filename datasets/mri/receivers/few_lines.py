"""What is said of scans whose middle of k-space has few lines, and is filled before coil maps are estimated from it.

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
import torch

from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.filling import FILLED, needs_filling
from restore.operators.mri.joint_maps import JointEstimate

LEFT = 0.03
"""Of the samples about the middle, beyond the noise, that image and maps estimated together leave of sound scans at
most: heads reach 0.027, and from 0.032 on maps were off by 8 % and more (docs/coils.md)."""

DOUBTED = "image and maps that are estimated together from the middle of k-space"
"""How a note on it begins."""


def filling_note(
    regions: tuple[Region | None, ...], mask: Mask, shape: tuple[int, ...]
) -> str | None:
    """A note where the middle of a slice is filled, None where none is. shape: (coils, H, W)."""
    short = [
        min(part.stop - part.start for part in region)
        for index, region in enumerate(regions)
        if region is not None
        and needs_filling(region, torch.from_numpy(np.array(slice_mask(mask, index))), shape)
    ]
    if not short:
        return None
    return (
        f"the fully sampled middle of k-space has {min(short)} lines, few to see coil maps in: maps are estimated from "
        f"its {FILLED} x {FILLED} samples, filled by image and maps estimated together, or from the lines alone in "
        "slices whose samples that explains no better; look for shading, or give maps"
    )


def volume_filling_note(lines: tuple[slice, ...]) -> str:
    """A note on a volume whose middle is filled. lines: of its two phase encodings."""
    sides = " x ".join(str(part.stop - part.start) for part in lines)
    return (
        f"the fully sampled middle of k-space has {sides} lines along the two phase encodings, few to see coil maps "
        f"in: its {FILLED} x {FILLED} were filled by image and maps estimated together, and maps estimated from that; "
        "look for shading, or give maps"
    )


def filling_doubt(estimate: JointEstimate, level: float | None, where: str) -> str | None:
    """A note where the estimate that fills a slice's middle leaves much unexplained, else None.

    level: of the noise, None or 0 where there is none. where: the slice's name.
    """
    noise = (level / estimate.left) ** 2 if level and estimate.left > 0 else 0.0
    share = estimate.misfit * max(0.0, 1 - noise) ** 0.5
    if share <= LEFT:
        return None
    return (
        f"{DOUBTED} leave {100 * share:.2g} % of the samples of {where} unexplained beyond the noise, and at most "
        f"{100 * LEFT:.2g} % where all is well: the maps made of it may be wrong, from lines that do not belong "
        "together (motion, phases, order), or from too few of them; give maps (--maps FILE), or measure more lines in "
        "the middle"
    )
