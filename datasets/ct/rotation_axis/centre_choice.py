"""Whose centre of rotation a scan is reconstructed about: the file's, that of `--center MM`, or what its data agree on.

Called where scans of parallel, fan and cone beams are made ready; what single slices tell is found by `centre` and
`opposite_rays`. Numbers in, numbers and a sentence for the notes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from restore.errors import ConfigError, InputError

AUTO = "auto"

MOST_SLICES = 5
"""That are asked for the centre, evenly spaced."""


class Told(NamedTuple):
    """What one slice tells. offset_mm: of the detector; deviation_mm: standard, infinite where nothing tells it."""

    offset_mm: float
    deviation_mm: float
    way: str


NOT_TOLD = Told(0.0, math.inf, "nothing")


def evenly_spaced(n_slices: int) -> list[int]:
    """The slices that are asked."""
    return sorted({round((n_slices - 1) * k / (MOST_SLICES - 1)) for k in range(MOST_SLICES)})


def centred(
    center: str,
    stored_mm: float,
    detector: tuple[float, int],
    path: Path,
    tell: Callable[[], list[Told]],
) -> tuple[float, str]:
    """The detector offset in mm that a scan gets, and what is said of it.

    center: AUTO or a number of mm. stored_mm: the file's offset; detector: pitch in mm and number of bins; tell: gives
    what slices say, asked for AUTO alone. Raises ConfigError for other words, InputError where the data do not tell
    the centre to a bin.
    """
    bin_mm, bins = detector
    offset, how = _agreed(tell(), bin_mm, path) if center == AUTO else (_number(center), "as given")
    axis = (bins - 1) / 2 - offset / bin_mm
    return offset, (
        f"centre of rotation {how}: det_offset_mm {offset:.4g} instead of {stored_mm:.4g} "
        f"({(offset - stored_mm) / bin_mm:+.2f} bins), the axis at bin {axis:.2f}"
    )


def _agreed(told: list[Told], bin_mm: float, path: Path) -> tuple[float, str]:
    told = [t for t in told if math.isfinite(t.deviation_mm)]
    # That of a mean; a median's is a quarter larger.
    doubt = (
        float(np.median([t.deviation_mm for t in told])) / len(told) ** 0.5 if told else math.inf
    )
    if 2 * doubt > bin_mm:
        raise InputError(
            path,
            f"its views do not tell the centre of rotation (to {doubt / bin_mm:.2g} bins only): few views, a short "
            "arc, much noise, or cut views without opposite ones",
            "leave --center auto out and store det_offset_mm, or give it as --center MM",
        )
    offset = float(np.median([t.offset_mm for t in told]))
    return offset, f"found by {told[0].way} in {len(told)} slice(s), to {doubt:.2g} mm"


def _number(center: str) -> float:
    try:
        offset = float(center)
    except ValueError:
        offset = math.nan
    if not math.isfinite(offset):
        raise ConfigError(
            f"center is {center!r}, expected '{AUTO}' or a number of mm (det_offset_mm)"
        )
    return offset
