"""K-space that was filtered: it falls to nearly nothing towards its edge, as no object and no noise does.

May be called by the set-up of k-space; touches nothing but its arguments. A filter (Hann, Tukey, Fermi) blurs the
image, and takes the noise off where it is estimated, so that the estimate is far too low. Hamming's, which ends at
0.08, is not told from an object's own fall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median

INNER, EDGE = (0.7, 0.8), (0.96, 1.0)
"""Two bands across an axis, in parts of the way from the middle to the outermost line that was measured."""

STEEP = 10.0
"""Level of the first over that of the second. Heads without noise reach 2.9, filters begin at 12 (Fermi) and 38 (Tukey
over a fifth of the way)."""

FEWEST = 32
"""Samples of a band below which its level would be a guess."""


def filter_note(
    kspace: NDArray[Any], mask: NDArray[np.bool_], estimated: float | None
) -> str | None:
    """A note on k-space (coils, H, W), sampled where `mask` says, that looks filtered; None where it does not.

    estimated: the noise as it was estimated from k-space, None where it was told.
    """
    measured = np.broadcast_to(mask, kspace.shape[-2:]) & (kspace != 0).any(axis=0)
    falls = {word: _fall(kspace, measured, axis) for axis, word in ((0, "rows"), (1, "columns"))}
    word = max(falls, key=lambda w: falls[w])
    if falls[word] <= STEEP:
        return None
    noise = "" if estimated is None else (
        f", and the noise estimated there, {estimated:.3g}, is far too low: give the level of unfiltered samples "
        "(--noise-std)"
    )  # fmt: skip
    return (
        f"k-space looks filtered (Hann, Tukey, Fermi): across its {word} it falls by a factor of {falls[word]:.0f} in "
        f"the outer quarter, and by 3 at most where nothing was done to it. The image is blurred{noise}; better use "
        "k-space without the filter"
    )


def _fall(kspace: NDArray[Any], measured: NDArray[np.bool_], axis: int) -> float:
    """By what factor the level falls from the inner band to the edge; 1 where it cannot be told."""
    lines = measured.any(axis=1 - axis)
    away = np.abs(np.arange(lines.size) - lines.size // 2)
    if not lines.any():
        return 1.0
    place = away / max(int(away[lines].max()), 1)
    levels = []
    for low, high in (INNER, EDGE):
        band = (place >= low) & (place <= high)
        samples = kspace[:, measured & (band[:, None] if axis == 0 else band)]
        if samples.shape[1] < FEWEST:
            return 1.0
        parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
        levels.append(float(np.sqrt(np.mean(std_by_median(parts, axis=1) ** 2))))
    inner, edge = levels
    return inner / edge if edge > 0 else 1.0
