"""The intensities of a volume in the range that priors know, 0 to 1, and back.

Called by the tasks. One factor and one offset serve the whole volume, whatever its blocks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import Volume
from restore.scaling import CT_MINIMUM_HU, CT_WINDOW_HU, Scaling

PEAK = 0.999
"""The quantile of the voxels above zero that becomes 1."""

MOST_VALUES = 2**22
"""That it is taken of, evenly from all."""


@dataclasses.dataclass(frozen=True)
class Intensities:
    """measured = source - offset, and unit = measured / scaling.scale. rule: in words."""

    offset: float
    scaling: Scaling

    def shifted(self, data: NDArray[np.floating]) -> NDArray[np.float32]:
        """Source intensities as a measurement, zero where there is nothing."""
        return np.subtract(data, self.offset, dtype=np.float32, casting="same_kind")

    def source(self, measured: NDArray[np.float32]) -> NDArray[np.float32]:
        """Back again."""
        return measured + np.float32(self.offset)


def intensities_of(volume: Volume) -> Intensities:
    """CT, said or by values far below zero: the window of the bundled priors. Else zero stays, and the peak is 1."""
    low, high = CT_WINDOW_HU
    if volume.modality == "CT" or (
        volume.modality == "" and float(volume.data.min()) < CT_MINIMUM_HU
    ):
        return Intensities(low, Scaling(high - low, f"window {low:g} to {high:g} HU"))
    lowest = min(float(volume.data.min()), 0.0)
    some = volume.data.reshape(-1)[:: 1 + 2 * (volume.data.size // (2 * MOST_VALUES))]
    seen = some[some > lowest] if (some > lowest).any() else volume.data[volume.data > lowest]
    peak = float(np.quantile(seen, PEAK)) - lowest
    return Intensities(lowest, Scaling(peak, f"{PEAK} quantile of what lies above {lowest:g}"))
