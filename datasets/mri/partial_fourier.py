"""Whether one side of k-space was left out, told by the mask.

May be called by the set-up of Cartesian k-space; touches nothing but its arguments. What is missing there is not the
same as undersampling: the image's phase, where it is smooth and known from the middle, tells it from the other side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHORTER = 0.85
"""Of the reach on the other side of the middle, below which a side counts as left out."""

WIDER = 3
"""Times the widest gap between measured places that is missing on the short side at least: gaps of an undersampled
mask may also lie at an end."""


def note_partial(sampled: NDArray[np.bool_], notes: list[str], *, phase_known: bool) -> None:
    """Say along which axes of (..., H, W) k-space reaches less far on one side of its middle than on the other.

    phase_known: the image's phase goes into the maps.
    """
    names = ("partitions", "rows", "columns")[-sampled.ndim :]
    for axis, name in enumerate(names):
        others = tuple(a for a in range(sampled.ndim) if a != axis)
        found = _reach(np.asarray(sampled.any(axis=others)))
        if found is None:
            continue
        phase = (
            "its phase is in the maps, so that a prior of images that are nearly real tells what is missing"
            if phase_known
            else "its phase stays in the image, and little tells what is missing"
        )
        text = (
            f"partial Fourier: {found[0]} {name} before and {found[1]} behind the middle of k-space were measured; "
            f"{phase}, and 'zerofilled' blurs along the {name}"
        )
        if text not in notes:
            notes.append(text)


def _reach(measured: NDArray[np.bool_]) -> tuple[int, int] | None:
    """How far measured places go on either side of n // 2, where one side is left out; else None."""
    n = measured.size
    there = np.flatnonzero(measured)
    if there.size < 2:
        return None
    before, behind = n // 2 - int(there[0]), int(there[-1]) - n // 2
    full = behind + (1 - n % 2)  # of an even number of places one more lies before the middle
    shorter, longer = min(before, full), max(before, full)
    gap = int(np.diff(there).max())
    left_out = shorter >= 0 and shorter < SHORTER * longer and longer - shorter > WIDER * gap
    return (before, behind) if left_out else None
