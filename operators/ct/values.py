"""Checks of the numbers that describe a scan: finite, positive, whole, and radians rather than degrees.

Called by the geometries of this room. Each gives plain Python numbers back, so that geometries are hashable and their
repr evaluates; each raises ConfigError that names the geometry and the field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from restore.errors import ConfigError

_TURNS = 4  # of a circular scan: more is a helix, or degrees
_LARGE_STEP = 0.35  # radians, twenty degrees: no helix has so few views a turn


def floats(owner: str, name: str, values: Iterable[float]) -> tuple[float, ...]:
    """Finite numbers."""
    try:
        found = tuple(float(v) for v in values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{owner}: {name} is {values!r}, expected numbers") from error
    bad = [v for v in found if not math.isfinite(v)]
    if bad:
        raise ConfigError(f"{owner}: {name} holds {bad[0]}, expected finite numbers")
    return found


def number(owner: str, name: str, value: float) -> float:
    """One finite number."""
    return floats(owner, name, [value])[0]


def positive(owner: str, name: str, value: float) -> float:
    """A length in mm above zero."""
    found = number(owner, name, value)
    if found <= 0:
        raise ConfigError(f"{owner}: {name} is {value}, expected a length in mm above zero")
    return found


def count(owner: str, name: str, value: float) -> int:
    """A whole number of at least one."""
    found = number(owner, name, value)
    if found < 1 or found != int(found):
        raise ConfigError(f"{owner}: {name} is {value}, expected a whole number of at least 1")
    return int(found)


def pair(owner: str, name: str, values: float | Iterable[float], words: str) -> tuple[float, float]:
    """Two numbers; one number stands for both. words: what they are, for the sentence."""
    found = floats(owner, name, values if isinstance(values, Iterable) else (values, values))
    if len(found) != 2:
        raise ConfigError(f"{owner}: {name} is {found}, expected two numbers ({words})")
    return found[0], found[1]


def view_angles(owner: str, angles: Iterable[float], helical: bool = False) -> tuple[float, ...]:
    """Angles of a circular or helical scan in radians, at least one; degrees are recognised."""
    found = floats(owner, "angles", angles)
    if not found:
        raise ConfigError(f"{owner}: angles is empty, expected at least one view")
    span = max(found) - min(found)
    steps = sorted(abs(b - a) for a, b in itertools.pairwise(found))
    sparse = bool(steps) and steps[len(steps) // 2] > _LARGE_STEP
    if span > _TURNS * 2 * math.pi and (sparse or not helical):
        raise ConfigError(
            f"{owner}: angles run from {min(found):.6g} to {max(found):.6g}, {span / (2 * math.pi):.0f} turns if they "
            "are radians: they look like degrees; multiply them by pi / 180"
        )
    return found
