"""What a sinogram of line integrals cannot look like: intensities, turned signs, dead bins, odd views, other lengths.

May be called by readers and pipelines before any reconstruction; numbers in, findings out, touches no file. Beside the
consistency of the views with their geometry (`consistency`), which all of these may satisfy.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median
from restore.operators.ct.geometry import ParallelBeam

Sinogram = NDArray[np.float64]

_EDGE = 4  # bins that make up an end of the detector
_FLAT = 0.2  # spread of air, of its level: counts of 25 photons
_UNLIT = 1e-3  # of the peak: bins that were filled up
_DIP = 0.03  # by which the object must darken the detector, of the level of air
_NO_LINE_INTEGRAL = 20.0  # exp(-20) lets two photons of a thousand million pass
_NORMALISED = 0.02  # how near 1 the air of intensities lies that were divided by the flat field
_OFF_AIR = 0.05  # of the peak: below it stray light, scatter and the bias of few counts lie
_FLAT_AIR = 0.02  # of its level: ends of air, in which an object's shadow falls off by more
_NEGATIVE = 3.0  # times deeper than high: noise around air is as high as it is deep
_DEAD = 0.05  # of the peak, by which a bin must leave its neighbours in the mean
_DEAD_VIEWS = (
    0.9  # share of views in which it does; by chance a bin is the lowest of five in a fifth of them
)
_AT_TOP = 0.01  # share of rays with one and the same largest value
_ODD_SUM = 0.3  # of the median sum: beam hardening and scatter stay below a tenth
_ODD_VIEWS = 0.1  # share of views; more are no exceptions
_HEAVY, _LIGHT = 5.0, 0.1  # mean attenuation of an object, in that of water
_ABOVE_AIR = 6.0  # deviations of the mean, which no bin of a thousand reaches by chance
_TOLD = 20.0  # times the noise that the mean of three rays exceeds, or the object has no level to speak of
_NOTHING = 0.02  # of the peak: below it a ray passes the object by
_SEEN = 0.7  # of half the image's smaller side: the corners of a square are often left out
_MOST_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fact found in the data. cause: a word for programs; sentence: for people, with what to do."""

    cause: str
    sentence: str


def noise_of(y: NDArray[np.floating]) -> float:
    """Standard deviation of white noise in (views, n_det), by second differences along the detector.

    NaN where a ray does not count. An object is smooth: the median leaves its edges out.
    """
    second = np.diff(y, 2, axis=1)
    second = second[np.isfinite(second)]
    # A second difference of white noise has sqrt(6) times its deviation.
    return float(std_by_median(second)) / math.sqrt(6) if second.size else 0.0


def shows_an_object(y: Sinogram) -> bool:
    """Whether some bin, in the mean over the views, lies above what the noise of air gives."""
    return float(y.mean(0).max()) > _ABOVE_AIR * noise_of(y) / math.sqrt(len(y))


def not_line_integrals(y: Sinogram) -> Finding | None:
    """Intensities (air is brightest) or logarithms whose sign was not turned; y: (views, n_det)."""
    return _negative(y) or _intensities(y)


def odd_air(y: Sinogram) -> Finding | None:
    """Air at both ends of the detector that is not 0: flat along them, as the shadow of an object is not."""
    if y.shape[1] < 4 * _EDGE:
        return None
    ends = np.stack([y[:, :_EDGE], y[:, : -_EDGE - 1 : -1]])  # (sides, views, bins inwards)
    air, peak = float(np.median(ends)), float(np.abs(y).max())
    chance = noise_of(y) / math.sqrt(len(y))
    if abs(air) <= max(_OFF_AIR * peak, _ABOVE_AIR * chance):
        return None
    profile = ends.mean(1)
    flat = max(_ABOVE_AIR * chance, _FLAT_AIR * abs(air))
    if np.ptp(profile) > flat or float(std_by_median(ends - air)) > 2 * noise_of(y) + flat:
        return None
    return Finding(
        "air",
        f"the rays at both ends of the detector read {air:.3g} all alike, where air reads 0: I0 was another one, by a "
        f"factor of {math.exp(min(abs(air), 50.0)):.3g}; subtract {air:.3g} from all line integrals",
    )


def odd_views(y: Sinogram) -> Finding | None:
    """Single views whose sum is not that of the others; only where all views see the whole object."""
    sums = y.sum(1)
    middle = float(np.median(sums))
    away = np.abs(sums - middle)
    odd = np.flatnonzero(away > max(_ODD_SUM * middle, 6 * float(std_by_median(sums - middle))))
    if middle <= 0 or not 0 < len(odd) <= max(1, _ODD_VIEWS * len(sums)):
        return None
    return Finding(
        "odd views",
        f"view(s) {named(odd)} of {len(sums)} differ in their sums from the others by up to "
        f"{100 * float(away[odd].max()) / middle:.0f} %: flat fields, dark fields or lost views among them? take them "
        "out together with their angles",
    )


