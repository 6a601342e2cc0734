"""A noise scan stored beside k-space: samples without an object, whose covariance tells how channels are linked.

May be called by the readers of k-space; touches the open file it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import find_dataset
from restore.errors import InputError

NAMES = ("noise_scan", "noise", "noise_data")
"""Data sets that are looked for, in this order."""

LEAST_PER_COIL = 4
"""Samples for every channel below which a covariance is no estimate."""


def read_noise_scan(file: h5py.File, path: Path, coils: int) -> NDArray[np.complex128] | None:
    """Noise samples (coils, n) of a file, or None where it has none.

    Stored complex with one axis of length `coils` (the first that fits). Raises InputError for other shapes and
    for values that are not finite or too few.
    """
    sets = {name: find_dataset(file, name) for name in NAMES}
    found, dataset = next(((k, d) for k, d in sets.items() if d is not None), ("", None))
    if dataset is None:
        return None
    return checked_noise(np.asarray(dataset[()]), found, path, coils)


def checked_noise(
    values: NDArray[Any], found: str, path: Path, coils: int
) -> NDArray[np.complex128]:
    """An array of the name `found` as noise samples (coils, n). Raises InputError, as `read_noise_scan`."""
    axes = [axis for axis, n in enumerate(values.shape) if n == coils]
    if values.dtype.kind != "c" or not axes:
        raise InputError(
            path,
            f"'{found}' is {values.dtype} of shape {values.shape}",
            f"expected complex noise with an axis of {coils} coils; rename it if it is no noise scan",
        )
    samples = np.moveaxis(values, axes[0], 0).reshape(coils, -1).astype(np.complex128)
    if samples.shape[1] < LEAST_PER_COIL * coils or not np.isfinite(samples).all():
        raise InputError(
            path,
            f"'{found}' holds {samples.shape[1]} samples a coil for {coils} coils, or values that are not finite",
            f"at least {LEAST_PER_COIL} finite samples for every coil tell a covariance; remove it otherwise",
        )
    return samples
