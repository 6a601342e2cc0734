"""Partitions along kz of a scan that is encoded along three axes: whether slices come apart, and how.

May be called by the readers of k-space; touches nothing but its arguments. Where all partitions were measured alike, a
transform along z makes slices, each a problem of its own; else the volume is one problem (`cartesian_volume`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.budget import check_budget
from restore.datasets.mri.pattern.sampling import share
from restore.datasets.stack import LazyStack
from restore.errors import InputError

CONCENTRATED = 0.3
"""Share of all energy in the middle of kz from which partitions count as not transformed (and twice an even share)."""

FULL = 0.99
"""Share of the samples of all partitions that each must hold: one that vanishes by chance is none that was left out."""


def are_partitions(
    stack: LazyStack, depth: int, declared: str, path: Path, notes: list[str]
) -> bool:
    """Whether the first axis of k-space (D, coils, H, W) is kz, and not that of slices.

    depth: encoded partitions by the header, 1 where it does not say. declared: the file's own word, "3d", "2d" or "".
    Without a word three-dimensional scans are told by their energy: before the transform nearly all of it lies in the
    middle partition. Raises InputError for another word, for partitions whose zero frequency is not in the middle, or
    that are not as many as the header says.
    """
    if declared not in ("", "2d", "3d"):
        raise InputError(path, f"attribute 'encoding' is {declared!r}", "expected '2d' or '3d'")
    if declared == "2d" or (depth < 2 and not declared):
        return False
    energy = np.array([_energy(stack[i]) for i in range(len(stack))])
    most = int(energy.argmax())
    middle = float(energy.max() / max(float(energy.sum()), np.finfo(float).tiny))
    centred = abs(most - len(stack) // 2) <= 1
    gathered = middle > max(CONCENTRATED, 2 / len(stack))
    if gathered and not centred and (declared or most in (0, len(stack) - 1)):
        raise InputError(
            path,
            f"a three-dimensional scan whose energy lies in partition {most}: the zero frequency of kz is not in the "
            f"middle, at {len(stack) // 2}",
            "store the partitions in the order of numpy.fft.fftshift along the first axis, or transform them along z "
            "first",
        )
    if not declared and not (centred and gathered):
        notes.append(
            f"a three-dimensional scan of {depth} partitions; no middle one of the {len(stack)} stored holds most of "
            "the energy, so they are taken to be transformed along z already"
        )
        return False
    if depth > 1 and len(stack) != depth:
        raise InputError(
            path,
            f"a three-dimensional scan: the header says {depth} partitions along kz, the file holds {len(stack)}",
            "store all partitions (zeros where none was measured), or transform them along z first",
        )
    return True


def come_apart(measured: NDArray[np.bool_]) -> bool:
    """Whether partitions (D, H, W) are complete: measured at the same places, those at both ends perhaps not at all.

    As many zeros at either end are an interpolation; at one end alone they are a partial Fourier scan, and gaps are
    undersampling.
    """
    filled = np.asarray(measured.any(axis=(1, 2)))
    there = np.flatnonzero(filled)
    if not there.size or there.size != there[-1] - there[0] + 1:
        return False
    before, behind = int(there[0]), len(filled) - 1 - int(there[-1])
    union = measured.any(axis=0)
    alike = all(share(part, union) >= FULL for part in measured[filled])
    return alike and abs(before - behind) <= 1


def slices_of(
    stack: LazyStack, measured: NDArray[np.bool_], path: Path, notes: list[str]
) -> LazyStack:
    """Slices (D, coils, H, W) of complete partitions, by the centred orthonormal inverse FFT along z, in which white
    noise keeps its level; the whole stack is transformed when the first slice is asked for, and kept.

    Raises InputError for a stack beyond the memory.
    """
    check_budget(int(np.prod(stack.shape)) * 16, path)
    missing = len(stack) - int(measured.any(axis=(1, 2)).sum())
    notes.append(
        f"three-dimensional scan: {len(stack)} partitions transformed along z"
        + (f", {missing} of them not measured and taken as zeros" if missing else "")
    )
    kept: list[NDArray[Any]] = []

    def load(index: int) -> NDArray[Any]:
        if not kept:
            spectrum = fft.ifft(fft.ifftshift(stack[:], axes=0), axis=0, norm="ortho")
            kept.append(fft.fftshift(spectrum, axes=0).astype(np.complex64, copy=False))
        return kept[0][index].copy()

    return LazyStack(stack.shape, load)


def _energy(values: NDArray[Any]) -> float:
    return float(np.square(np.abs(np.where(np.isfinite(values), values, 0)), dtype=float).sum())
