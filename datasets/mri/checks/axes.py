"""Whether the axes of an array are what they are taken for, told by where its energy gathers.

May be called by the readers of k-space; touches nothing but its arguments. Along frequencies nearly all energy lies
close together, along coils, slices and places in an image it does not.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.stack import LazyStack
from restore.errors import InputError

PART = 8
"""The energy is looked for in this part of an axis, wherever that lies, across its ends too."""

GATHERED, EVEN = 0.5, 0.35
"""From which share in that part, above what an even spread has there, an axis is one of frequencies; below
which not."""

FEWEST_COILS, FEWEST_SLICES = 16, 8
"""Below which an eighth of them is too few to tell frequencies by."""

LOOKED_AT = 16
"""Slices, evenly spread."""

MORE = 0.2
"""By how much more energy must be gathered after a transform than before for frequencies to be places."""

NOTHING = 0.1
"""Below which no axis has more of a middle than noise."""

RANGE = (1e-15, 1e17)
"""Of the largest sample. Squares of samples ten thousand times smaller, and sums of a million, are normal numbers."""

NAMES = ("slices", "coils", "rows", "columns")
AS_IT_IS = "--kspace-order centred (kspace_order='centred') takes it as it is"


@dataclasses.dataclass(frozen=True, eq=False)
class _Energy:
    """Along each of the four axes: how much more than an even share lies in the fullest eighth, 0 to 1.

    brightest: the slice (coils, H, W) with the most energy.
    """

    gathered: tuple[float, float, float, float]
    brightest: NDArray[Any]


def check_axes(
    kspace: LazyStack, path: Path, notes: list[str], asked: str = "", partitions: bool = False
) -> None:
    """Refuse arrays (slices, coils, H, W) whose axes are in another order, images in the place of k-space, and numbers
    whose squares single precision cannot hold.

    asked: the word for the order of k-space; "centred" is believed. partitions: the header says that slices are
    partitions along kz; where it does not and the energy looks like it, that is noted. Raises InputError.
    """
    seen = _look(kspace)
    largest = float(np.abs(seen.brightest).max())
    if largest and not RANGE[0] < largest < RANGE[1]:
        raise InputError(
            path,
            f"k-space reaches {largest:.3g}, and its noise must be computed with in single precision",
            f"multiply it by a power of ten, such as 1e{-round(np.log10(largest))}, and the noise with it",
        )
    if asked == "centred":
        return
    fewest = (FEWEST_SLICES, FEWEST_COILS)
    frequencies = [
        a for a in (0, 1) if kspace.shape[a] >= fewest[a] and seen.gathered[a] > GATHERED
    ]
    spread = [a for a in (2, 3) if seen.gathered[a] < EVEN]
    if frequencies and (spread or 1 in frequencies):
        _refuse_order(kspace.shape, frequencies, spread, path)
    if frequencies and not partitions:
        notes.append(
            f"most energy lies in a few of the {kspace.shape[0]} slices, as it does along kz before the "
            "transform, and no "
            "header tells of a three-dimensional scan: if these are partitions, transform them along z first"
        )
    if seen.brightest.any():
        _refuse_images(seen, path, notes)


def _look(kspace: LazyStack) -> _Energy:
    count = len(kspace)
    chosen = sorted({count // 2, *np.linspace(0, count - 1, LOOKED_AT).astype(int).tolist()})
    total = np.zeros(kspace.shape[1:])
    per_slice: list[float] = []
    brightest: NDArray[Any] = np.zeros(kspace.shape[1:], np.complex64)
    for index in chosen:
        values = kspace[index]
        values = np.where(np.isfinite(values), values, 0)
        energy = np.square(np.abs(values), dtype=float)
        if not per_slice or energy.sum() > max(per_slice):
            brightest = values
        per_slice.append(float(energy.sum()))
        total += energy
    across = (total.sum(axis=(1, 2)), total.sum(axis=(0, 2)), total.sum(axis=(0, 1)))
    coils, rows, columns = map(_gathered, across)
    return _Energy((_gathered(np.asarray(per_slice)), coils, rows, columns), brightest)


def _gathered(profile: NDArray[np.float64]) -> float:
    """0 for an even profile, 1 where all of it lies in an eighth of the axis."""
    n, total = profile.size, float(profile.sum())
    width = max(1, round(n / PART))
    if width >= n or total <= 0:
        return 0.0
    around = np.concatenate([profile, profile[: width - 1]])
    most = float(np.convolve(around, np.ones(width), "valid").max()) / total
    return (most - width / n) / (1 - width / n)


def _refuse_order(
    shape: tuple[int, ...], frequencies: list[int], spread: list[int], path: Path
) -> None:
    found = ", ".join(f"{shape[a]} {NAMES[a]}" for a in frequencies)
    but = "".join(f", and not along the {shape[a]} {NAMES[a]}" for a in spread)
    raise InputError(
        path,
        f"k-space {shape} is read as (slices, coils, H, W), but along the {found} its energy gathers as it does along "
        f"frequencies{but}: its axes are in another order",
        "bring them into the order (slices, coils, H, W), such as by numpy.moveaxis for coils that lie "
        "last; partitions "
        f"along kz are transformed first; {AS_IT_IS}",
    )


def _refuse_images(seen: _Energy, path: Path, notes: list[str]) -> None:
    """Raise InputError where a transform along an axis gathers the energy that is not gathered before.

    Where neither has a middle a note says that nothing but noise is seen.
    """
    spread = []
    values = _without_offset(seen.brightest)
    for axis in (2, 3):
        energy = np.square(np.abs(fft.fft(values, axis=axis - 1)), dtype=float)
        gathered = _gathered(energy.sum(axis=(0, 4 - axis)))
        if gathered > max(GATHERED, seen.gathered[axis] + MORE):
            spread.append(NAMES[axis])
    if spread:
        along = " and ".join(spread)
        raise InputError(
            path,
            f"the energy of 'k-space' is spread along its {along}, and gathers once these are transformed: it was "
            "transformed to an image there already",
            f"store the samples as they were measured, or transform these axes back to frequencies; {AS_IT_IS}",
        )
    if max(seen.gathered[2:]) < NOTHING and min(seen.brightest.shape[-2:]) >= PART:
        notes.append("k-space has no middle where its energy gathers: it shows little but noise")


def _without_offset(values: NDArray[Any]) -> NDArray[Any]:
    """Without the median of each coil's samples (coils, H, W): a constant is no image of a point."""
    measured = (values != 0).any(axis=0)
    samples = values[:, measured]
    middle = np.median(samples.real, axis=1) + 1j * np.median(samples.imag, axis=1)
    return np.where(measured, values - middle.astype(values.dtype)[:, None, None], 0)
