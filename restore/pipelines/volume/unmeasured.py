"""Voxels that were never measured, such as those beyond a scanner's circle: taken out before a task, put back after it.

Called by the job of `restore volume`. Touches nothing but its arguments. What a padding value says is no intensity: as
one, -3024 HU would be the strongest edge of the volume, for the noise, the prior and the blur.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.padding import padding_of
from restore.datasets.volume.volume import Volume
from restore.errors import InputError
from restore.pipelines.volume.intensities import in_hu


@dataclasses.dataclass(frozen=True, eq=False)
class Unmeasured:
    """where: (D, H, W), true for padding. values: what stood there, in that order."""

    where: NDArray[np.bool_]
    values: NDArray[np.floating]

    def put_back(self, samples: NDArray[np.float32], made: NDArray[np.bool_] | None) -> None:
        """Into images (K, D, H, W), in place. made: voxels that the task makes anew whatever stood there, or None."""
        where, values = self.where, self.values
        if made is not None:
            values = values[~made[where]]
            where = where & ~made
        for image in samples:
            image[where] = values


def without_padding(volume: Volume) -> tuple[Volume, Unmeasured | None]:
    """The volume with its padding at the lowest intensity that was measured (of magnitudes zero), and what stood there.

    Padding is what the file names, and below -1200 HU of CT, said or by its values. None where there is none. Raises
    InputError for a volume of nothing else.
    """
    hu = in_hu(volume)
    where = padding_of(dataclasses.replace(volume, modality="CT") if hu else volume)
    if where is None:
        return volume, None
    if where.all():
        raise InputError(volume.source or "volume", "holds padding only: nothing was measured")
    lowest = volume.data[~where].min()
    data = volume.data.copy()
    data[where] = lowest if hu else min(lowest, 0)
    return dataclasses.replace(volume, data=data), Unmeasured(where, volume.data[where])
