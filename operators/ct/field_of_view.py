"""The voxels that a scan sees: a grid for files that say where their rays run and not what is to be reconstructed.

Called by readers. numpy alone; lengths in mm.
"""

from __future__ import annotations

import numpy as np

from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.views import Views

_ROUNDING = 1e-6  # relative: sizes come from quotients of a few decimal numbers


def seen_grid(views: Views) -> VoxelGrid:
    """A volume round the axis x = y = 0, as wide as the circle that some view sees, as high as its rays at the axis.

    Voxels are as large as a bin of the detector looks at the axis, its columns and rows each in the median over the
    views. The circle is the largest that a view reaches on one side, so that a displaced detector has its whole field.
    """
    last = np.array([-(views.columns - 1) / 2 - 0.5, (views.columns - 1) / 2 + 0.5])
    ends = views.centre[:, None] + last[:, None] * views.u[:, None]
    origin = ends if views.parallel else np.broadcast_to(views.source[:, None], ends.shape)
    along = (views.source[:, None] if views.parallel else ends - origin)[..., :2]
    away = np.abs(origin[..., 0] * along[..., 1] - origin[..., 1] * along[..., 0])
    radius = float((away / np.linalg.norm(along, axis=-1)).max())
    shrink = _shrink_at_axis(views)
    dx = float(np.median(np.linalg.norm(views.u, axis=1) * shrink))
    dz = float(np.median(np.linalg.norm(views.v, axis=1) * shrink))
    start = views.centre[:, 2] if views.parallel else views.source[:, 2]
    middle = start + (views.centre[:, 2] - start) * shrink
    half = views.rows / 2 * np.abs(views.v[:, 2]) * shrink
    low, high = float((middle - half).min()), float((middle + half).max())
    across = max(1, int(np.ceil(2 * radius / dx * (1 - _ROUNDING))))
    slices = max(1, round((high - low) / dz))
    return VoxelGrid((slices, across, across), (dz, dx, dx), ((low + high) / 2, 0.0, 0.0))


def _shrink_at_axis(views: Views) -> np.ndarray:
    """Distance of the axis from the source over that of the detector's middle, along its middle ray, (views,)."""
    if views.parallel:
        return np.ones(len(views))
    along = (views.centre - views.source)[:, :2]
    found: np.ndarray = -(views.source[:, :2] * along).sum(1) / (along**2).sum(1)
    return found
