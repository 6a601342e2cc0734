"""Noise level of measured data from the part that holds next to no signal.

May be called by the readers; touches nothing but its arguments. Both estimates use the median
absolute deviation, so that a few strong samples do not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAD_TO_STD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""

CORNER_FRACTION = 0.02
"""Share of the measured samples, those farthest from the centre of k-space, taken as noise."""

EDGE_FRACTION = 0.03
"""Share of the detector at each end taken as rays through air."""

AIR_LIMIT = 0.05
"""Largest median line integral of rays that pass for air."""

MIN_SAMPLES = 64


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
    if samples.shape[1] < MIN_SAMPLES // 2:
        return None
    parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
    spread = MAD_TO_STD * np.median(np.abs(parts), axis=1)
    level = float(np.sqrt(np.mean(spread**2)))
    return level if np.isfinite(level) and level > 0 else None


def sinogram_noise_std(sinogram: NDArray[Any]) -> float | None:
    """Standard deviation of post-log line integrals through air, from both ends of the detector.

    sinogram: (views, detectors) or (slices, views, detectors). A ray of line integral y has about
    exp(y / 2) times this deviation, and 1 / std^2 estimates the unattenuated counts. Returns None
    where the ends do not look like air or hold no noise.
    """
    count = max(2, round(EDGE_FRACTION * sinogram.shape[-1]))
    ends = np.concatenate([sinogram[..., :count], sinogram[..., -count:]], axis=-1)
    centre = np.median(ends)
    if ends.size < MIN_SAMPLES or not abs(centre) < AIR_LIMIT:
        return None
    level = float(MAD_TO_STD * np.median(np.abs(ends - centre)))
    return level if np.isfinite(level) and level > 0 else None
