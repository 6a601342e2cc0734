"""How deep holes are, and the noise level that a chain begins at which starts from holes that were filled.

Called by `toolbox.chain`. What fills a hole from its rim (`smooth_start.filled`) is near the truth at the rim and a
guess in the middle: the first level has to hide the guess from the denoiser and no more, since what it hides of a good
start is lost. Touches nothing.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from restore.errors import ConfigError
from restore.problem import Problem

SHALLOW, DEEP = 0.1, 1.0
"""The lowest and the highest first level, in unit intensities."""
DEEPEST = 16
"""Pixels from which on that is the highest: in the middle of a larger hole hardly anything of the start is right."""
NOISES = 2.0
"""Deviations of the measurement's noise below which no chain begins: known pixels have that noise from the start."""


def first_level(problem: Problem, start: str) -> float:
    """The first noise level for the holes of a problem, in unit intensities.

    `DEEP` where nothing is filled: other starts than "filled", complex images, inpainting by an operator that does not
    tell its mask. Raises ConfigError for operators that lose no pixels.
    """
    operator = problem.operator
    selects = "selects" in operator.abilities
    if not selects and operator.task != "inpaint":
        raise ConfigError(
            f"sigma_start=auto follows the depth of holes, and {operator} has none; give a number"
        )
    if not selects or start != "filled" or problem.degraded.is_complex():
        return DEEP
    return max(level_at(depth_of(problem)), NOISES * _noise(problem))


def level_at(depth: float) -> float:
    """The level for holes of a depth in pixels, rising with it; measured in docs/choosing-a-sampler.md."""
    return min(max(SHALLOW, DEEP * depth / DEEPEST), DEEP)


def depth_of(problem: Problem) -> float:
    """The largest distance of a lost pixel to a known one, in pixels: in the plane, of volumes in space.

    0 where nothing is lost, infinite where nothing is known. Of several masks (channels, frames) that of the deepest.
    """
    operator = problem.linear
    ones = torch.ones(operator.in_shape, dtype=problem.y.dtype, device=problem.y.device)
    known = operator.normal(ones)  # what an operator that selects pixels makes of ones is its mask
    ndim = 3 if problem.has_volumes else 2
    masks = known.reshape(-1, *known.shape[-ndim:])
    if bool((masks == masks[:1]).all()):
        masks = masks[:1]  # of all channels
    return max(_depth(mask.cpu() > 0) for mask in masks)


def _depth(known: Tensor) -> float:
    if not bool(known.any()):
        return math.inf
    return float(np.max(distance_transform_edt(~known.numpy())))


def _noise(problem: Problem) -> float:
    """The largest deviation of a known pixel in unit intensities; 0 where it is unknown, or there is none."""
    if problem.precision is None:
        return 0.0
    measured = torch.as_tensor(problem.precision)
    measured = measured[measured > 0]
    return float(measured.min()) ** -0.5 if measured.numel() else 0.0
