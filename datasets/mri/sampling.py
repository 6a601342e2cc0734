"""What was measured of k-space, told by the samples themselves.

May be called by the readers and benchmarks; touches nothing but its arguments. `masks` makes patterns instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import InputError

Mask = NDArray[np.bool_]
"""(W,) where whole columns are measured, else (H, W)."""


def sampling_pattern(kspace: Any) -> Mask:
    """The mask that zero-filled k-space tells by itself: where any coil of any slice is not zero.

    kspace: a sequence of slices (coils, H, W), such as an array (slices, coils, H, W) or a lazy
    stack; the first, middle and last slice are looked at. Returns (W,) where whole columns are
    measured, else (H, W).
    """
    pattern = np.zeros(kspace.shape[-2:], bool)
    for index in sorted({0, len(kspace) // 2, len(kspace) - 1}):
        pattern |= (kspace[index] != 0).any(axis=0)
    return compact(pattern)


def require_inside(kspace: NDArray[Any], mask: Mask, path: Path, index: int) -> None:
    """Raise InputError if a slice (coils, H, W) is not zero outside a mask derived from other slices."""
    outside = ~np.broadcast_to(mask, kspace.shape[1:])
    if (kspace[:, outside] != 0).any():
        raise InputError(
            path,
            f"slice {index} is sampled at other places than the slices the mask was taken from",
            "store one mask for all slices in the file, or split it",
        )


def compact(mask: Mask) -> Mask:
    """A plane (H, W) whose rows are all equal as its one row (W,), any other unchanged."""
    return mask[0] if mask.ndim == 2 and bool((mask == mask[:1]).all()) else mask
