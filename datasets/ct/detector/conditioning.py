"""What is done to line integrals if asked for: outliers bridged, stripes taken out, beam hardening undone.

Called where scans of parallel, fan and cone beams are made ready. Outliers come first, since a median over sorted
values would spread a stuck bin; stripes are additive before the polynomial, not after it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.detector.beam_hardening import coefficients_of, corrected
from restore.datasets.ct.detector.lost_rays import bridged
from restore.datasets.ct.detector.rogue_rays import rogue_mask
from restore.datasets.ct.detector.stripes import WIDEST, WIDTH, without_stripes
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError

SORTING = "sorting"

TAKEN = ("outliers", "rings", "beam_hardening")
"""The options of `SetupOptions` that it takes."""


class Conditioning(NamedTuple):
    """outliers: bridge them; width: of the medians against stripes, 0 to leave them; hardening: c1, c2, ..., or
    none."""

    outliers: bool
    width: int
    hardening: tuple[float, ...]

    def applied(self, y: NDArray[Any], path: Path, index: int) -> tuple[NDArray[Any], Counter[str]]:
        """A sinogram (views, n_det) after it, and what was done how often. Raises InputError."""
        tally: Counter[str] = Counter()
        if self.outliers:
            mask, tally = rogue_mask(y)
            y, _ = bridged(y, mask, path, index)
        if self.width:
            y, bins = without_stripes(y, self.width)
            tally["bin(s) without their stripe"] += bins.size
        if self.hardening:
            y = corrected(y, self.hardening, path)
        return y, tally


def conditioning_of(options: SetupOptions) -> Conditioning | None:
    """What the options ask for, None for nothing. Raises ConfigError for words that mean nothing."""
    if not any(getattr(options, name) for name in TAKEN):
        return None
    hardening = coefficients_of(options.beam_hardening) if options.beam_hardening else ()
    return Conditioning(bool(options.outliers), _width(options.rings), hardening)


def conditioned(
    lines: LazyStack, in_plane: bool, steps: Conditioning | None, path: Path, notes: list[str]
) -> LazyStack:
    """The line integrals after `steps`, made when read; what was found stands in the notes then.

    lines: (slices, views, n_det) in_plane, else (views, rows, columns), of which each row of the detector is a
    sinogram: all views are read for the first one, and kept. notes: grows. Raises InputError while reading.
    """
    if steps is None:
        return lines

    def slice_of(index: int) -> NDArray[Any]:
        y, tally = steps.applied(lines.load(index), path, index)
        _note(notes, f"slice {index}", tally)
        return y

    if in_plane:
        return LazyStack(lines.shape, slice_of)
    kept: list[NDArray[Any]] = []

    def view_of(index: int) -> NDArray[Any]:
        if not kept:
            whole, tally = np.stack([lines.load(k) for k in range(lines.shape[0])]), Counter[str]()
            for row in range(lines.shape[1]):
                whole[:, row], done = steps.applied(whole[:, row], path, row)
                tally += done
            _note(notes, f"{lines.shape[1]} rows of the detector", tally)
            kept.append(whole)
        return kept[0][index]

    return LazyStack(lines.shape, view_of)


def _width(rings: str) -> int:
    """Of "", "sorting" and "sorting:7"."""
    word, colon, number = rings.partition(":")
    if not word and not colon:
        return 0
    width = int(number) if number.isdecimal() else WIDTH if not colon else 0
    if word != SORTING or not (WIDTH <= width <= WIDEST and width % 2):
        raise ConfigError(
            f"rings is {rings!r}, expected {SORTING} or {SORTING}:N, N odd, from {WIDTH} to {WIDEST} bins"
        )
    return width


def _note(notes: list[str], where: str, tally: Counter[str]) -> None:
    done = [f"{count} {what}" for what, count in tally.items() if count]
    sentence = f"{where}: {', '.join(done)}"
    if done and sentence not in notes:
        notes.append(sentence)
