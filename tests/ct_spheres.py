"""A sphere in closed form, seen by any ray: what the readers of scanners' files are held against."""

from __future__ import annotations

import numpy as np

from restore.operators.ct.views import Views

CENTRE, RADIUS, MU = (2.0, 3.0, 1.0), 9.0, 0.02
"""Of the sphere in the object's frame, (x, y, z) in mm, and its attenuation in 1/mm."""


def chord(
    source: np.ndarray, points: np.ndarray, centre: np.ndarray = CENTRE, radius: float = RADIUS
) -> np.ndarray:
    """Length in mm within the sphere of the lines from `source` through `points` (..., 3)."""
    along = points - source
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    away = np.linalg.norm(np.cross(np.asarray(centre) - source, along), axis=-1)
    return 2 * np.sqrt(np.maximum(radius**2 - away**2, 0))


def seen(views: Views) -> np.ndarray:
    """(views, rows, columns) of the sphere's line integrals along the rays of a geometry of ours."""
    i = (np.arange(views.rows) - (views.rows - 1) / 2)[:, None, None]
    j = (np.arange(views.columns) - (views.columns - 1) / 2)[:, None]
    found = []
    for source, centre, u, v in zip(views.source, views.centre, views.u, views.v, strict=True):
        points = centre + i * v + j * u
        found.append(MU * chord(points - source if views.parallel else source, points))
    return np.array(found)


def on_a_turntable(
    turned_deg: np.ndarray,
    shape: tuple[int, int],
    pitch_mm: float,
    near_mm: float,
    far_mm: float,
    axis_at_mm: float = 0.0,
    up_mm: float = 0.0,
) -> np.ndarray:
    """Frames (views, rows, columns) as a camera sees them from the source's side, row 0 at the top.

    The source stands at (0, -near, 0), the panel's middle at (0, far - near, 0), and the object turns counterclockwise,
    seen from above, by turned_deg about an axis at x = axis_at_mm. up_mm: how much higher than the source the panel is.
    """
    rows, columns = shape
    z = ((rows - 1) / 2 - np.arange(rows))[:, None] * pitch_mm + up_mm
    x = (np.arange(columns) - (columns - 1) / 2)[None, :] * pitch_mm
    points = np.stack(np.broadcast_arrays(x, far_mm - near_mm, z), -1)
    frames = []
    for turn in np.deg2rad(turned_deg):
        cos, sin = np.cos(turn), np.sin(turn)
        place = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ CENTRE
        place[0] += axis_at_mm
        frames.append(MU * chord(np.array([0.0, -near_mm, 0.0]), points, place))
    return np.array(frames)
