"""Coil maps as files hold them: one for each slice, or one for all; anything else is named.

May be called by the readers of k-space and of maps; touches the open file it is given. What the maps hold is looked
at by `given_maps`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import find_dataset
from restore.datasets.hdf5_stack import as_complex, is_two_channel, read_slice
from restore.datasets.stack import LazyStack
from restore.errors import InputError

NAME = "sensitivity_maps"


def read_maps(
    file: h5py.File, path: Path, shape: tuple[int, ...], notes: list[str]
) -> LazyStack | None:
    """Maps complex64 of `shape` (slices, coils, H, W), or (1, coils, D, H, W) of a volume; None where there are none.

    One set (coils, H, W) or (1, coils, H, W) serves all slices, with a note. A slice with NaN or infinite values is
    an InputError when it is read; other shapes are one at once.
    """
    found = find_dataset(file, NAME, pairs=True)
    if found is None:
        return None
    sizes = tuple(map(int, found.shape))
    if is_two_channel(sizes, found.dtype) and len(sizes) > 3:
        sizes = sizes[:-1]
    if sizes not in (shape, shape[1:], (1, *shape[1:])):
        _refuse_shape(path, f"'{NAME}'", sizes, shape)
    single = sizes == shape[1:]
    _note_shared(f"'{NAME}'", sizes, shape, notes)
    if found.dtype.kind not in "cV" and len(found.shape) == len(sizes):
        notes.append(
            f"'{NAME}' are real ({found.dtype}): the coils' phases, which differ, are not in them"
        )

    common = np.stack([as_complex(found[c]) for c in range(sizes[0])]) if single else None

    def load(index: int) -> NDArray[np.complex64]:
        if common is not None:
            values = common.copy()
        else:
            values = as_complex(read_slice(path, NAME, index if sizes[0] > 1 else 0, None))
        if not np.isfinite(values).all():
            raise InputError(path, f"'{NAME}' holds NaN or infinite values in slice {index}")
        return values

    return LazyStack(shape, load)


def held_maps(
    values: NDArray[np.complex64], path: Path, what: str, shape: tuple[int, ...], notes: list[str]
) -> LazyStack:
    """Maps in memory as a stack of `shape` (items, coils, *matrix), one set for all slices or one each.

    what: they are called in messages. Raises InputError.
    """
    if values.shape == shape[1:]:
        values = values[None]
    if values.shape not in (shape, (1, *shape[1:])):
        _refuse_shape(path, "the array", values.shape, shape)
    if not np.isfinite(values).all():
        raise InputError(path, "coil maps hold NaN or infinite values")
    _note_shared(what, values.shape, shape, notes)
    last = len(values) - 1
    return LazyStack(shape, lambda index: np.ascontiguousarray(values[min(index, last)]))


def _refuse_shape(
    path: Path, what: str, sizes: tuple[int, ...], shape: tuple[int, ...]
) -> NoReturn:
    """Raise InputError for maps of `sizes` in the place of `shape`, with what is unlike k-space."""
    raise InputError(path, f"{what} has shape {sizes}, {_why(sizes, shape)}", _todo(shape))


def _note_shared(
    what: str, sizes: tuple[int, ...], shape: tuple[int, ...], notes: list[str]
) -> None:
    """Say where one set of maps serves all slices."""
    if sizes != shape and shape[0] > 1:
        notes.append(f"{what} {sizes} serve all {shape[0]} slices")


def _todo(shape: tuple[int, ...]) -> str:
    return f"expected {shape} (slices, coils, H, W) or {shape[1:]}; or leave the maps out: they are then estimated"


def _why(sizes: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What is unlike k-space of `shape`."""
    if sorted(sizes) in (sorted(shape), sorted(shape[1:])):
        return "the axes of k-space in another order"
    if len(sizes) == 5 or (len(sizes) == 4 and sizes[0] != shape[0] and sizes[1:] == shape[1:]):
        return "several sets of maps, or maps of other slices: one map a coil is used"
    if sizes[-2:] != shape[-2:]:
        return f"which does not fit the measurement: k-space is {shape[-2]} x {shape[-1]}"
    return f"which does not fit the measurement of {shape[0]} slices and {shape[1]} coils"
