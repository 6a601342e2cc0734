"""Stripes of a sinogram along its views, which make rings in the picture, taken out by sorting.

Called where CT scans are made ready (`conditioning`); numbers in, numbers out, touches no file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from restore.datasets.median_deviation import std_by_median

Sinogram = NDArray[np.floating[Any]]

WIDTH = 5
"""Bins that a median is taken over by default: stripes must be narrower than half of it."""

WIDEST = 101

_SIDE = 0.9  # share of a bin's sorted values that lie on one side of their neighbours' medians
_BEYOND = 4.0  # deviations of the usual bin by which the middle one of them does


def without_stripes(sinogram: Sinogram, width: int = WIDTH) -> tuple[Sinogram, NDArray[np.intp]]:
    """The sinogram (views, n_det) with stripes taken out, and the bins that had one.

    The values of every bin are sorted; neighbouring bins, which see nearly the same object, then hold nearly the same
    values in the same places, whatever the views, and a stripe is a bin beside them. Its sorted values are replaced by
    the medians over `width` bins and put back (algorithm 3 of Vo, Atwood and Drakopoulos, "Superior techniques for
    eliminating ring artifacts in X-ray micro-tomography", Optics Express 26, 2018).

    Differs from the paper: only bins that stand beside their neighbours are touched, nine tenths of their values on one
    side and their middle four deviations of the usual bin away. Replacing all of them moves a clean picture of discs by
    5 HU (width 5) to 17 HU (21, root mean square); with this rule it moves by less than 1, and striped ones are mended
    as well.
    """
    order = np.argsort(sinogram, axis=0, kind="stable")
    ranked = np.take_along_axis(sinogram, order, axis=0)
    medians = median_filter(ranked, (1, width), mode="reflect")
    away = ranked - medians
    middle = np.median(away, axis=0)
    sided = np.abs(np.sign(away).mean(0)) > 2 * _SIDE - 1
    bins = np.flatnonzero(sided & (np.abs(middle) > _BEYOND * float(std_by_median(middle))))
    ranked[:, bins] = medians[:, bins]
    clean = np.empty_like(sinogram)
    np.put_along_axis(clean, order, ranked, axis=0)
    return clean, bins
