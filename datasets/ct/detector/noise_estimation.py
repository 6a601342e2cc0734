"""Noise level of a sinogram from its rays through air.

May be called by the readers and the set-up; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median

EDGE_FRACTION = 0.03
"""Share of the detector at each end taken as rays through air."""

AIR_LIMIT = 0.05
"""Largest median line integral of rays that pass for air."""

MIN_SAMPLES = 64


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
    level = float(std_by_median(ends - centre))
    return level if np.isfinite(level) and level > 0 else None
