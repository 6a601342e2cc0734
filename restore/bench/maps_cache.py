"""Coil maps of a case, made once and kept on the disk while its methods run.

    RUN/cache/maps/NAME.h5     data set `maps`, complex64 (slices, coils, H, W); attribute `key`

Used by the MRI protocols; touches that one file. Maps of a volume take longer than many a method and fill more memory
than a machine may have, so they are made slice by slice at the first request, straight into a file, and read from it.
The cache is only a memory of what can be made again: a file that is damaged, foreign or gone is replaced or done
without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.protocol import hash_of
from restore.bench.store import slug
from restore.datasets.hdf5_guard import attribute, find_dataset, open_hdf5
from restore.datasets.hdf5_stack import new_hdf5, read_slice
from restore.datasets.stack import LazyStack
from restore.errors import InputError, NotFoundError, OutputError
from restore.operators.mri.coil_maps import Calibration, espirit

FOLDER = ("cache", "maps")
DATASET = "maps"
RULES = 4
"""Counts up when maps come out otherwise for the same k-space and the same settings of `espirit`."""

Compute = Callable[[int], NDArray[Any]]


def maps_path(run: Path, *names: str) -> Path:
    """The cache file of what the names say: a volume, or a volume and a setting."""
    return run.joinpath(*FOLDER, slug("-".join(names)) + ".h5")


def cache_key(**what: Any) -> str:
    """A hash of everything that maps depend on: `what`, plain values by name, and how ESPIRiT is done here."""
    return hash_of({"espirit": espirit.__kwdefaults__, "rules": RULES, "of": what})


def slice_maps(kspace: NDArray[Any], calib: Calibration) -> NDArray[np.complex64]:
    """Maps by ESPIRiT of one slice of k-space, both (coils, H, W); calib as in `espirit`. Raises ConfigError."""
    maps: NDArray[np.complex64] = espirit(torch.from_numpy(kspace), calib)[0].numpy()
    return maps


def cached_maps(path: Path, shape: tuple[int, ...], key: str, compute: Compute) -> LazyStack:
    """The maps of a case, complex64 (slices, coils, H, W) = `shape`; nothing is computed before the first is asked for.

    key: of `cache_key`; a file with another one is made anew. compute(i): the maps of slice i. Asking raises
    OutputError where the file cannot be written, and what `compute` raises; either leaves no file.
    """

    def load(index: int) -> NDArray[Any]:
        if not _holds(path, shape, key):
            _fill(path, shape, key, compute)
        try:
            return read_slice(path, DATASET, index, np.complex64)
        except (InputError, NotFoundError):
            # A slice whose checksum is wrong, or a file that another part of the run has just finished with.
            return compute(index)

    return LazyStack(shape, load)


def discard(path: Path) -> None:
    """Remove a cache file; one that is not there is fine. Raises OutputError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as cause:
        raise OutputError(f"{path}: cannot be removed: {cause.strerror or cause}") from cause


def _holds(path: Path, shape: tuple[int, ...], key: str) -> bool:
    try:
        with open_hdf5(path) as file:
            found = find_dataset(file, DATASET)
            fits = found is not None and found.shape == shape and found.dtype == np.complex64
            return fits and attribute(file, "key") == key
    except (InputError, NotFoundError):
        return False


def _fill(path: Path, shape: tuple[int, ...], key: str, compute: Compute) -> None:
    """Compute all slices into a file that appears once it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"{path.parent}: cannot be made: {cause.strerror or cause}") from cause
    stack = LazyStack(shape, compute)
    with new_hdf5(path, [(stack, np.complex64)]) as file:
        # The checksum tells a damaged slice from a good one; any bit pattern is a number.
        dataset = file.create_dataset(
            DATASET, shape, np.complex64, chunks=(1, *shape[1:]), fletcher32=True
        )
        for index in range(shape[0]):
            dataset[index] = stack[index]
        file.attrs["key"] = key
