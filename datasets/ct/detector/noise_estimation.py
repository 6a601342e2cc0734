"""Noise level of a sinogram from its rays through air.

May be called by the readers and the set-up; touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median

EDGE_FRACTION = 0.03
"""Share of the detector at each end taken as rays through air."""

AIR_LIMIT = 0.05
"""Largest median line integral of rays that pass for air."""

MIN_SAMPLES = 64

UNLIKE = 3.0
"""Factor between a stated level and that of air: a filter before the body takes light off the ends, rebinning averages
a few rays."""


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


def doubt_of_air(stated: float | None, sinograms: Iterable[NDArray[Any]]) -> str:
    """A sentence where rays through air are much noisier or smoother than stated; "" else, or where no ray shows air.

    stated: standard deviation of a ray through air, as a file, its photons or a caller say; None or 0 says nothing.
    """
    found = [level for y in sinograms if (level := sinogram_noise_std(y)) is not None]
    if not stated or not found:
        return ""
    level = float(np.median(found))
    if stated / UNLIKE <= level <= stated * UNLIKE:
        return ""
    worse = "noise stays in the result" if level > stated else "details are lost"
    return (
        f"the noise of a ray through air is stated as {stated:.3g} ({stated**-2:.3g} photons), and the rays at the "
        f"detector's ends have {level:.3g} ({level**-2:.3g} photons): where the latter is right, state it, for {worse}"
    )
