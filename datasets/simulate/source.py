"""What the MRI and CT simulators take from a volume besides its intensities.

May be called by the simulators; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore.datasets.slices import slices_within
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError


def chosen_slices(volume: Volume, slices: slice | None, seed: int) -> range:
    """The slice indices that `slices` picks from a volume; all for None.

    Raises ConfigError where it picks none or the seed cannot seed a generator, InputError for a
    complex volume.
    """
    if seed < 0:
        raise ConfigError(f"the seed must not be negative, got {seed}")
    if slices is not None and slices.step == 0:
        raise ConfigError("the step of the slices must not be 0")
    if np.iscomplexobj(volume.data):
        raise InputError(
            volume.source or "volume", "holds complex values", "simulate from its magnitude"
        )
    return slices_within(slices or slice(None), volume.n_slices)


def volume_affine(volume: Volume, indices: range) -> NDArray[np.float64]:
    """The affine of the volume that holds just these slices; one slice keeps its thickness."""
    affine = volume.affine.copy()
    affine[:3, 3] += indices.start * volume.affine[:3, 2]
    if len(indices) > 1:
        affine[:3, 2] *= indices.step
    return affine
