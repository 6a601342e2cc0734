"""Degrees or radians: what the span of a scan's angles tells.

Called by the readers of files that a person or another program wrote; numbers in, words out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DEGREES_FROM = 30.0
"""A span beyond this is none of radians: it would be five turns."""

_TURN = {math.pi: "half a turn", 2 * math.pi: "a turn"}
_NEAR = (
    0.05  # of half a turn or a turn: a last view that stands at the end, or a few that are left out
)


def span_of(angles: NDArray[np.float64]) -> float:
    """What the views divide: from the first to the last of (views,) angles, and a step more."""
    views = len(angles)
    return float(np.ptp(angles)) * views / max(views - 1, 1) if views else 0.0


def turn_in_radians(span: float) -> str:
    """ "half a turn" or "a turn" where the span is one in radians, else nothing."""
    return next((word for arc, word in _TURN.items() if abs(span - arc) < _NEAR * arc), "")
