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
    then has the brightness that they define. The middle slice is looked at.
    """
    factor = _norm(maps[len(maps) // 2], notes)

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
