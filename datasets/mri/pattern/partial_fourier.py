"""Whether one side of k-space was left out, told by the mask, and whether the image may be held real to make up for it.

May be called by the set-up of Cartesian k-space; touches nothing but its arguments. What is missing there is not the
same as undersampling: the image's phase, where it is smooth and known from the middle, tells it from the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.scan import SetupOptions
from restore.errors import ConfigError

SHORTER = 0.85
"""Of the reach on the other side of the middle, below which a side counts as left out."""

WIDER = 3
"""Times the widest gap between measured places that is missing on the short side at least: gaps of an undersampled
mask may also lie at an end."""

LEAST_SYMMETRIC = 8
"""Places on both sides of the middle together, below which the phase that they show is hardly more than a slope."""

AXES = ("partitions", "rows", "columns")


def lacking(sampled: NDArray[np.bool_]) -> dict[int, tuple[int, int]]:
    """Axes, from the last, along which (..., H, W) k-space reaches less far on one side of its middle than on the
    other, with how far it reaches before and behind."""
    found = {}
    for axis in range(-sampled.ndim, 0):
        others = tuple(a for a in range(-sampled.ndim, 0) if a != axis)
        reach = _reach(np.asarray(sampled.any(axis=others)))
        if reach is not None:
            found[axis] = reach
    return found


def note_partial(
    sampled: NDArray[np.bool_], notes: list[str], *, phase_known: bool, held_real: bool = False
) -> None:
    """Say along which axes of (..., H, W) one side was left out, and what tells what is missing.

    phase_known: the image's phase goes into the maps. held_real: and the image is held real.
    """
    for axis, (before, behind) in lacking(sampled).items():
        name = AXES[axis]
        if held_real:
            then = (
                "the image is held real once its smooth phase, seen in the symmetric middle, is taken out: phase that "
                "is not smooth (veins, air, metal, fat beside water) is lost"
            )
        elif phase_known:
            then = (
                "its phase is in the maps, so that a prior of images that are nearly real tells what is missing, and "
                f"'zerofilled' blurs along the {name}; --partial-fourier real holds the image real"
            )
        else:
            then = (
                "its phase stays in the image, and little tells what is missing, and 'zerofilled' blurs along the "
                f"{name}"
            )
        text = (
            f"partial Fourier: {before} {name} before and {behind} behind the middle of k-space were measured; "
            f"{then}"
        )
        if text not in notes:
            notes.append(text)


def symmetric(part: slice, n: int) -> slice:
    """Of a run of places about n // 2, those whose other side lies in it too; a first one more, as of all of an even
    number, stays."""
    before, behind = n // 2 - part.start, part.stop - 1 - n // 2
    if before - behind in (0, 1):
        return part
    reach = min(before, behind)
    return slice(n // 2 - reach, n // 2 + reach + 1)


def check_held_real(
    path: Path,
    masks: Sequence[NDArray[np.bool_]],
    middles: Sequence[tuple[slice, ...] | None],
    options: SetupOptions,
) -> None:
    """Refuse to hold images real where nothing asks for it, or their phase is not known (ConfigError).

    masks: of each slice, or of the volume, in full, (..., H, W). middles: the fully sampled box about the zero
    frequency of each, None where there is none.
    """
    words = f"{path}: --partial-fourier real"
    if not options.remove_phase:
        raise ConfigError(f"{words} wants the image's phase in the maps; leave out --keep-phase")
    if options.maps == "joint" or options.maps_sets > 1:
        raise ConfigError(
            f"{words} is for one set of maps, of a file or by ESPIRiT; leave out --maps joint and --maps-sets"
        )
    sides = [lacking(mask) for mask in masks]
    if not any(sides):
        raise ConfigError(
            f"{words}: k-space reaches as far before its middle as behind it, no side was left out; leave the "
            "option out"
        )
    axes = sorted({axis for side in sides for axis in side})
    for mask, middle in zip(masks, middles, strict=True):
        for axis in axes:
            n = mask.shape[axis]
            part = slice(0, 0) if middle is None else symmetric(middle[axis], n)
            if part.stop - part.start < min(LEAST_SYMMETRIC, n):
                raise ConfigError(
                    f"{words}: {part.stop - part.start} {AXES[axis]} about the middle of k-space are fully sampled on "
                    f"both sides, expected at least {LEAST_SYMMETRIC}, too few to see the image's phase in; leave the "
                    "option out"
                )


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
