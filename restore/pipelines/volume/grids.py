"""A second volume on the grid of the first: masks, regions and maps of noise.

Called by the tasks; reads the one file that it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.open import read
from restore.datasets.volume.volume import GeometryError, Volume, align_to
from restore.errors import InputError


def on_grid_of(volume: Volume, path: Path) -> NDArray[Any]:
    """The intensities of a file at the volume's voxels, (D, H, W), by their places; nothing is interpolated.

    Raises NotFoundError, InputError (another grid, more than one volume, a complex one).
    """
    found = read(path)
    if np.iscomplexobj(found.data):
        raise InputError(path, "a complex volume where a mask or a map was expected")
    try:
        return align_to(volume, found).data
    except GeometryError as cause:
        raise InputError(
            path, f"lies on another grid than the volume: {cause.why}", cause.hint
        ) from cause
