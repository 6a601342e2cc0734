"""Rays of a sinogram that hold no number: bridged along the detector where their view has others.

Called by the readers of sinograms. A lost ray set to zero would be a ray through air, and the surest one of all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import InputError

MOST_OF_A_VIEW = 0.25
"""Share of a view's rays that may be bridged: beyond it the object's own shape would be made up."""


def bridged(
    values: NDArray[Any],
    bad: NDArray[np.bool_],
    path: Path,
    index: int,
    names: tuple[str, str] = ("slice", "view"),
) -> tuple[NDArray[Any], str]:
    """The slice with straight lines across its lost rays, and what was done, for a note.

    values, bad: (views, detectors), or whatever else `names` calls the stack's items and their first axis. Raises
    InputError for a view that lost more than a quarter of its rays.
    """
    lost = np.flatnonzero(bad.mean(axis=1) > MOST_OF_A_VIEW)
    if lost.size:
        which = ", ".join(map(str, lost[:8])) + ", ..." * (lost.size > 8)
        item, part = names
        what = f"{item} {index}: {lost.size} {part}(s) lost more than a quarter of their rays ({which})"
        raise InputError(path, what, "leave these views and their angles out of the file")
    mended, bins = values.copy(), np.arange(values.shape[1])
    for view in np.flatnonzero(bad.any(axis=1)):
        seen = ~bad[view]
        mended[view, ~seen] = np.interp(bins[~seen], bins[seen], values[view, seen])
    return mended, "bridged from their neighbours on the detector"
