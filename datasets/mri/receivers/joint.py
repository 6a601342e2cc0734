"""Maps of scans without calibration lines: image and maps of every slice estimated together, and what is said of it.

May be called by the set-up of k-space; touches the scan it is given.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from restore.datasets.mri.middle import Middle, middle_of_slice, middle_of_volume
from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.datasets.mri.receivers.reception import Reception
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.operators.mri.joint_maps import (
    WIDTH,
    WIDTH_OF_VOLUMES,
    JointEstimate,
    check_sampling,
    joint_estimate,
)

LEFT = 6.0
"""Times the noise: estimates that were seen to be right leave up to 2.6, those that do not explain the samples 10."""

SHARE = 0.05
"""Of the samples, what estimates may leave where the noise is not known."""


def check_masks(mask: Mask, shape: tuple[int, ...]) -> None:
    """Raise ConfigError where the samples of a slice (coils, H, W) cannot tell image and maps apart."""
    if shape[0] < 2:
        raise ConfigError("joint estimate: one coil tells nothing of its map; leave --maps out")
    masks = mask if mask.ndim == 3 else mask[None]
    for one in masks:
        check_sampling(torch.from_numpy(np.array(one)), shape[1:])


def joint_estimates(kspace: LazyStack, mask: Mask, reception: Reception) -> Iterator[JointEstimate]:
    """One of each slice, of the channels as problems see them. Raises ConfigError as `joint_estimate` does."""
    for index in range(len(kspace)):
        samples = reception.samples(kspace[index], index)
        yield joint_estimate(samples, torch.from_numpy(np.array(slice_mask(mask, index))))


def joint_middle(estimate: JointEstimate, matrix: tuple[int, ...]) -> Middle:
    """The middle of k-space of a slice or volume of `matrix` as the estimate has it, as if it had been measured."""
    full, region = estimate.centre(matrix)
    block, rows, columns = full[(slice(None), *region)], region[-2], region[-1]
    if len(matrix) == 2:
        return middle_of_slice(block, (rows, columns), (matrix[0], matrix[1]))
    return middle_of_volume(block, (region[0], rows, columns), matrix)


def joint_note(
    estimates: tuple[JointEstimate, ...], level: float | None, of_volume: bool = False
) -> str:
    """What was estimated and how much of the samples it leaves. level: of the noise, None or 0 where there is none."""
    sizes = [WIDTH_OF_VOLUMES] * 3 if of_volume else [WIDTH] * 2
    text = (
        f"coil maps were estimated together with the images (joint), from what was measured of the "
        f"{' x '.join(map(str, sizes))} samples about the middle: look for folded edges"
    )
    misfit = max(one.misfit for one in estimates)
    left = max(one.left for one in estimates) / level if level else None
    if (left is not None and left > LEFT) or (left is None and misfit > SHARE):
        text += f"; they leave {100 * misfit:.2g} % of the samples unexplained, so that the maps are wrong"
    return text
