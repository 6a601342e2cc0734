"""Which voxels were never measured: padding outside the field of view, by one rule for all.

Used by the evaluation, the CT benchmark, the simulation of CT and the DICOM writer; touches nothing but its
arguments. Scanners fill the corners around a round field of view with a number far below air (-2000, -3024 HU) or
name a number of their own in the tags PixelPaddingValue and PixelPaddingRangeLimit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import Volume

PADDING_BELOW_HU = -1200.0
"""No tissue and no noise of a scanner's own image: those write air as -1000 and cut at -1024 HU."""


def padding_of(volume: Volume, *, by_value: bool = True) -> NDArray[np.bool_] | None:
    """True where nothing was measured, (z, y, x); None where that is nowhere.

    By the range that the file names, and for CT in HU below `PADDING_BELOW_HU`; by_value=False leaves the second out,
    for reconstructions, whose errors may reach that low.
    """
    if np.iscomplexobj(volume.data):
        return None
    mask = np.zeros(volume.data.shape, bool)
    if volume.padding is not None:
        mask |= named_padding(volume.data, volume.padding)
    if by_value and volume.modality == "CT":
        mask |= volume.data < PADDING_BELOW_HU
    return mask if mask.any() else None


def named_padding(data: NDArray[np.floating], ends: tuple[float, float]) -> NDArray[np.bool_]:
    """True where the intensities lie in the range that a file names, both ends included, to the data's rounding."""
    low, high = (data.dtype.type(end) for end in ends)
    return np.asarray((data >= low) & (data <= high))
