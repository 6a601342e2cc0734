"""What a job of `restore volume` will hold in memory, part by part, before any work.

Called by the job; reads sizes and the sampler's declarations, no values.
"""

from __future__ import annotations

import math

import torch

from restore.pipelines.memory_plan import (
    NETWORK_NUMBERS,
    VOLUMES,
    WITH_GRADIENTS,
    MemoryPlan,
    resident,
)
from restore.pipelines.volume.task import Prepared
from restore.precision import resolve
from restore.priors.image_prior import PIXELS_PER_CALL
from restore.samplers.base import Sampler

__all__ = ["MemoryPlan", "planned_memory"]


def planned_memory(
    prepared: Prepared, sampler: Sampler, samples: int, precision: str, device: torch.device
) -> MemoryPlan:
    """Of the largest block; the volumes are there already, and the samples lie on the disk.

    samples: how many are drawn. precision: a word for the network's numbers on the device.
    """
    plane = math.prod(prepared.result.data.shape[1:])
    voxels = max(len(block.seen) for block in prepared.blocks()) * plane
    kept = {
        f"{VOLUMES} images of a block of {voxels / 1e6:.3g} million voxels": 4 * VOLUMES * voxels
    }
    if samples > 1:
        kept[f"{samples} samples of a block"] = 2 * 4 * samples * voxels
    passing = {"the result, for writing": 4 * plane * prepared.result.n_slices}
    if sampler.prior_kinds:
        pixels = min(voxels, PIXELS_PER_CALL)
        numbers = WITH_GRADIENTS if sampler.gradients else NETWORK_NUMBERS
        size = numbers * resolve(precision, device).itemsize
        passing[f"the prior, {pixels} pixels at once"] = size * pixels
    return MemoryPlan(resident(), kept, passing)
