"""From a detector's counts to line integrals: flat and dark frames, dead pixels, the logarithm with a floor.

Called by the readers of CT files that hold counts in the place of line integrals. Our HDF5 names them `counts`, `flat`
and `dark`; other readers find their own frames and hand them to `line_integrals`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from restore.datasets.hdf5_guard import find_dataset
from restore.datasets.hdf5_stack import companion
from restore.datasets.stack import LazyStack
from restore.errors import InputError

MIN_COUNTS = 0.5
"""Of a ray without any: its logarithm exists then. The simulation's floor as well."""

FEWEST_OF_AIR = 20.0
"""Counts of air, in the median, below which values are shares of the light (a flat near 1) and not counts at all."""

SMALLEST_SHARE = 1e-6
"""Of the light, where values are shares of it: what a ray without any is taken for."""

MOST_DEAD = 0.05
"""Share of pixels without light that a detector may have: more, and the frames are no flat and dark."""

_BRIGHTER = (
    -0.05
)  # median line integral of a view that was measured in more light than the flat; noise stays above


def line_integrals_of_counts(
    file: h5py.File, path: Path, in_plane: bool, notes: list[str]
) -> LazyStack | None:
    """`line_integrals` of the `counts` in a file of ours; None where it holds none.

    `flat`, and `dark` and `flat_after` if there are any: a frame (rows, columns), in_plane (slices, columns), or
    several along a first axis, which are averaged. Raises InputError for frames that are missing or of another shape.
    """
    counts = companion(file, path, "counts", (), 3, np.float64)
    if counts is None:
        return None
    panel = counts.shape[:1] + counts.shape[2:] if in_plane else counts.shape[1:]
    flat = _frame(file, path, "flat", panel)
    if flat is None:
        raise InputError(
            path, "holds 'counts' without 'flat'", "store the frames without an object"
        )
    dark = _frame(file, path, "dark", panel)
    after = _frame(file, path, "flat_after", panel)
    return line_integrals(counts, flat, dark, path, in_plane, notes, after)


def line_integrals(
    counts: LazyStack,
    flat: NDArray[np.float64],
    dark: NDArray[np.float64] | None,
    path: Path,
    in_plane: bool,
    notes: list[str],
    after: NDArray[np.float64] | None = None,
) -> LazyStack:
    """-log((counts - dark) / (flat - dark)), float32, made when read.

    counts: (views, rows, columns), in_plane (slices, views, columns). flat, dark: a frame (rows, columns), in_plane
    (slices, columns). after: a flat of after the last view; the light then goes from the one to the other in equal
    steps from view to view. Pixels whose flat is not above the dark are dead and take the value of the nearest live
    one. path: of the file that messages name. notes: grows, also while views are read. Raises InputError for too many
    dead pixels and, while views are read, for counts brighter than the flat.
    """
    light = flat if dark is None else flat - dark
    later = light if after is None else after if dark is None else after - dark
    dead = ~((light > 0) & (later > 0))
    if dead.mean() > MOST_DEAD:
        raise InputError(
            path, f"'flat' is not above 'dark' in {dead.mean():.0%} of the pixels", "are the two exchanged?"
        )  # fmt: skip
    if dead.any():
        notes.append(f"{int(dead.sum())} dead pixel(s) take the value of the nearest live one")
    air = float(np.median(light[~dead]))
    least = MIN_COUNTS if air >= FEWEST_OF_AIR else SMALLEST_SHARE * air
    amount = (
        "half a count" if air >= FEWEST_OF_AIR else f"a {1 / SMALLEST_SHARE:.0e}th of the light"
    )

    taken = Floored(notes, amount, "slice" if in_plane else "view")
    views = counts.shape[1 if in_plane else 0]

    def light_of(index: int) -> NDArray[np.float64]:
        at, when = (index, np.arange(views)[:, None]) if in_plane else (slice(None), index)
        return light[at] + when / max(views - 1, 1) * (later - light)[at]

    def load(index: int) -> NDArray[Any]:
        at = index if in_plane else slice(None)
        none = np.zeros(()) if dark is None else dark[at]
        seen = counts.load(index) - none
        taken.count(index, int((seen < least)[..., ~dead[at]].sum()))
        lines = -np.log(np.maximum(seen, least) / np.where(dead[at], 1.0, light_of(index)))
        lines = lines[..., *_nearest(dead[at])] if dead[at].any() else lines
        if np.median(lines) < _BRIGHTER:
            raise InputError(
                path, f"'counts' {index} are brighter than 'flat' (median line integral {np.median(lines):.2g})",
                "store the flat of the same exposure, or line integrals as 'projections'",
            )  # fmt: skip
        return lines.astype(np.float32)

    return LazyStack(counts.shape, load)


def _frame(
    file: h5py.File, path: Path, key: str, panel: tuple[int, ...]
) -> NDArray[np.float64] | None:
    found = find_dataset(file, key)
    return None if found is None else mean_frame(found, path, key, panel)


def mean_frame(
    found: h5py.Dataset, path: Path, name: str, panel: tuple[int, ...]
) -> NDArray[np.float64]:
    """The mean of frames (n, *panel), or the one of the panel's shape. Raises InputError, naming the data set."""
    if found.shape[-len(panel) :] != panel or found.ndim > len(panel) + 1 or 0 in found.shape:
        raise InputError(
            path, f"'{name}' has shape {found.shape}", f"expected one frame {panel}, or several of them"
        )  # fmt: skip
    frames = range(len(found)) if found.ndim > len(panel) else [()]
    total = np.zeros(panel)
    for k in frames:  # one at a time: flats of a large detector are gigabytes
        total += np.asarray(found[k], np.float64)
    if not np.isfinite(total).all():
        raise InputError(path, f"'{name}' holds NaN or infinite values", "leave such frames out")
    return total / len(frames)


def _nearest(dead: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of the nearest live pixel of each, one array an axis. A panel without any is nobody's."""
    found: NDArray[np.intp] = distance_transform_edt(
        dead, return_distances=False, return_indices=True
    )
    return found


class Floored:
    """Rays that show too little light, counted in one note while slices or views are read."""

    def __init__(self, notes: list[str], amount: str, part: str) -> None:
        self._notes, self._amount, self._part = notes, amount, part
        self._counts: dict[int, int] = {}
        self._said = ""

    def count(self, index: int, rays: int) -> None:
        """`rays` of the slice or view `index` are taken as the least amount."""
        if not rays or index in self._counts:
            return
        self._counts[index] = rays
        said = (
            f"{sum(self._counts.values())} ray(s) in {len(self._counts)} {self._part}(s) have less than {self._amount} "
            f"above the dark and are taken as {self._amount}"
        )
        if self._said in self._notes:
            self._notes[self._notes.index(self._said)] = said
        else:
            self._notes.append(said)
        self._said = said
