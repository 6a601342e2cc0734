"""Coil maps that a file brings, looked at before they are used.

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.stack import LazyStack
from restore.errors import InputError

UNIT = 0.02
"""How far the root sum of squares of maps may lie from one."""

EVEN = 0.05
"""How far it may vary over the object for the maps to be a multiple of maps of unit norm."""

SUPPORT = 0.1
"""Of its maximum: where it is larger, maps are defined."""


def checked_maps(maps: LazyStack, path: Path, notes: list[str]) -> LazyStack:
    """Maps (slices, coils, H, W) whose slices are refused where they are zero everywhere (InputError).

    A multiple of maps with sum |S|^2 = 1 is divided by its norm; others are used as they are, which is noted: the image
    then has the brightness that they define. The middle slice is looked at, all where its norm varies. Raises
    InputError
    for maps whose squares sum to one along the slices.
    """
    middle = maps[len(maps) // 2]
    factor = _norm(middle, notes)
    if factor is None and not _is_unit(middle) and len(maps) > 1 and _is_unit(_along_slices(maps)):
        raise InputError(
            path,
            f"the squares of 'sensitivity_maps' {maps.shape} sum to one along their slices, not along their coils: the "
            "axes of slices and coils are exchanged",
            "store maps and k-space as (slices, coils, H, W): numpy.swapaxes(values, 0, 1)",
        )

    def load(index: int) -> NDArray[Any]:
        values = maps[index]
        if not values.any():
            raise InputError(
                path,
                f"'sensitivity_maps' are zero everywhere in slice {index}",
                "estimate them: --maps espirit",
            )
        return values if factor is None else (values / factor).astype(values.dtype)

    return LazyStack(maps.shape, load)


def _along_slices(maps: LazyStack) -> NDArray[Any]:
    """The norm of each coil's map over all slices, (coils, H, W), of the middle coil alone: (1, H, W)."""
    coil = maps.shape[1] // 2
    squares = [np.square(np.abs(maps[i][coil]), dtype=float) for i in range(len(maps))]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)))[None]


def _is_unit(maps: NDArray[Any]) -> bool:
    """Whether the squares of maps (coils, H, W) sum to one wherever they are not tiny."""
    norm = np.sqrt(np.square(np.abs(maps), dtype=float).sum(axis=0))
    inside = norm[norm > SUPPORT * norm.max()]
    return bool(inside.size) and float(np.mean(np.abs(inside - 1) > UNIT)) < EVEN


def _norm(maps: NDArray[Any], notes: list[str]) -> np.float32 | None:
    """What maps (coils, H, W) are to be divided by, or None."""
    norm = np.sqrt(np.square(np.abs(maps), dtype=float).sum(axis=0))
    inside = norm[norm > SUPPORT * norm.max()]
    if not inside.size:
        return None
    middle = float(np.median(inside))
    even = np.mean(np.abs(inside / middle - 1) > EVEN) < EVEN
    if even and abs(middle - 1) <= UNIT:
        return None
    low, high = np.quantile(inside, [0.01, 0.99])
    note = (
        f"coil maps have the norm {middle:.3g}: divided by it"
        if even
        else f"the norm of the coil maps varies from {low:.3g} to {high:.3g}: the image's brightness follows theirs"
    )
    if note not in notes:
        notes.append(note)
    return np.float32(middle) if even else None
