"""Rays that a scan measured twice and rays that it measured once: weights of a displaced detector.

Called by filtered backprojection. Pure functions of the geometry.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from restore.operators.ct.geometry import ParallelBeam

DISPLACED = 0.05
"""Share of the detector's width by which its two sides must differ: a quarter-bin shift is no displacement."""

_GAP = 4  # times the median: a larger gap between neighbouring views is a missing wedge


def displaced_weights(geometry: ParallelBeam) -> NDArray[np.float64] | None:
    """Weight of every bin, (n_det,), for a full turn with a detector that stands off the axis; None for all others.

    View t + pi sees the ray of view t mirrored, u -> -u. Both see |u| <= b, the shorter side; beyond it only one does.
    The pair shares one ray: w(u) + w(-u) = 2 with w = 1 + sin(pi u / (2 b)) towards the longer side, smooth so that the
    ramp filter meets no step (Wang, "X-ray micro-CT with a displaced detector array", Med. Phys. 29, 2002).
    """
    if not is_full_turn(geometry):
        return None
    half = (geometry.n_det - 1) / 2 * geometry.det_spacing_mm
    u = (np.arange(geometry.n_det) - (geometry.n_det - 1) / 2) * geometry.det_spacing_mm
    u = u + geometry.det_offset_mm
    shorter = half - abs(geometry.det_offset_mm)
    if 2 * abs(geometry.det_offset_mm) <= DISPLACED * 2 * half or shorter <= 0:
        return None
    towards = math.copysign(1.0, geometry.det_offset_mm) * u
    return 1 + np.sin(np.pi / 2 * np.clip(towards / shorter, -1, 1))


def is_full_turn(geometry: ParallelBeam) -> bool:
    """Whether the views go all the way round: no gap on the circle exceeds four times the median one."""
    angles = np.unique(np.round(np.mod(np.asarray(geometry.angles), 2 * math.pi), 9))
    gaps = np.diff(angles, append=angles[0] + 2 * math.pi)
    return len(angles) > 2 and bool(
        gaps.max() <= _GAP * np.median(gaps) and gaps.max() < math.pi / 2
    )
