"""What the fully sampled centre of k-space tells: its size, and how bright the image is.

Called by the set-up of k-space and by the benchmarks; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.operators.mri.coil_maps import calibration_region
from restore.operators.mri.fourier import ifft2c

PEAK_QUANTILE = 0.999
"""What counts as the brightest of an image: a few pixels may be brighter."""

MOST_PIXELS = 2**20
"""Of an image are looked at, evenly spread."""


def calibration_size(mask: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the fully sampled centre. mask: (W,) or (H, W); shape: (H, W).

    Raises ConfigError where there is none.
    """
    sampled = torch.from_numpy(np.broadcast_to(mask, shape).copy())
    rows, columns = (
        range(n)[part] for n, part in zip(shape, calibration_region(sampled), strict=True)
    )
    return len(rows), len(columns)


def low_resolution_peak(kspace: NDArray[Any], size: tuple[int, int]) -> float:
    """Bright level of the image of the calibration region alone: hardly dimmed by the undersampling.

    kspace: complex (coils, H, W); size: rows and columns of the region.
    """
    rows, columns = size
    height, width = kspace.shape[-2:]
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    region = (..., slice(top, top + rows), slice(left, left + columns))
    centre = np.zeros_like(kspace)
    centre[region] = kspace[region]
    rss = ifft2c(torch.from_numpy(centre)).abs().square().sum(0).sqrt()
    spread = rss.flatten()[:: max(1, rss.numel() // MOST_PIXELS)]
    return float(torch.quantile(spread, PEAK_QUANTILE))
