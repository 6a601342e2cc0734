"""Coil maps that a file brings, looked at before they are used.

May be called by the set-up of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.stack import LazyStack
from restore.errors import InputError

if TYPE_CHECKING:
    from restore.operators.mri.coil_maps import Region

UNIT = 0.02
"""How far the root sum of squares of maps may lie from one."""

EVEN = 0.05
"""How far it may vary over the object for the maps to be a multiple of maps of unit norm."""

SUPPORT = 0.1
"""Of its maximum: where it is larger, maps are defined."""


UNLIKE, BETTER = 0.1, 5.0
"""Share of the energy of the middle of k-space that maps leave unexplained from which they are another scan's, or lie
in another order; so many times less with the axes turned or the phase reversed, and that is what they are. Of
eight coils at a head: its own maps 0.001 to 0.03, two coils exchanged 0.11, maps turned over or conjugated 0.46 to
0.87."""

LINES = 24
"""Of the middle of k-space, along each axis, that are looked at."""

TURNS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "conjugated": np.conj,
    "turned over along their rows": lambda maps: maps[..., ::-1, :],
    "turned over along their columns": lambda maps: maps[..., ::-1],
    "turned over along both axes": lambda maps: maps[..., ::-1, ::-1],
    "with rows and columns exchanged": lambda maps: maps.swapaxes(-2, -1),
}
"""What other programs' conventions make of maps (..., H, W)."""


def hold_against(
    maps: NDArray[Any], kspace: NDArray[Any], region: Region, path: Path, notes: list[str]
) -> None:
    """Look whether maps (coils, H, W), or sets of them, explain the middle of k-space (coils, H, W), fully sampled in
    `region`.

    What they leave is noted where it is much. Raises InputError where maps that are conjugated, turned over or
    exchanged would explain it: what then is wrong is known.
    """
    images = _middle_images(kspace, region)
    left = _unexplained(maps, images)
    if not left > UNLIKE:
        return
    others = {
        name: _unexplained(turned, images)
        for name, turn in TURNS.items()
        if (turned := turn(maps)).shape == maps.shape
    }
    name = min(others, key=lambda k: others[k])
    if others[name] * BETTER < left:
        raise InputError(
            path,
            f"coil maps explain {1 - left:.0%} of the middle of k-space, and {1 - others[name]:.0%} of it {name}",
            "bring them, or k-space, to the other convention, or leave them out: --maps espirit",
        )
    note = (
        f"coil maps leave {left:.0%} of the middle of k-space unexplained: are they of this scan, and its coils in "
        "this order?"
    )
    if note not in notes:
        notes.append(note)


def _middle_images(kspace: NDArray[Any], region: Region) -> NDArray[np.complex128]:
    """Images (coils, H, W) of the middle lines, weighted so that nothing rings."""
    middle = np.zeros(kspace.shape, np.complex128)
    parts = []
    for part, n in zip(region, kspace.shape[-2:], strict=True):
        reach = min(LINES, 2 * min(n // 2 - part.start, part.stop - n // 2)) // 2
        parts.append(slice(n // 2 - reach, n // 2 + reach))
    window = np.outer(*(np.hanning(part.stop - part.start + 2)[1:-1] for part in parts))
    rows, columns = parts
    middle[:, rows, columns] = kspace[:, rows, columns] * window
    axes = (-2, -1)
    images = np.fft.ifft2(np.fft.ifftshift(middle, axes=axes), norm="ortho")
    return np.asarray(np.fft.fftshift(images, axes=axes))


def _unexplained(maps: NDArray[Any], images: NDArray[np.complex128]) -> float:
    """Share of the energy of images (coils, H, W) that is no image seen through maps ([sets,] coils, H, W), where these
    are not zero."""
    sets = maps.reshape(-1, *images.shape).astype(np.complex128)
    where = (sets != 0).any(axis=(0, 1))
    left = images
    for index, one in enumerate(sets):
        for other in sets[:index]:
            one -= _along(other, one)
        left = left - _along(one, left)
    total, rest = (float(np.square(np.abs(v))[:, where].sum()) for v in (images, left))
    return rest / total if total > 0 else 0.0


def _along(one: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The part of values (coils, H, W) along the maps `one`, pixel by pixel."""
    norm = np.square(np.abs(one)).sum(axis=0)
    share = (one.conj() * values).sum(axis=0) / np.where(norm > 0, norm, 1)
    return np.asarray(share * one)


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
