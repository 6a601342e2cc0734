"""What was measured of k-space, told by the samples themselves.

May be called by the readers and benchmarks; touches nothing but its arguments. `masks` makes patterns instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.stack import LazyStack

Mask = NDArray[np.bool_]
"""For all slices: (W,) where whole columns are measured, else (H, W). One a slice: (slices, 1, W) or (slices, H, W)."""


def measured_samples(kspace: LazyStack, lost: bool = False) -> NDArray[np.bool_]:
    """Where any coil is not zero, (slices, H, W); every slice (coils, H, W) is read once.

    lost: samples that are not finite in any coil were lost, and count as not measured.
    """
    slices, _, height, width = kspace.shape
    measured = np.zeros((slices, height, width), bool)
    for index in range(slices):
        values = kspace[index]
        measured[index] = (values != 0).any(axis=0)
        if lost:
            measured[index] &= ~_lost(values)
    return measured


def sampling_pattern(measured: NDArray[np.bool_]) -> Mask:
    """The mask that samples (slices, H, W) tell: one for all slices where they agree, else one a slice.

    A slice of zeros tells nothing; it is taken to be measured wherever another one is.
    """
    empty = np.asarray(~measured.any(axis=(1, 2)))
    if empty.any():
        common = np.logical_or.reduce(measured, axis=0)
        measured = np.where(empty[:, None, None], common, measured)
    return compact(measured)


def compact(mask: Mask) -> Mask:
    """The shortest form of a mask (H, W) or (slices, H, W): see `Mask`."""
    if mask.ndim == 3 and bool((mask == mask[:1]).all()):
        mask = mask[0]
    if mask.ndim == 1 or not bool((mask == mask[..., :1, :]).all()):
        return mask
    return mask[0] if mask.ndim == 2 else mask[:, :1]


def slice_mask(mask: Mask, index: int) -> Mask:
    """That of one slice, (W,), (1, W) or (H, W)."""
    return mask[index] if mask.ndim == 3 else mask


def whole_lines(measured: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of samples (slices, H, W): the rows and columns in which anything was measured; all of an empty slice."""
    lines = measured.any(axis=2, keepdims=True) & measured.any(axis=1, keepdims=True)
    return np.asarray(lines | ~measured.any(axis=(1, 2), keepdims=True))


def share(part: Any, whole: Any) -> float:
    """Of the True of `whole`, those that are in `part` too."""
    count = int(np.count_nonzero(whole))
    return int(np.count_nonzero(part & whole)) / count if count else 0.0


def note_empty(measured: NDArray[np.bool_], notes: list[str]) -> None:
    """Say which slices of (slices, H, W) hold zeros alone."""
    empty = np.flatnonzero(~measured.any(axis=(1, 2)))
    if empty.size:
        which = ", ".join(map(str, empty[:8])) + ", ..." * (empty.size > 8)
        notes.append(
            f"k-space of slice {which} is zero everywhere: an empty image is to be expected"
        )


def without_lost(mask: Mask, kspace: LazyStack, notes: list[str]) -> Mask:
    """The mask without samples that are not finite in some coil; one a slice where slices lost different ones."""
    slices, _, height, width = kspace.shape
    whole = np.broadcast_to(mask, (slices, height, width))
    lost = np.stack([_lost(kspace[i]) for i in range(slices)])
    count = int((whole & lost).sum())
    if not lost.any():
        return mask
    if count:
        notes.append(f"{count} lost samples taken out of the mask")
    return compact(whole & ~lost)


def _lost(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a slice (coils, H, W) is not finite in some coil; a coil that nowhere is finite is dead, and asked not."""
    bad = ~np.isfinite(values)
    return np.asarray(bad[~bad.all(axis=(1, 2))].any(axis=0))
