"""Files of several named arrays: NumPy's .npz, MATLAB's .mat of version 7.3 (HDF5) and of version 5.

May be called by the readers of such files; touches the one file it is given. Nothing is unpickled or executed: arrays
of objects, structs, cells and functions are listed and not read.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.content import DOWNLOAD_AGAIN, Content
from restore.datasets.hdf5_guard import attribute, find_dataset, is_hdf5, open_hdf5
from restore.datasets.hdf5_stack import is_pair, joined
from restore.errors import InputError, OutOfMemory, RestoreError

MARK_7_3, MARK_5 = b"MATLAB 7.3 MAT-file", b"MATLAB 5.0 MAT-file"

NUMBERS_5 = (
    "double",
    "single",
    "logical",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)
"""MATLAB's classes that hold numbers."""

MOST_ARRAYS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class NamedArrays:
    """names: of the arrays of numbers; others: of what is none. matlab: arrays have their axes as in MATLAB's `size`.

    load(name): the array, complex where it was stored as pairs. Raises InputError.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    matlab: bool
    load: Callable[[str], NDArray[Any]]


def is_npz(content: Content) -> bool:
    """Whether a file is an archive of NumPy's arrays, by the name of its first member."""
    head = content.head
    return not content.packed and head.startswith(b"PK\x03\x04") and b".npy" in head[30:560]


def is_matlab(content: Content) -> bool:
    """Whether a file begins as MATLAB's of version 5 or 7.3."""
    return not content.packed and content.head.startswith((MARK_7_3, MARK_5))


def open_arrays(content: Content) -> NamedArrays:
    """The arrays of a file, which is of one of these kinds. Raises InputError."""
    if is_npz(content):
        return _npz(content.path)
    return _matlab_hdf5(content.path) if is_hdf5(content) else _matlab_5(content.path)


def _npz(path: Path) -> NamedArrays:
    with _guarded(path, "archive of arrays"), zipfile.ZipFile(path) as archive:
        members = {i.filename.removesuffix(".npy"): i.file_size for i in archive.infolist()}

    def load(name: str) -> NDArray[Any]:
        check_budget(2 * members[name], path)
        with (
            _guarded(path, f"array '{name}'"),
            np.load(path, allow_pickle=False) as archive,
        ):
            return joined(np.asarray(archive[name]))

    return NamedArrays(tuple(members)[:MOST_ARRAYS], (), False, load)


def _matlab_hdf5(path: Path) -> NamedArrays:
    names, others = list[str](), list[str]()
    with open_hdf5(path) as file:
        for name in list(file.keys())[:MOST_ARRAYS]:
            hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
            number = hard and _holds_numbers(file[name])
            if name != "#refs#":
                (names if number else others).append(str(name))

    def load(name: str) -> NDArray[Any]:
        with open_hdf5(path) as file:
            stored = find_dataset(file, name, pairs=True)
            if stored is None:
                raise InputError(path, f"'{name}' is gone", "do not change a file while it is read")
            check_budget(2 * math.prod(stored.shape) * stored.dtype.itemsize, path)
            return joined(np.asarray(stored[()])).T  # MATLAB's first axis runs fastest

    return NamedArrays(tuple(names), tuple(others), True, load)


def _holds_numbers(item: Any) -> bool:
    """Whether something in MATLAB's HDF5 is an array of numbers, and no text, which is stored as such."""
    if not isinstance(item, h5py.Dataset) or attribute(item, "MATLAB_class") == "char":
        return False
    return item.dtype.kind in "biufc" or is_pair(item.dtype)


def _matlab_5(path: Path) -> NamedArrays:
    from scipy import io

    # What is compressed cannot grow by more than deflate's limit, and is read array by array.
    with _guarded(path, "MATLAB file"):
        listed = io.whosmat(path)
    sizes = {name: shape for name, shape, kind in listed if kind in NUMBERS_5}

    def load(name: str) -> NDArray[Any]:
        check_budget(2 * 16 * math.prod(sizes[name]), path)
        with _guarded(path, f"array '{name}'"):
            found = np.asarray(io.loadmat(path, variable_names=[name])[name])
        if found.dtype.kind not in "biufc":
            raise InputError(path, f"'{name}' does not hold numbers (type {found.dtype})")
        return found

    others = tuple(name for name, _, _ in listed if name not in sizes)
    return NamedArrays(tuple(sizes), others, True, load)


@contextmanager
def _guarded(path: Path, what: str) -> Iterator[None]:
    """Whatever the parser of a damaged file raises leaves as one InputError."""
    try:
        yield
    except RestoreError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{path}: not enough memory to read {what}") from error
    except (
        Exception
    ) as error:  # headers are Python literals and deflated: parsers raise what they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = f"damaged {what}, or one of objects: {reason}"
        raise InputError(path, why, DOWNLOAD_AGAIN) from error
