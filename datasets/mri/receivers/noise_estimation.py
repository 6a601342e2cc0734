"""Noise level of k-space from the part that holds next to no signal.

May be called by the readers and the set-up; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median
from restore.datasets.mri.pattern.sampling import Mask, slice_mask
from restore.datasets.stack import LazyStack

CORNER_FRACTION = 0.02
"""Share of the measured samples, those farthest from the centre of k-space, taken as noise."""

MIN_SAMPLES = 32
"""Places in k-space below which a level would be a guess."""


def middle_noise_std(kspace: LazyStack, mask: Mask) -> float | None:
    """`kspace_noise_std` of the middle slice of (slices, coils, H, W)."""
    middle = len(kspace) // 2
    return kspace_noise_std(kspace[middle], slice_mask(mask, middle))


def kspace_noise_std(kspace: NDArray[Any], mask: NDArray[np.bool_]) -> float | None:
    """Noise standard deviation per real channel from the corners of k-space.

    kspace: complex (coils, H, W), centred; mask: bool (W,) or (H, W). Signal that reaches the
    corners adds to the estimate. The coils are pooled by their root mean square. Returns None where
    too few samples are measured or all of them are zero.
    """
    height, width = kspace.shape[-2:]
    y = (np.arange(height) - height // 2) / (height / 2)
    x = (np.arange(width) - width // 2) / (width / 2)
    radius = np.hypot(*np.meshgrid(y, x, indexing="ij"))
    measured = np.broadcast_to(mask, (height, width)) & (kspace != 0).any(axis=0)
    if not measured.any():
        return None
    far = measured & (radius >= np.quantile(radius[measured], 1 - CORNER_FRACTION))
    samples = kspace[:, far]
    if samples.shape[1] < MIN_SAMPLES:
        return None
    parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
    deviations = std_by_median(parts, axis=1)
    level = float(np.sqrt(np.mean(deviations**2)))
    return level if np.isfinite(level) and level > 0 else None
