"""Which way columns and rows of a scan are counted, as its own data tell: lines that are seen from both sides.

Called by `ct_pd`, whose files do not say it in words; reads views through the function it is given.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.files.ct_pd_header import View

Values = Callable[[int], NDArray[np.float64]]

_SURELY = 0.7  # of the second best: how much better one way of counting must fit its opposite rays
_VIEWS, _FANS = 40, 7  # views and fan angles that are asked
_REACH = 0.6  # of the detector's half width: the rest may be air


def sense_of(views: list[View], values: Values, notes: list[str]) -> tuple[int, int]:
    """Whether rows run along +z and columns to the right as seen from the source (1), or the other way (-1).

    values(k): line integrals (rows, columns) of view k. (1, 1) is taken where the data do not contradict: a line
    through the object that two views see from opposite sides has one value in the true sense.
    """
    opposite = _opposite(views)
    if len(opposite) == 0:
        notes.append(
            "no ray is seen from both sides: which way columns and rows are counted is not checked"
        )
        return 1, 1
    held = functools.cache(values)
    errors = {
        sense: _mismatch(views, held, opposite, sense)
        for sense in itertools.product((1, -1), (1, -1))
    }
    column = _better("columns", [min(errors[1, c], errors[-1, c]) for c in (1, -1)], notes)
    row = _better("rows", [errors[r, column] for r in (1, -1)], notes)
    return row, column


def _better(what: str, errors: list[float], notes: list[str]) -> int:
    """1 or -1, whichever has the smaller error by far; 1 where neither has."""
    least, most = sorted(errors)
    if not math.isfinite(least) or least > _SURELY * most:
        notes.append(
            f"opposite rays do not tell which way {what} are counted: taken as in the manual"
        )
        return 1
    if errors[0] == least:
        return 1
    notes.append(
        f"opposite rays say that {what} are counted the other way than in the manual: turned"
    )
    return -1


def _opposite(views: list[View]) -> list[tuple[int, int, float]]:
    """Pairs of views (a, b) and the fan angle, counted to the right, at which a ray of a is seen from b as well."""
    angles = np.unwrap([view.angle for view in views])
    columns = np.arange(views[0].shape[1]) - (views[0].centre[1] - 1)
    widest = float(np.abs(columns).max()) * views[0].pitch[1] / views[0].distance
    order = np.argsort(angles)
    pairs = []
    step = max(1, len(views) // _VIEWS)
    for a in range(0, len(views), step):
        for fan in np.linspace(-_REACH, _REACH, _FANS) * widest:
            # A source at angle phi whose ray leaves it by `fan` to the right meets the circle again half a turn and
            # twice the fan angle on.
            target = angles[a] + math.pi - 2 * fan
            b = int(order[np.clip(np.searchsorted(angles[order], target), 0, len(views) - 1)])
            if abs(angles[b] - target) < 2 * abs(angles[-1] - angles[0]) / len(views):
                pairs.append((a, b, float(fan)))
    return pairs


def _mismatch(
    views: list[View], values: Values, pairs: list[tuple[int, int, float]], sense: tuple[int, int]
) -> float:
    """Mean square difference of opposite rays near the plane half way between both sources."""
    found = []
    for a, b, fan in pairs:
        height = (
            views[b].place - views[a].place
        ) / 2  # half way, over the source of a; the same below that of b
        one = _at(views[a], values(a), fan, height, sense)
        other = _at(views[b], values(b), -fan, -height, sense)
        if math.isfinite(one) and math.isfinite(other):
            found.append((one - other) ** 2)
    return float(np.mean(found)) if found else math.inf


def _at(
    view: View, lines: NDArray[np.float64], fan: float, height: float, sense: tuple[int, int]
) -> float:
    """The ray that leaves by `fan` to the right and half way through the circle has risen by `height` mm."""
    column = sense[1] * fan * view.distance / view.pitch[1] + view.centre[1] - 1
    rise = height * view.distance / (view.radius * math.cos(fan))
    row = sense[0] * rise / view.pitch[0] + view.centre[0] - 1
    if not (0 <= row <= view.shape[0] - 1 and 0 <= column <= view.shape[1] - 2):
        return math.nan
    left, part = int(column), column - int(column)
    line = lines[round(row)]
    return float((1 - part) * line[left] + part * line[left + 1])
