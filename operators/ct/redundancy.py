"""Rays that a scan measured twice and rays that it measured once: weights of displaced detectors and of short scans.

Called by filtered backprojection. Pure functions of the geometry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore.operators.ct.geometry import ParallelBeam

DISPLACED = 0.05
"""Share of the detector's width by which its two sides must differ: a quarter-bin shift is no displacement."""

_GAP = 4  # times the median: a larger gap between neighbouring views is a missing wedge


def displaced_weights(geometry: ParallelBeam) -> NDArray[np.float64] | None:
    """Weight of every bin, (n_det,), for a full turn with a detector that stands off the axis; None for all others."""
    u = np.arange(geometry.n_det, dtype=np.float64) - (geometry.n_det - 1) / 2
    u = u * geometry.det_spacing_mm
    return one_sided(u + geometry.det_offset_mm) if is_full_turn(geometry.angles) else None


def one_sided(l_mm: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Weights of the bins of a full turn whose rays pass the axis at l_mm, (bins,) ascending; None where sides match.

    Every ray is seen from both ends, as l and as -l. Both see |l| <= b, the shorter side; beyond it only one does.
    The pair shares one ray: w(l) + w(-l) = 2 with w = 1 + sin(pi l / (2 b)) towards the longer side, smooth so that the
    ramp filter meets no step (Wang, "X-ray micro-CT with a displaced detector array", Med. Phys. 29, 2002).
    """
    half, offset = (l_mm[-1] - l_mm[0]) / 2, (l_mm[-1] + l_mm[0]) / 2
    shorter = half - abs(offset)
    if abs(offset) <= DISPLACED * half or shorter <= 0:
        return None
    return 1 + np.sin(np.pi / 2 * np.clip(math.copysign(1.0, offset) * l_mm / shorter, -1, 1))


def fan_shares(
    angles: Sequence[float], gamma: NDArray[np.float64], l_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of its line each ray of a diverging scan counts, (views, bins): 1 where nothing else measured it.

    angles: of the views. gamma: (bins,), by which a ray is turned from the one through the axis; l_mm: where it passes
    the axis; both ascending. The ray (t, gamma) is measured again as (t - 2 gamma + pi, -gamma).
    A full turn counts halves, or as `one_sided`; a short scan by the weights of Parker ("Optimal short scan convolution
    reconstruction for fanbeam CT", Med. Phys. 9, 1982), spread over whatever the arc has beyond half a turn; a shorter
    arc, over which lines are missing, counts lines that it has twice by halves.
    """
    if is_full_turn(angles):
        one = one_sided(l_mm)
        return np.broadcast_to(
            (1 if one is None else one) / 2 * np.ones_like(l_mm), (len(angles), len(l_mm))
        )
    beta, arc = _along_the_arc(np.asarray(angles))
    beta = beta[:, None]
    beyond = (arc - math.pi) / 2
    if beyond < np.abs(gamma).max():
        again = beta - 2 * gamma + math.pi
        turned = np.mod(again, 2 * math.pi)
        return np.where(turned <= arc, 0.5, 1.0)
    rise = np.clip(beta / np.maximum(2 * (beyond + gamma), 1e-12), 0, 1)
    fall = np.clip((arc - beta) / np.maximum(2 * (beyond - gamma), 1e-12), 0, 1)
    return np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2


def is_full_turn(angles: Sequence[float]) -> bool:
    """Whether the views go all the way round: no gap on the circle exceeds four times the median one."""
    around = np.unique(np.round(np.mod(np.asarray(angles), 2 * math.pi), 9))
    gaps = np.diff(around, append=around[0] + 2 * math.pi)
    return len(around) > 2 and bool(
        gaps.max() <= _GAP * np.median(gaps) and gaps.max() < math.pi / 2
    )


def _along_the_arc(angles: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """How far each view lies along the arc that the views cover, and the arc to half a step beyond its last views."""
    around = np.mod(angles, 2 * math.pi)
    ordered = np.unique(np.round(around, 9))
    gaps = np.diff(ordered, append=ordered[0] + 2 * math.pi)
    first = ordered[(int(gaps.argmax()) + 1) % len(ordered)]
    step = float(np.median(gaps))
    along = np.mod(around - first + 1e-9, 2 * math.pi)
    return along + step / 2, float(along.max()) + step
