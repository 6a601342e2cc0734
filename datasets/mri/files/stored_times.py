"""When samples were taken, as scan files hold it; anything else is named.

May be called by the readers of k-space and of times; touches the open file it is given. Seconds, from any moment on.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import attribute, find_dataset
from restore.errors import InputError


def read_times(
    file: h5py.File, path: Path, samples: tuple[int, ...]
) -> tuple[NDArray[np.float64] | None, float | None]:
    """The data set `times_s`, broadcastable to `samples`, or the attribute `dwell_s` of an HDF5 file.

    Raises InputError for other shapes and numbers.
    """
    found = find_dataset(file, "times_s")
    if found is not None:
        return checked_times(np.asarray(found[()]), samples, path, "'times_s'"), None
    dwell = attribute(file, "dwell_s")
    if dwell is None:
        return None, None
    if not (isinstance(dwell, int | float) and math.isfinite(dwell) and dwell > 0):
        raise InputError(
            path, f"attribute 'dwell_s' is {dwell!r}, expected seconds between samples"
        )
    return None, float(dwell)


def checked_times(
    values: NDArray[Any], samples: tuple[int, ...], path: Path, what: str
) -> NDArray[np.float64]:
    """Times of samples, broadcastable to `samples` of a coil; what: they are called. Raises InputError."""
    if values.dtype.kind not in "fiu" or not values.size or not np.isfinite(values).all():
        raise InputError(path, f"{what} holds no finite real numbers", "times are in seconds")
    sizes = values.shape
    fits = [a in (1, b) for a, b in zip(sizes[::-1], samples[::-1], strict=False)]
    if not sizes or len(sizes) > len(samples) or not all(fits):
        raise InputError(
            path, f"{what} has shape {sizes}, and the samples of a coil are {samples}",
            "expected a time for each sample, or one that serves along axes of length one",
        )  # fmt: skip
    return values.astype(np.float64)
