"""Row k of a detector in all views as slice k: the turn from frames, as they are stored, to sinograms, as slices need.

Used by the readers of parallel and fan beams (`dxchange`, `projection_stack`); reads through the function it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.stack import LazyStack

_BLOCK_BYTES = 1 << 26
"""Of rows that are read together: frames are opened or unpacked once for all of them."""


def rows_as_slices(
    shape: tuple[int, int, int], read_rows: Callable[[int, int], NDArray[Any]]
) -> LazyStack:
    """(rows, views, columns) of frames of `shape` (views, rows, columns); a block of rows is kept.

    read_rows(first, stop): these rows of all views, (views, stop - first, columns). What it raises is passed on.
    """
    views, rows, columns = shape
    wide = max(1, _BLOCK_BYTES // (8 * views * columns))
    held: dict[int, NDArray[Any]] = {}

    def load(index: int) -> NDArray[Any]:
        first = index - index % wide
        if first not in held:
            held.clear()
            held[first] = np.asarray(read_rows(first, min(first + wide, rows)), np.float64)
        return held[first][:, index - first].copy()

    return LazyStack((rows, views, columns), load)


def sliced(lines: LazyStack) -> LazyStack:
    """Line integrals (views, rows, columns) as sinograms (rows, views, columns), float32."""
    views, rows, columns = lines.shape

    def read_rows(first: int, stop: int) -> NDArray[Any]:
        return np.stack([lines[k][first:stop] for k in range(views)])

    turned = rows_as_slices((views, rows, columns), read_rows)
    return LazyStack(turned.shape, lambda k: turned[k].astype(np.float32))
