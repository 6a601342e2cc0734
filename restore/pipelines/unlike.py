"""What makes a figure of an image and its reference say little: other units, another zero, one turned over.

Called by the evaluation on the samples that it compares; touches nothing but its arguments. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHER_UNITS = 20.0
"""Times the spread of the other: no restoration is that wrong, units are."""

MOSTLY = 0.1
"""Part of the error that is left by a factor and an offset, below which it was they that made it."""

FACTOR, OFFSET = 1.25, 0.25
"""A factor, and an offset in spreads of the reference, that a restoration might have: less is not said."""

SAME_THING = 0.9
"""Correlation of an image with its reference, below which no factor and offset make it right."""

TURNED = 0.5
"""Part of what is not explained of the reference that is left when the image is turned over, below which that is said:
halves of a head differ by more."""

LOOKED_AT = 4
"""Planes at either end of the first axis that are turned over: orientation shows in few."""

_Turn = Callable[[NDArray[Any]], NDArray[Any]]


def unlike_values(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[str]:
    """A note where samples of an image x and of its reference y are constant, or not in the same units."""
    for values, name in ((y, "reference"), (x, "image")):
        if values.size and values.min() == values.max():
            return [
                f"the {name} is {float(values.flat[0]):g} at all compared places: figures tell nothing"
            ]
    spreads = float(np.std(x)), float(np.std(y))
    if max(spreads) > OTHER_UNITS * min(spreads):
        return [
            f"the image's values spread by {spreads[0]:.3g}, the reference's by {spreads[1]:.3g}: are both in one unit "
            "(HU, 1/mm)? --rescale fits a factor"
        ]
    error, alike = float(np.mean((x - y) ** 2)), _correlation(x, y)
    factor = alike * spreads[1] / spreads[0]
    offset = float(y.mean()) - factor * float(x.mean())
    left = spreads[1] ** 2 * (1 - alike**2)
    small = 1 / FACTOR < factor < FACTOR and abs(offset) < OFFSET * spreads[1]
    if small or abs(alike) < SAME_THING or left > MOSTLY * error:
        return []
    return [
        f"times {factor:.4g} and {'minus' if offset < 0 else 'plus'} {abs(offset):.4g} the image would have "
        f"{left / error:.1%} of its squared error: are both in one unit, with one zero?"
    ]


def unlike_places(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    where: NDArray[np.bool_] | None,
    first: str,
) -> list[str]:
    """A note where x, (planes, rows, columns), is much more like y once it is turned over.

    where: the samples that count, None for all. first: what the planes are, "slices" or "channels".
    """
    n = len(x)
    ends = np.r_[: min(LOOKED_AT, n), max(n - LOOKED_AT, min(LOOKED_AT, n)) : n]
    x, y = x[ends], y[ends]
    counted = np.ones(x.shape, bool) if where is None else where[ends]

    def missed(turn: _Turn) -> float:
        both = counted & turn(counted)
        return 1 - _correlation(turn(x)[both], y[both]) if both.any() else 1.0

    now = missed(lambda a: a)
    found = {name: missed(turn) for name, turn in _turns(x.shape, first).items()}
    best = min(found, key=lambda name: found[name])
    if found[best] >= TURNED * now:
        return []
    return [
        f"with its {best} the image is more like the reference (correlation {1 - found[best]:.3f} instead of "
        f"{1 - now:.3f}): does it lie as it should?"
    ]


def _turns(shape: tuple[int, ...], first: str) -> dict[str, _Turn]:
    turns: dict[str, _Turn] = {
        "rows turned over": lambda a: a[:, ::-1],
        "columns turned over": lambda a: a[:, :, ::-1],
        "rows and columns turned over": lambda a: a[:, ::-1, ::-1],
    }
    if shape[0] > 1:
        turns[f"{first} in the other order"] = lambda a: a[::-1]
    if shape[1] == shape[2]:
        turns["rows and columns exchanged"] = lambda a: a.swapaxes(1, 2)
        turns["planes turned by 90 degrees"] = lambda a: np.rot90(a, 1, (1, 2))
        turns["planes turned by -90 degrees"] = lambda a: np.rot90(a, -1, (1, 2))
    return turns


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """0 where one of them is constant."""
    a, b = x - x.mean(), y - y.mean()
    norm = float(np.sqrt(np.vdot(a, a) * np.vdot(b, b)))
    return float(np.vdot(a, b)) / norm if norm else 0.0
