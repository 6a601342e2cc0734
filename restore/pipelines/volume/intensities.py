"""The intensities of a volume in the range that priors know, 0 to 1, and back.

Called by the tasks. One factor and one offset serve the whole volume, whatever its blocks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import Volume
from restore.errors import InputError
from restore.scaling import CT_MINIMUM_HU, CT_WINDOW_HU, Scaling

PEAK = 0.999
"""The quantile of the voxels above zero that becomes 1."""

MOST_VALUES = 2**22
"""That it is taken of, evenly from all."""


LEAST_HU = 20.0
"""That CT in Hounsfield units spans at least: water to muscle are 50, a part of one tissue with noise is more."""

NO_AIR = -200.0
"""Where a whole volume lies above it, fat and air are missing: it may be no CT in HU."""


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

    def check_noise(self, level: float, where: str) -> None:
        """Refuse a noise that is above all intensities. level: in the volume's units. Raises InputError."""
        scale = self.scaling.scale
        if level > scale:
            raise InputError(
                where, f"the noise ({level:.3g}) is stronger than what it hides ({scale:.3g})",
                "look at --noise-level and --noise-map: they count in the volume's units",
            )  # fmt: skip


def in_hu(volume: Volume) -> bool:
    """Whether a volume is CT in Hounsfield units, said or by values far below zero."""
    return volume.modality == "CT" or (
        volume.modality == "" and float(volume.data.min()) < CT_MINIMUM_HU
    )


def doubts_of_hu(volume: Volume, told: str) -> list[str]:
    """A note on a volume that somebody told to be CT and that does not look so. told: the modality that was told.

    Raises InputError for one that cannot be in Hounsfield units, such as attenuations or MR scaled to 1.
    """
    if volume.modality != "CT":
        return []
    where = str(volume.source or "volume")
    low, high = float(volume.data.min()), float(volume.data.max())
    if high - low < LEAST_HU:
        raise InputError(
            where, f"its values lie between {low:.4g} and {high:.4g}: CT counts in Hounsfield units, air is -1000",
            "convert it to them, or tell another modality",
        )  # fmt: skip
    if told == "CT" and low > NO_AIR:
        return [
            f"the lowest value is {low:.4g}: of CT in Hounsfield units air has -1000; if this is none (MR, "
            "stored numbers without their intercept), its intensities were taken wrongly: tell another modality, or "
            "convert it"
        ]
    return []


def intensities_of(volume: Volume) -> Intensities:
    """CT, said or by values far below zero: the window of the bundled priors. Else zero stays, and the peak is 1."""
    low, high = CT_WINDOW_HU
    if in_hu(volume):
        return Intensities(low, Scaling(high - low, f"window {low:g} to {high:g} HU"))
    lowest = min(float(volume.data.min()), 0.0)
    some = volume.data.reshape(-1)[:: 1 + 2 * (volume.data.size // (2 * MOST_VALUES))]
    seen = some[some > lowest] if (some > lowest).any() else volume.data[volume.data > lowest]
    peak = float(np.quantile(seen, PEAK)) - lowest
    return Intensities(lowest, Scaling(peak, f"{PEAK} quantile of what lies above {lowest:g}"))
