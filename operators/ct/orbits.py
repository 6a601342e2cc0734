"""Where source and detector stand in every view of a scan that goes round: trigonometry alone.

Called by the geometries (`beams`), whose convention it spells out. Pure functions; lengths in mm.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.views import Views


def circular(
    angles: tuple[float, ...],
    detector: tuple[int, int],
    spacing_mm: tuple[float, float],
    source_object_mm: float,
    source_detector_mm: float,
    *,
    det_offset_mm: tuple[float, float],
    source_offset_mm: tuple[float, float],
    turns: tuple[float, float, float],
    arc: float = 0.0,
    curved: bool = False,
) -> Views:
    """Views of a source on a circle.

    detector: (rows, columns). spacing_mm: (row pitch, column pitch). Offsets as (v, u). turns: tilt, slant and skew of
    the panel in radians. arc: by how many radians the middle of a curved detector is turned about the source.
    """
    right, up, towards = _frame(angles)
    across, rows = _panel_axes(*turns)
    frame = np.stack(
        [right, up, -towards], axis=1
    )  # (views, axis, xyz): u, v, away from the source
    u, v = (np.einsum("a,vax->vx", axis, frame) for axis in (across, rows))
    source = source_object_mm * towards + source_offset_mm[1] * right + source_offset_mm[0] * up
    if curved:
        u = math.cos(arc) * right - math.sin(arc) * -towards
        centre = source + source_detector_mm * (math.sin(arc) * right - math.cos(arc) * towards)
    else:
        centre = (source_object_mm - source_detector_mm) * towards
        centre = centre + det_offset_mm[1] * u + det_offset_mm[0] * v
    return Views(
        source, centre, u * spacing_mm[1], v * spacing_mm[0], *detector, curved=curved
    )  # fmt: skip


def parallel(
    angles: tuple[float, ...],
    detector: tuple[int, int],
    spacing_mm: tuple[float, float],
    offset_mm: tuple[float, float],
) -> Views:
    """Views of parallel rays, along (-sin t, cos t)."""
    right, up, towards = _frame(angles)
    centre = offset_mm[1] * right + offset_mm[0] * up
    return Views(
        -towards, centre, right * spacing_mm[1], up * spacing_mm[0], *detector, parallel=True
    )


def _frame(angles: tuple[float, ...]) -> tuple[NDArray[np.float64], ...]:
    """(columns' direction, +z, towards the source), each (views, 3)."""
    t = np.asarray(angles)
    cos, sin, zero = np.cos(t), np.sin(t), np.zeros_like(t)
    up = np.stack([zero, zero, zero + 1], 1)
    return np.stack([cos, sin, zero], 1), up, np.stack([sin, -cos, zero], 1)


def _panel_axes(tilt: float, slant: float, skew: float) -> tuple[NDArray[np.float64], ...]:
    """The columns' and the rows' direction of a turned panel in the frame (u, v, away from the source)."""
    about_normal = np.array(
        [[math.cos(skew), -math.sin(skew), 0], [math.sin(skew), math.cos(skew), 0], [0, 0, 1]]
    )
    about_u = np.array(
        [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    )
    about_v = np.array(
        [[math.cos(slant), 0, -math.sin(slant)], [0, 1, 0], [math.sin(slant), 0, math.cos(slant)]]
    )
    turned = about_v @ about_u @ about_normal
    return turned[:, 0], turned[:, 1]


def reduced_parallel(geometry: ParallelBeam) -> Views:
    """Today's parallel beam of slices as vectors: the same rays as `ParallelBeamCT` follows, in the plane z = 0."""
    size, pitch = (1, geometry.n_det), (geometry.det_spacing_mm,) * 2
    return parallel(geometry.angles, size, pitch, (0.0, geometry.det_offset_mm))
