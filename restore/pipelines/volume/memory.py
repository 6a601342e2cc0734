"""What a job of `restore volume` will hold in memory, part by part, before any work.

Called by the job; reads sizes and the sampler's declarations, no values.
"""

from __future__ import annotations

import math

import torch

from restore.pipelines.memory_plan import IMAGES, MemoryPlan, network_bytes, resident
from restore.pipelines.recon_options import DrawOptions
from restore.pipelines.volume.task import Prepared
from restore.samplers.base import Sampler

__all__ = ["MemoryPlan", "planned_memory"]


def planned_memory(
    prepared: Prepared, sampler: Sampler, options: DrawOptions, device: torch.device
) -> MemoryPlan:
    """Of the largest block; the volumes are there already, and the samples lie on the disk."""
    plane, blocks = math.prod(prepared.result.data.shape[1:]), prepared.blocks()
    voxels = max(len(block.seen) for block in blocks) * plane
    images = IMAGES * sampler.states
    kept = {f"{images} images of a block of {voxels / 1e6:.3g} million voxels": 4 * images * voxels}
    if options.samples > 1:
        kept[f"{options.samples} samples of a block"] = 2 * 4 * options.samples * voxels
    passing = {"the result, for writing": 4 * plane * prepared.result.n_slices}
    if sampler.prior_kinds:
        size = network_bytes(sampler.states * voxels, sampler, options.precision, device)
        passing["the prior, a part of a block at once"] = size
    largest = max(len(block.own) for block in blocks)
    return MemoryPlan(resident(), kept, passing, largest, prepared.result.n_slices, largest)
