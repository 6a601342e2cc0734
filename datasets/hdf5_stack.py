"""Stacks of slices inside an HDF5 file: lazy reading one slice at a time, writing likewise.

May be called by the readers and writers of scan files; opens the one file it is given, anew for
every slice, so that no handle outlives a call.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.atomic import atomic_file
from restore.datasets.hdf5_guard import find_dataset, open_hdf5
from restore.datasets.stack import LazyStack
from restore.errors import InputError

MARGIN_BYTES = 1 << 20
"""Room for everything in a scan file besides its stacks."""


def read_slice(path: Path, key: str, index: int, kind: type | None) -> NDArray[Any]:
    """Slice `index` of the data set `key`, converted to `kind`, None for its own. Raises InputError."""
    with open_hdf5(path) as file:
        dataset = find_dataset(file, key, pairs=True)
        if dataset is None:
            raise InputError(path, f"'{key}' is gone", "do not change a file while it is read")
        values = np.asarray(dataset[index])
        # A number too large for the target becomes infinite, which the callers look for.
        with np.errstate(over="ignore"):
            values = joined(values)
            return values if kind is None else values.astype(kind)


def is_pair(dtype: np.dtype[Any]) -> bool:
    """Whether values are a compound of two real numbers: real and imaginary part."""
    fields: Any = dtype.fields or {}
    return len(fields) == 2 and all(field[0].kind in "fiu" for field in fields.values())


def joined(values: NDArray[Any]) -> NDArray[Any]:
    """Compounds of real and imaginary part as complex numbers, anything else unchanged."""
    if not is_pair(values.dtype):
        return values
    names = [str(name) for name in values.dtype.names or ()]
    if names[0].lower().startswith("i") and names[1].lower().startswith("r"):
        names.reverse()
    real, imaginary = (values[name].astype(np.float64) for name in names)
    return real + 1j * imaginary


def is_two_channel(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether an array of real numbers has real and imaginary parts along its last axis, behind two axes or more."""
    return dtype.kind in "fiu" and len(shape) >= 3 and shape[-1] == 2


def as_complex(values: NDArray[Any]) -> NDArray[np.complex64]:
    """One slice of complex numbers, of pairs, or of (..., 2) real ones, in single precision.

    A number too large for it becomes infinite, which the readers look for.
    """
    values = joined(values)
    if is_two_channel((0, *values.shape), values.dtype):
        values = values[..., 0].astype(np.float64) + 1j * values[..., 1]
    with np.errstate(over="ignore"):
        return values.astype(np.complex64)


def companion(
    file: h5py.File, path: Path, key: str, lead: tuple[int, ...], ndim: int, kind: type
) -> LazyStack | None:
    """A stack that goes with the measurement, or None where it is absent.

    Its shape must start with `lead` and have `ndim` axes; a slice with NaN or infinite values is an
    InputError when it is read.
    """
    dataset = find_dataset(file, key)
    if dataset is None:
        return None
    if dataset.ndim != ndim or dataset.shape[: len(lead)] != lead or 0 in dataset.shape:
        raise InputError(
            path, f"'{key}' has shape {dataset.shape}, which does not fit the measurement {lead}"
        )
    if dataset.dtype.kind == "c" and not issubclass(kind, np.complexfloating):
        raise InputError(path, f"'{key}' is complex, expected real values")

    def load(index: int) -> NDArray[Any]:
        values = read_slice(path, key, index, kind)
        if not np.isfinite(values).all():
            raise InputError(path, f"'{key}' holds NaN or infinite values in slice {index}")
        return values

    return LazyStack(tuple(map(int, dataset.shape)), load)


@contextmanager
def new_hdf5(path: Path, stacks: Sequence[tuple[LazyStack | None, type]]) -> Iterator[h5py.File]:
    """A new HDF5 file that appears at `path` whole or not at all.

    stacks: what will be written, with its type: refused beforehand where the disk has less room.
    Raises OutputError.
    """
    expected = sum(
        math.prod(stack.shape) * np.dtype(kind).itemsize for stack, kind in stacks if stack
    )
    with atomic_file(path, expected + MARGIN_BYTES) as temporary, written_hdf5(temporary) as file:
        yield file


@contextmanager
def written_hdf5(path: Path, mode: Literal["w", "r+"] = "w") -> Iterator[h5py.File]:
    """A file to write to. Raises OSError for the first write that failed, once the file is closed."""
    with path.open("w+b" if mode == "w" else "r+b", buffering=0) as stream:
        steady = _Steady(stream)
        try:
            with h5py.File(steady, mode) as file:
                yield file
        finally:
            if steady.error is not None:
                raise steady.error


class _Steady:
    """A file as HDF5 takes it that keeps the first failure to itself and then takes everything.

    HDF5 goes on writing what it holds when it closes a file, or the process ends: on a full disk that fails again and
    again, in calls that cannot say so, and may bring the process down.
    """

    def __init__(self, stream: io.FileIO) -> None:
        self.stream = stream
        self.error: OSError | None = None
        self.seek, self.tell = stream.seek, stream.tell
        self.read, self.readinto = stream.read, stream.readinto

    def write(self, data: Any) -> int:
        """All of the data, in as many calls as it takes."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self.error is None:
            left = left[self._tried(self.stream.write, left) or 0 :]
        return size

    def truncate(self, size: int) -> int:
        """Set the size in bytes."""
        self._tried(self.stream.truncate, size)
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def _tried(self, act: Callable[[Any], int | None], what: Any) -> int | None:
        if self.error is None:
            try:
                return act(what)
            except OSError as error:
                self.error = error
        return None


def write_stack(file: h5py.File, key: str, stack: LazyStack, kind: type) -> None:
    """Write a stack slice by slice, one chunk a slice, not compressed."""
    dataset = file.create_dataset(key, stack.shape, kind, chunks=(1, *stack.shape[1:]))
    for index in range(len(stack)):
        dataset[index] = stack[index]
