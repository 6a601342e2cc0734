"""Beam hardening of water undone by a polynomial of the line integrals, and how its coefficients are found.

A tube's rays lose their soft part on the way: the line integral of a long way through water is less than its length
tells, and a picture is darker in its middle (cupping). Herman, "Correction for beam hardening in computed tomography",
Phys. Med. Biol. 24, 1979. Called by `conditioning`, by the command line and by scripts; `read_coefficients` reads the
one file it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, InputError

Lines = NDArray[np.floating[Any]]

MOST = 8
"""Coefficients: a higher order follows noise."""

_LONGEST = 1 << 12  # bytes of a file of coefficients


def corrected(lines: Lines, coefficients: tuple[float, ...], path: Path) -> Lines:
    """c1 y + c2 y^2 + ... of line integrals y; below 0, where noise lies, c1 y.

    path: of the file that messages name. Raises InputError where the polynomial falls within the range of the data.
    """
    most = max(float(lines.max()), 0.0)
    slope = np.polynomial.Polynomial((0.0, *coefficients)).deriv()
    if float(slope(np.linspace(0.0, most, 257)).min()) <= 0:
        raise InputError(
            path,
            f"the polynomial for beam hardening falls between line integrals of 0 and {most:.3g}, which the data reach",
            "fit it on water at least as thick as the object, or with fewer coefficients",
        )
    found: Lines = np.where(
        lines > 0, np.polynomial.polynomial.polyval(lines, (0.0, *coefficients)), coefficients[0] * lines
    ).astype(lines.dtype)  # fmt: skip
    return found


def fit_beam_hardening(
    measured: NDArray[np.floating[Any]],
    water_mm: NDArray[np.floating[Any]],
    mu_water: float,
    order: int = 3,
) -> tuple[float, ...]:
    """Coefficients c1, c2, ... for `--beam-hardening`, from a scan of water whose place is known.

    measured: line integrals of rays, any shape. water_mm: how far each goes through water, the same shape. mu_water: in
    1/mm, that the corrected picture shall show. order: number of coefficients. By least squares of c1 y + c2 y^2 + ...
    against mu_water times the way. Raises ConfigError for shapes that differ, values that are not finite, fewer ways
    than coefficients.
    """
    y, way = (np.asarray(v, np.float64).ravel() for v in (measured, water_mm))
    if y.shape != way.shape or not (np.isfinite(y).all() and np.isfinite(way).all()):
        raise ConfigError(
            f"beam hardening: {y.size} line integrals, {way.size} ways through water, or NaN among them"
        )
    if not 1 <= order <= MOST or len(np.unique(way[way > 0])) < order or not mu_water > 0:
        raise ConfigError(
            f"beam hardening: order {order} (1..{MOST}) needs as many ways, and mu_water > 0"
        )
    powers = y[:, None] ** np.arange(1, order + 1)
    found, *_ = np.linalg.lstsq(powers, mu_water * way, rcond=None)
    return tuple(map(float, found))


def read_coefficients(words: str) -> str:
    """What `--beam-hardening` says, as numbers with commas: they themselves, or a text file that holds them.

    Numbers in the file stand apart by commas, spaces or lines. Raises InputError for a file without them, ConfigError
    for words that are neither.
    """
    path = Path(words)
    if not words or not path.is_file():
        return words
    if path.stat().st_size > _LONGEST:
        raise InputError(path, "is no short text of coefficients", "write c1,c2,... into it")
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise InputError(path, "is no text of coefficients", "write c1,c2,... into it") from error
    return ",".join(text.replace(",", " ").split())


def coefficients_of(words: str) -> tuple[float, ...]:
    """The numbers c1, c2, ... of a text with commas. Raises ConfigError."""
    try:
        found = tuple(float(word) for word in words.split(","))
    except ValueError as error:
        raise ConfigError(
            f"beam_hardening is {words!r}, expected numbers c1,c2,... or a file that holds them"
        ) from error
    if len(found) > MOST or not np.isfinite(found).all() or not found[0] > 0:
        raise ConfigError(
            f"beam_hardening is {words!r}, expected up to {MOST} finite numbers, the first above 0"
        )
    return found
