"""What the MRI and CT simulators take from a volume besides its intensities.

May be called by the simulators; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume import Volume
from restore.errors import ConfigError


def chosen_slices(depth: int, slices: slice | None) -> range:
    """The slice indices that `slices` picks from `depth`; all for None. Raises ConfigError for none."""
    if slices is not None and slices.step == 0:
        raise ConfigError("the step of the slices must not be 0")
    found = range(*(slices or slice(None)).indices(depth))
    if not found:
        raise ConfigError(f"{slices} picks nothing out of {depth} slices")
    return found


def volume_affine(volume: Volume, slices: slice | None) -> NDArray[np.float64]:
    """The affine of the volume that holds just these slices."""
    return np.asarray(volume.select(slices or slice(None)).affine, np.float64)
