"""Bins of a detector that read otherwise than their neighbours, and single rays that do: dead and hot pixels, zingers.

Called where CT scans are made ready (`conditioning`); numbers in, masks out, touches no file. Found by medians, which
an outlier does not move:

* a zinger leaves the median of the five rays around it along the detector, and that of the five views around it, on the
  same side, by ZINGER deviations of the noise around it and by SHARE of the peak; and not both neighbouring views show
  the like nearby, as they do of a small bright object.
  Where views are few that also happens to a flat object seen edge-on, which is said.
* a bin is odd where it lies outside its neighbours in nearly all views (`plausibility.odd_bins`), or where the median
  of its distances from the median of five exceeds ODD times that of the usual bin and SHARE of the peak (a stuck one).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d

from restore.datasets.ct.checks.plausibility import Finding, named, noise_of, odd_bins
from restore.gaussian import MAD_TO_STD

Sinogram = NDArray[np.floating[Any]]

ZINGER = 12.0
"""Deviations of the noise: those of few counts, whose logarithms have long tails, stay below."""

SHARE = 0.05
"""Of the peak: what is smaller is no worse than noise and makes no streak to speak of."""

ODD = 8.0
"""Times the usual bin's distance from its neighbours."""

FEW_VIEWS = 4
"""Bins a view from which on a flat part of the object, such as a table, may be seen edge-on in a single view."""

FLAT_PARTS = (
    "zingers, or something flat that one of few views sees edge-on: look before they are bridged"
)

MOST = 0.02
"""Share of rays beyond which single ones are no exceptions: the data are noisier than their medians say."""

_PEAK = 0.999  # quantile of the line integrals, which zingers do not set
_AROUND = 5  # rays and views
_NOISE_AROUND = 9  # both, for the noise
_LIKE = 0.35  # of a ray's distance from its neighbours: a second one of its kind
_FEWEST_VIEWS = 10  # for a bin to be told from the object


def rogue_rays_of(y: Sinogram) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The odd bins of a sinogram (views, n_det) of line integrals, and which other rays are zingers, (views, n_det)."""
    y = np.asarray(y, np.float64)
    if min(y.shape) < _AROUND:
        return np.zeros(0, np.intp), np.zeros(y.shape, bool)
    peak = float(np.quantile(np.abs(y), _PEAK))
    away = y - median_filter(y, (1, _AROUND), mode="nearest")
    bins = _odd_bins(y, away, peak)
    zingers = _zingers(y, away, peak)
    zingers[:, bins] = False
    if zingers.mean() > MOST:
        zingers[:] = False
    return bins, zingers


def rogue_rays_found(y: Sinogram) -> list[Finding]:
    """What is said of a slice with odd bins, and with zingers."""
    bins, zingers = rogue_rays_of(y)
    found = []
    if bins.size:
        found.append(Finding(
            "dead bins",
            f"detector bin(s) {named(bins)} read otherwise than their neighbours in nearly all views (dead, hot, stuck "
            "or badly calibrated): they make rings; --outliers bridge replaces them",
        ))  # fmt: skip
    if count := int(zingers.sum()):
        views, n_det = zingers.shape
        what = "zingers" if views * FEW_VIEWS >= n_det else FLAT_PARTS
        found.append(Finding(
            "zingers",
            f"{count} single ray(s) of a slice leave their neighbours on the detector and in the views around "
            f"({what}): they draw streaks; --outliers bridge replaces them",
        ))  # fmt: skip
    return found


def rogue_mask(y: Sinogram) -> tuple[NDArray[np.bool_], Counter[str]]:
    """All rays to be replaced, (views, n_det), and how many of which kind."""
    bins, mask = rogue_rays_of(y)
    tally = Counter({"zinger(s) bridged": int(mask.sum()), "odd bin(s) bridged": bins.size})
    mask[:, bins] = True
    return mask, tally


def _odd_bins(y: Sinogram, away: Sinogram, peak: float) -> NDArray[np.intp]:
    if len(y) < _FEWEST_VIEWS:
        return np.zeros(0, np.intp)
    far = np.median(np.abs(away), axis=0)
    stuck = np.flatnonzero(far > max(ODD * float(np.median(far)), SHARE * peak))
    found: NDArray[np.intp] = np.union1d(odd_bins(y), stuck)
    return found


def _zingers(y: Sinogram, away: Sinogram, peak: float) -> NDArray[np.bool_]:
    before = y - median_filter(y, (_AROUND, 1), mode="nearest")
    limit = np.full(y.shape, SHARE * peak)
    found = np.zeros(y.shape, bool)
    if not ((np.abs(away) > limit) & (np.abs(before) > limit)).any():
        return found  # the usual case, without the slower medians
    second = np.pad(np.abs(np.diff(y, 2, axis=1)), ((0, 0), (1, 1)), mode="edge")
    # A second difference of white noise has sqrt(6) times its deviation.
    noise = MAD_TO_STD / math.sqrt(6) * median_filter(second, _NOISE_AROUND, mode="nearest")
    limit = np.maximum(ZINGER * np.maximum(noise, noise_of(y)), limit)
    for sign in (1.0, -1.0):
        high = (sign * away > limit) & (sign * before > limit)
        found |= high & ~_goes_on(sign * away)
    return found


def _goes_on(away: Sinogram) -> NDArray[np.bool_]:
    """Whether the views before and after show rays a third as high at least, as near as an object can have moved."""
    views, bins = away.shape
    reach = 2 + math.ceil(math.pi / 2 * bins / views)  # at the rim, over half a turn
    near = maximum_filter1d(away, 2 * reach + 1, axis=1, mode="nearest")
    both = minimum_filter1d(np.pad(near, ((1, 1), (0, 0)), mode="edge"), 3, axis=0)[1:-1]
    like: NDArray[np.bool_] = both > _LIKE * away
    return like
