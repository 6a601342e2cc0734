"""What the fully sampled centre of k-space tells: where it lies, and how bright the image is.

Called by the set-up of k-space and by the benchmarks; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.operators.mri.coil_maps import FEWEST_LINES, Region, calibration_region
from restore.operators.mri.fourier import ifft2c

PEAK_QUANTILE = 0.999
"""What counts as the brightest of an image: a few pixels may be brighter."""

MOST_PIXELS = 2**20
"""Of an image are looked at, evenly spread."""


def calibration_lines(mask: NDArray[np.bool_], shape: tuple[int, int]) -> Region:
    """The fully sampled rectangle around the zero frequency, with its place. mask: (W,) or (H, W); shape: (H, W).

    Raises ConfigError where the zero frequency was not measured.
    """
    sampled = torch.from_numpy(np.broadcast_to(mask, shape).copy())
    rows, columns = calibration_region(sampled)
    return slice(*rows.indices(shape[0])[:2]), slice(*columns.indices(shape[1])[:2])


def centre_lines(mask: NDArray[np.bool_], shape: tuple[int, int]) -> int:
    """The shorter side of that rectangle, 0 where the zero frequency was not measured. As `calibration_lines`."""
    if not np.broadcast_to(mask, shape)[shape[0] // 2, shape[1] // 2]:
        return 0
    return min(part.stop - part.start for part in calibration_lines(mask, shape))


def is_enough(region: Region) -> bool:
    """Whether maps and phase can be seen from a region: four lines along each axis."""
    return min(part.stop - part.start for part in region) >= FEWEST_LINES


def low_resolution_peak(kspace: NDArray[Any], region: Region) -> float:
    """Bright level of the image of the calibration region alone: hardly dimmed by the undersampling.

    kspace: complex (coils, H, W); region: its rows and columns.
    """
    centre = np.zeros_like(kspace)
    centre[(..., *region)] = kspace[(..., *region)]
    rss = ifft2c(torch.from_numpy(centre)).abs().square().sum(0).sqrt()
    spread = rss.flatten()[:: max(1, rss.numel() // MOST_PIXELS)]
    return float(torch.quantile(spread, PEAK_QUANTILE))
