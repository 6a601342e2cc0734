"""Slices that are read or computed one at a time, and the check that each must pass.

May be used by every reader, simulator and layer above; holds a shape and a function, no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import InputError


@dataclass(frozen=True, eq=False)
class LazyStack:
    """A stack of equally shaped slices that are read or computed one at a time.

    `stack[i]` is one slice, `stack[a:b:c]` several as one new array; `np.asarray(stack)` is all of
    it. `shape` includes the slice axis in front; `load(i)` gives slice i for 0 <= i < shape[0].
    """

    shape: tuple[int, ...]
    load: Callable[[int], NDArray[Any]]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            if not chosen:
                return np.zeros((0, *self.shape[1:]), self.load(0).dtype)
            return np.stack([self.load(i) for i in chosen])
        if not -len(self) <= index < len(self):
            raise IndexError(f"slice {index} of {len(self)}")
        return self.load(index % len(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = self[:]
        return values if dtype is None else values.astype(dtype)


def blanked(
    values: NDArray[Any], bad: NDArray[np.bool_], path: Path, index: int
) -> tuple[NDArray[Any], str]:
    """Zeros in place of the bad samples, and the words for it."""
    return np.where(bad, 0, values).astype(values.dtype), "set to zero"


Mend = Callable[[NDArray[Any], NDArray[np.bool_], Path, int], tuple[NDArray[Any], str]]
"""(values, bad, path, slice) -> values without bad ones, and what was done in a few words."""


def checked_slice(
    values: NDArray[Any],
    path: Path,
    index: int,
    repair: str,
    notes: list[str],
    mend: Mend = blanked,
    names: tuple[str, str] | None = None,
) -> NDArray[Any]:
    """One measured slice without NaN and infinities, or InputError.

    values: (coils, H, W) or (views, detectors); names: of the stack's items and of the first axis, if they are others.
    With repair="zero" the bad samples of a copy are mended (by default zero, for readers that take them out of the
    mask) and one note per slice is added to `notes`.
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    item, part = names or ("slice", "coil" if np.iscomplexobj(values) else "view")
    parts = np.flatnonzero(bad.any(axis=tuple(range(1, values.ndim))))
    where = f"{item} {index}, {part} {', '.join(map(str, parts[:8]))}" + ", ..." * (len(parts) > 8)
    what = f"{int(bad.sum())} samples are NaN or infinite ({where})"
    if repair != "zero":
        raise InputError(path, what, "repair the source, or ask for repair 'zero' to blank them")
    mended, done = mend(values, bad, path, index)
    if not any(note.startswith(what) for note in notes):
        notes.append(f"{what}: {done}")
    return mended
