"""A ball of one material: its line integrals along the rays of any geometry, in closed form, for tests of CT."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from restore.operators.ct.beams import Beam
from restore.operators.ct.grid import VoxelGrid


def measured(beam: Beam, centre: tuple[float, float, float], radius: float) -> Tensor:
    """Chords of a ball (a disc, in the plane), each bin the mean of eight rays side by side: (views, rows, columns)."""
    views = beam.reduced().finer(1, 8)
    a, b = views.column_tables()
    base, along = views.basis()
    i = np.arange(views.rows)[:, None, None] - (views.rows - 1) / 2
    step = (b[:, None] * views.u[:, None])[:, None] + i * views.v[:, None, None]
    if views.parallel:
        point = views.centre[:, None, None] + step
        way = np.broadcast_to(views.source[:, None, None], step.shape)
    else:
        point = views.source[:, None, None]
        way = base[:, None, None] + (a[:, None] * along[:, None])[:, None] + step
    way = way / np.linalg.norm(way, axis=-1, keepdims=True)
    apart = np.linalg.norm(np.cross(point - np.array(centre), way), axis=-1)
    chords = 2 * np.sqrt(np.clip(radius**2 - apart**2, 0, None))
    lines = chords.reshape(*chords.shape[:2], -1, 8).mean(-1)
    return torch.from_numpy(lines[:, 0] if beam.in_plane else lines).float()


def distance(grid: VoxelGrid, centre: tuple[float, float, float]) -> np.ndarray:
    """Of the voxels from a point, in mm."""
    index = np.stack(np.indices(grid.shape3), -1)
    place = (index - (np.array(grid.shape3) - 1) / 2) * grid.pitch3_mm * (1, -1, 1)
    return np.linalg.norm(place[..., ::-1] - centre, axis=-1).reshape(grid.shape)