def odd_bins(y: NDArray[np.floating]) -> NDArray[np.intp]:
    """Bins that lie beside their neighbours in nearly all views, (views, n_det); none of few views or bins."""
    if y.shape[0] < 10 or y.shape[1] < 4 * _EDGE:
        return np.zeros(0, np.intp)
    around = np.stack([y[:, :-4], y[:, 1:-3], y[:, 3:-1], y[:, 4:]])
    inner = y[:, 2:-2]
    below, above = around.min(0) - inner, inner - around.max(0)
    peak = float(np.max(y))
    limit = max(_DEAD * peak, 0.0)
    odd = np.zeros(inner.shape[1], bool)
    for outside in (below, above):
        odd |= ((outside > 0).mean(0) >= _DEAD_VIEWS) & (outside.mean(0) > limit)
    return np.flatnonzero(odd) + 2


def saturated(y: Sinogram) -> Finding | None:
    """Many rays with the very same largest value: cut off, or without a photon."""
    values, counts = np.unique(y, return_counts=True)
    at_top = int(counts[-1])
    if at_top <= _AT_TOP * y.size or (len(counts) > 1 and at_top < 10 * counts[-2]):
        return None
    return Finding(
        "saturated",
        f"{100 * at_top / y.size:.0f} % of the rays have the same largest value, {values[-1]:.4g}: they were cut off "
        "there, or no photon came through; what lies along them is not measured",
    )


def odd_level(y: Sinogram, geometry: ParallelBeam, mu_water: float) -> Finding | None:
    """An object that attenuates far more or less than water; only where all views see the whole object.

    The sum of a view times the bins' distance is the attenuation of the whole object; its area is that of a disc as
    wide as its shadows.
    """
    whole = float(np.median(y.sum(1))) * geometry.det_spacing_mm
    # The mean over three bins: noise alone does not reach the limit.
    smooth = (y[:, :-2] + y[:, 1:-1] + y[:, 2:]) / 3
    if smooth.max() < _TOLD * noise_of(y):
        return None
    width = float(np.median((smooth > _NOTHING * smooth.max()).sum(1))) * geometry.det_spacing_mm
    if whole <= 0 or width <= 0:
        return None
    ratio = whole / (math.pi / 4 * width**2) / mu_water
    if _LIGHT <= ratio <= _HEAVY:
        return None
    return Finding(
        "level",
        f"the object attenuates {ratio:.3g} times as much as water on average (about {1000 * (ratio - 1):.0f} HU): are "
        "pixel_mm and det_spacing_mm in mm, mu_water in 1/mm, and the line integrals natural logarithms?",
    )


def narrow_detector(geometry: ParallelBeam) -> Finding | None:
    """A detector that sees much less than the image."""
    (rows, columns), (down, across) = geometry.shape, geometry.pixel_mm
    half = min(rows * down, columns * across) / 2
    seen = geometry.n_det * geometry.det_spacing_mm / 2 + abs(geometry.det_offset_mm)
    if seen >= _SEEN * half:
        return None
    return Finding(
        "narrow detector",
        f"the detector sees {seen:.4g} mm to a side of the axis, the image reaches {half:.4g} mm: what lies further "
        "out is not measured, or a pixel or bin size is wrong",
    )


def _negative(y: Sinogram) -> Finding | None:
    profile = y.mean(0)
    deep, high = -float(profile.min()), float(profile.max())
    if deep <= _NEGATIVE * max(high, 0.0) or -y.sum() <= 0.5 * np.abs(y).sum():
        return None
    return Finding(
        "sign",
        f"its values are negative, down to {float(y.min()):.3g}: line integrals are -log(I / I0); store them with the "
        "other sign",
    )


def _intensities(y: Sinogram) -> Finding | None:
    """Air at both ends of the detector, flat and brighter than everything between; bins of nothing beyond left out."""
    lit = np.flatnonzero(np.abs(y).max(0) > _UNLIT * np.abs(y).max())
    y = y[:, lit[0] : lit[-1] + 1] if lit.size else y
    if y.shape[1] < 4 * _EDGE:
        return None
    ends = np.concatenate([y[:, :_EDGE], y[:, -_EDGE:]], axis=1)
    air = float(np.median(ends))
    spread = float(std_by_median(ends - air))
    profile = y.mean(0)
    dip = air - float(profile.min())
    flat = air > 0 and spread < _FLAT * air
    darker = dip > max(_DIP * air, 5 * spread / math.sqrt(len(y)))
    if not (flat and darker and float(np.quantile(y, 0.99)) <= air + 5 * spread + 1e-3 * air):
        return None
    sure = air > _NO_LINE_INTEGRAL or abs(air - 1) < _NORMALISED
    return Finding(
        "intensities" if sure else "perhaps intensities",
        f"the ends of the detector are the brightest ({air:.4g}) and what lies between is darker: these seem to be "
        "intensities (counts), not line integrals; store -log(I / I0), with I0 what a ray through air gives",
    )


def named(numbers: NDArray[np.intp]) -> str:
    """The first few of them, in words."""
    told = ", ".join(map(str, numbers[:_MOST_NAMED]))
    return told + ", ..." * (len(numbers) > _MOST_NAMED)
