"""A second volume on the grid of the first: voxel for voxel where both agree, interpolated where they do not.

Used by `shown`; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from restore.datasets.volume.volume import GeometryError, Unplaced, Volume, align_to
from restore.errors import InputError

LEAST = 0.01
"""Of the first volume that the second has to cover: less is no comparison."""


def on_grid(volume: Volume, grid: Volume, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """The values (z, y, x) of a volume at the voxels of `grid`, and what was done to them.

    name: of the volume, for sentences. Where one of the two tells no place, equal shapes are compared voxel by voxel.
    Outside the volume values are its lowest. Raises InputError where there is nothing to compare.
    """
    values = real(volume)
    if isinstance(volume.header, Unplaced) or isinstance(grid.header, Unplaced):
        if values.shape != grid.data.shape:
            raise InputError(
                name, f"{values.shape} voxels beside {grid.data.shape}, and one of the two tells no place",
                "give both in a format that holds their places, such as NIfTI",
            )  # fmt: skip
        return values, [f"{name}: compared voxel by voxel, as one of the two tells no place"]
    placed = Volume(values, volume.affine)
    try:
        return np.asarray(align_to(grid, placed).data, np.float32), []
    except GeometryError:
        return _interpolated(placed, grid, name)


def real(volume: Volume) -> NDArray[np.float32]:
    """The values as they are shown: magnitudes of complex ones."""
    data = np.abs(volume.data) if np.iscomplexobj(volume.data) else volume.data
    return np.asarray(data, np.float32)


def _interpolated(volume: Volume, grid: Volume, name: str) -> tuple[NDArray[np.float32], list[str]]:
    to_volume = np.linalg.inv(volume.affine) @ grid.affine
    turn = to_volume[:3, :3][::-1, ::-1]  # arrays are (z, y, x)
    shift = to_volume[:3, 3][::-1]

    def taken(values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        found = affine_transform(
            values,
            turn,
            shift,
            output_shape=grid.data.shape,
            order=1,
            mode="constant",
            cval=outside,
        )
        return np.asarray(found, np.float32)

    seen = float((taken(np.ones_like(volume.data, np.float32), 0.0) > 0).mean())
    if seen < LEAST:
        raise InputError(
            name, f"covers {seen:.1%} of the volume that is shown", "is it of the same patient and scan?"
        )  # fmt: skip
    values = taken(real(volume), float(volume.data.min()))
    return values, [
        f"{name}: lies on another grid, interpolated linearly; it covers {seen:.0%} of the volume"
    ]
