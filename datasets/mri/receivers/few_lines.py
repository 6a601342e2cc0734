"""What is said of scans whose middle of k-space has few lines, and is filled before coil maps are estimated from it.

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
import torch

from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.operators.mri.coil_maps import Region
from restore.operators.mri.filling import FILLED, needs_filling


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
        f"the fully sampled middle of k-space has {min(short)} lines, few to see coil maps in: its {FILLED} x {FILLED} "
        "samples were filled by image and maps estimated together, and maps estimated from that; look for shading, "
        "or give maps"
    )
