"""The mask that a file stores, whatever shape it has, held against the samples that are there.

May be called by the readers of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.pattern.sampling import Mask, compact, share, whole_lines
from restore.errors import InputError

MOST_LEFT_OUT = 0.1
"""Of the samples of an undersampled file that its mask may leave out; more, and one of the two is wrong."""

MOST_ZEROS = 0.01
"""Of the samples of a mask that may be exactly zero in every coil; noise never is, small whole numbers are at times."""

FULL = 0.98
"""Share of the samples in the middle half of the lines that are not zero from which k-space counts as fully sampled."""


def fitted_mask(
    stored: NDArray[Any], measured: NDArray[np.bool_], path: Path, notes: list[str]
) -> Mask:
    """A stored mask as `Mask`.

    stored: zeros and one other whole number, of shape (W,), (H, 1) for phase encoding along rows, (H, W),
    (slices, W), (slices, H, W), with axes of length one anywhere and a coil axis where all coils agree. Where the
    shape allows two readings, as in a square matrix, the one that leaves out least of what was measured is taken.
    measured: of `measured_samples`.
    Lines in it that hold zeros alone are taken out, and all zeros where there are many. Raises InputError.
    """
    readings = _readings(_two_valued(stored, path, notes), measured.shape)
    if not readings:
        slices, height, width = measured.shape
        raise InputError(
            path,
            f"'mask' has shape {stored.shape}, which does not fit k-space of {slices} slices, {height} x {width}",
            f"expected ({width},), ({height}, 1), ({height}, {width}), ({slices}, {width}) or "
            f"({slices}, {height}, {width})",
        )
    # The one that leaves out least of what was measured; among equals, that which claims least besides.
    fits = {
        k: (-share(m, measured), share(~measured, _all(m, measured))) for k, m in readings.items()
    }
    name = min(fits, key=lambda k: fits[k])
    mask = readings[name]
    if list(fits.values()).count(fits[name]) > 1 or name != next(iter(fits)):
        notes.append(f"'mask' {stored.shape} read as {name}: {' and '.join(readings)} are possible")
    _compare(mask, measured, path, notes)
    lines = whole_lines(measured)
    claimed = _all(mask, measured)
    if (claimed & ~lines).any():
        count = int((claimed & ~lines).any(axis=0).sum())
        notes.append(f"{count} places of 'mask' lie on lines of zeros: not measured, taken out")
        claimed = claimed & lines
    return compact(_without_zeros(claimed, measured, notes))


def _two_valued(stored: NDArray[Any], path: Path, notes: list[str]) -> NDArray[np.bool_]:
    """Zeros as False, one other whole number as True. Raises InputError for weights and what is no number."""
    other = np.unique(stored[stored != 0])
    if other.size > 1 or not np.isfinite(other).all() or (other != np.round(other)).any():
        raise InputError(
            path,
            f"'mask' holds values other than 0 and 1: {', '.join(f'{v:g}' for v in other[:5])}",
            "a sample is measured or not: store 0 and 1; weights are no mask, divide k-space by them",
        )
    if other.size and other[0] != 1:
        notes.append(f"'mask' holds 0 and {other[0]:g}: read as 0 and 1")
    return np.asarray(stored != 0)


def _without_zeros(
    claimed: NDArray[np.bool_], measured: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.bool_]:
    """The mask without samples that are zero in every coil, where these are more than chance or rounding makes."""
    filled = measured.any(axis=(1, 2), keepdims=True)  # a slice of zeros is said elsewhere
    zeros = claimed & ~measured & filled
    found = share(zeros, claimed & filled)
    if found <= MOST_ZEROS:
        return claimed
    notes.append(
        f"{found:.1%} of the samples of 'mask' are zero in every coil: not measured, taken out"
    )
    return np.asarray(claimed & ~zeros)


def _all(mask: NDArray[np.bool_], like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.broadcast_to(mask, like.shape)


def _compare(
    mask: NDArray[np.bool_], measured: NDArray[np.bool_], path: Path, notes: list[str]
) -> None:
    """Say what share of the samples a mask leaves out; refuse one that contradicts undersampled k-space."""
    left_out = 1 - share(mask, measured)
    if left_out == 0 or not mask.any():
        return
    height, width = measured.shape[1:]
    middle = np.zeros((height, width), bool)  # corners may be cut off
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    full = share(measured, whole_lines(measured) & middle) > FULL and _without_gaps(measured)
    told = f"{max(left_out, 1e-3):.1%} of the samples that are not zero lie outside 'mask'"
    turned = ", or says 1 where nothing was measured" if share(~mask, measured) > FULL else ""
    if left_out > MOST_LEFT_OUT and not full:
        raise InputError(
            path,
            f"{told}, though k-space is undersampled already: the mask is of another scan or along another "
            f"axis{turned}",
            "correct the mask, or remove it: what is not zero is then taken as measured",
        )
    notes.append(f"{told}: left out")


def _without_gaps(measured: NDArray[np.bool_]) -> bool:
    """Whether the lines with samples are neighbours: nothing but padding at the ends is missing."""
    for axes in ((0, 1), (0, 2)):
        found = np.flatnonzero(measured.any(axis=axes))
        if found.size and found[-1] - found[0] + 1 != found.size:
            return False
    return True


def _readings(stored: NDArray[np.bool_], shape: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
    """What a mask can mean, by name, each of a shape that broadcasts to (slices, H, W); the usual first."""
    slices, height, width = shape
    core = stored.squeeze() if stored.size > 1 else stored.reshape(1)
    rows_first = stored.ndim == 2 and stored.shape[1] == 1
    found: dict[str, NDArray[np.bool_]] = {}
    if core.ndim == 1:
        if core.size == width:
            found["columns"] = core[None, None, :]
        if core.size == height:
            rows = {"rows": core[None, :, None]}
            found = rows | found if rows_first else found | rows
    elif core.ndim == 2:
        if core.shape == (height, width):
            found["a plane"] = core[None]
        if core.shape == (slices, width):
            found["columns of each slice"] = core[:, None, :]
        if core.shape == (slices, height):
            found["rows of each slice"] = core[:, :, None]
    elif core.ndim == 3 and core.shape == shape:
        found["a plane of each slice"] = core
    if not found and core.ndim in (3, 4) and bool((core == core[..., :1, :, :]).all()):
        return _readings(core[..., 0, :, :], shape)  # the coils agree
    return found
