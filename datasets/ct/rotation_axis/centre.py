"""Where the axis of rotation of a parallel scan is seen on the detector, as its data tell.

Called where a scan is made ready with `--center auto`; numbers in, numbers out, touches no file. By what
the angles allow: opposite views by phase correlation, over half a turn its seam or the sharpness of the picture, else
the centres of mass.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.checks.consistency import moments, whole_views
from restore.datasets.ct.checks.plausibility import noise_of, shows_an_object
from restore.datasets.ct.rotation_axis.centre_choice import NOT_TOLD, Told
from restore.datasets.ct.rotation_axis.mirrored_views import (
    mirror_shift,
    mirrored_offset,
    opposite_views,
    phase_shift,
)
from restore.datasets.ct.rotation_axis.seam import seam_of
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.redundancy import is_full_turn

Sinogram = NDArray[np.floating[Any]]

MOST_BINS = 1024
"""Wider sinograms are looked at with bins taken together, in pictures."""

_FEWEST_VIEWS = 4  # three parameters of a sinusoid, and one view to contradict them
_EVEN = 2.7  # largest of the median gap between views modulo half a turn
_SHOWN = 0.05  # of the peak, in the mean of three bins: above it a ray meets the object
_NEARLY_ALL = 0.98  # of the views: what fewer show are zingers
_MARGIN = 4  # bins round the shadow of the object
_REACH = 4  # whole bins, then steps, that are tried to both sides
_STEP = 0.25  # bins
_AIR = 1.25  # times the object's radius
_FARTHEST = 40.0  # bins from the centre of mass
_MIRRORED = 0.5  # bins of deviation, of views that are cut
_SHARP = 0.1  # bins of deviation at least: discs in closed form are found up to 0.06 off
_EVENLY = 1.01  # largest of the smallest step between views
_STEP_LEFT, _NO_STEP = (
    0.8,
    0.3,
)  # steps to half a turn by the angles, and by the views, which tell discs 0.7 for 1


def told_centre(sinogram: Sinogram, geometry: ParallelBeam) -> Told:
    """The detector offset at which the rotation axis lies where a slice says, (views, n_det) line integrals.

    `dataclasses.replace(geometry, det_offset_mm=...)` with it is the corrected geometry. Opposite views are taken where
    there are any (`phase_shift`; cut ones by `mirror_shift`, to half a bin); over half a turn without them where its
    two ends meet (`seam_of`), of few views or much noise that of the picture with the least negative part (Donath et
    al., "Automated determination of the center of rotation in tomography data", J. Opt. Soc. Am. A 23, 2006). Over
    less, streaks pull the sharpest picture a bin and more away, and over a full turn it is not needed: there the
    sinusoid of the centres of mass tells.
    """
    y = np.asarray(sinogram, np.float64)
    if not shows_an_object(y):
        return NOT_TOLD
    pairs = opposite_views(geometry)
    if not whole_views(y):
        if not pairs:
            return NOT_TOLD
        offset = mirrored_offset(y, geometry, pairs, mirror_shift)
        return Told(offset, _MIRRORED * geometry.det_spacing_mm, "cut opposite views")
    shadow = _of_the_object(y)
    if pairs:
        offset = mirrored_offset(shadow, geometry, pairs, phase_shift)
        deviation = _matching_deviation(shadow[[i for i, _ in pairs]]) * geometry.det_spacing_mm
        return Told(offset, deviation, f"{len(pairs)} pair(s) of opposite views")
    if geometry.views < _FEWEST_VIEWS:
        return NOT_TOLD
    seam = _seam(shadow, geometry)
    if seam is not None:
        return seam
    mass = moments(shadow, geometry)
    first = geometry.det_offset_mm - mass.offset_mm
    if _sees_all_sides(geometry) and not is_full_turn(geometry.angles):
        return _sharpest(shadow, dataclasses.replace(geometry, det_offset_mm=first))
    return Told(first, mass.deviation_mm, "the centres of mass")


def _seam(shadow: Sinogram, geometry: ParallelBeam) -> Told | None:
    """By `seam_of`, where the views are evenly spaced over half a turn and tell it."""
    angles = np.asarray(geometry.angles)
    order = np.argsort(angles)
    steps = np.diff(angles[order])
    left = math.pi - float(np.ptp(angles))
    if not (len(steps) and steps.max() < _EVENLY * steps.min() and abs(left) < 2 * steps.max()):
        return None
    found = seam_of(shadow[order])
    if found is None:
        return None
    way = "the seam of the half turn"
    if left > _STEP_LEFT * steps[0] and abs(found.steps) < _NO_STEP:
        way += (
            f" (the last view mirrors the first, though the angles end {math.degrees(left):.3g} degrees short of half "
            "a turn: were they computed without their end, for k * 180 / (n - 1)?)"
        )
    return Told(found.offset_bins * geometry.det_spacing_mm, _SHARP * geometry.det_spacing_mm, way)


def _sees_all_sides(geometry: ParallelBeam) -> bool:
    """Whether no direction is left out; angles of golden steps lie up to 2.62 median gaps apart."""
    folded = np.unique(np.round(np.mod(geometry.angles, math.pi), 9))
    gaps = np.diff(folded, append=folded[0] + math.pi)
    return bool(gaps.max() < _EVEN * np.median(gaps))


def _of_the_object(y: Sinogram) -> Sinogram:
    """The views with 0 where next to none shows the object: air that is not quite 0 has a long lever."""
    smooth = (y[:, :-2] + y[:, 1:-1] + y[:, 2:]) / 3
    usual = np.quantile(smooth, _NEARLY_ALL, axis=0)
    shown = np.flatnonzero(usual > _SHOWN * usual.max()) + 1
    if not shown.size:
        return y
    part = slice(max(shown[0] - _MARGIN, 0), shown[-1] + _MARGIN + 1)
    kept = np.zeros_like(y)
    kept[:, part] = y[:, part]
    return kept


def _matching_deviation(first: Sinogram) -> float:
    """Bins: the least deviation of half the shift between views of this shape and noise (Cramer and Rao)."""
    shown = first[:, first.any(0)]
    noise = noise_of(shown)
    slope = np.diff((shown[:, :-2] + shown[:, 1:-1] + shown[:, 2:]) / 3, axis=1)
    told = float((slope**2).sum()) - slope.size * noise**2 * 2 / 9  # what the noise adds to squares
    return noise / math.sqrt(2 * told) if told > 0 else math.inf


def _sharpest(y: Sinogram, geometry: ParallelBeam) -> Told:
    """Around the offset of the geometry, that of the centres of mass; the deviation is half of where the two differ."""
    first = geometry.det_offset_mm
    y, geometry = _binned(y, geometry, -(-y.shape[1] // MOST_BINS))
    bin_mm = geometry.det_spacing_mm
    look = _Look(y, geometry)
    steps = range(-_REACH, _REACH + 1)
    found = look.lowest([float(k) for k in steps])
    last = math.inf
    while found != last and abs(found) < _FARTHEST:
        last, found = found, look.lowest([found + k for k in steps])
    found = look.lowest([found + k * _STEP for k in steps])
    lowest = look.fitted(found) if abs(found) < _FARTHEST else math.inf
    deviation = max(abs(lowest) / 2, _SHARP)
    return Told(first + lowest * bin_mm, deviation * bin_mm, "the sharpest picture")


def _binned(y: Sinogram, geometry: ParallelBeam, taken: int) -> tuple[Sinogram, ParallelBeam]:
    """Neighbouring bins averaged, `taken` at a time; bins that are left over at the end are air."""
    if taken == 1:
        return y, geometry
    n = y.shape[1] // taken
    left_over = y.shape[1] - n * taken
    wider = dataclasses.replace(
        geometry, n_det=n, det_spacing_mm=geometry.det_spacing_mm * taken,
        det_offset_mm=geometry.det_offset_mm - left_over / 2 * geometry.det_spacing_mm,
    )  # fmt: skip
    return y[:, : n * taken].reshape(len(y), n, taken).mean(2), wider


class _Look:
    """Negative parts of pictures by their offset in bins from the geometry's."""

    def __init__(self, y: Sinogram, geometry: ParallelBeam) -> None:
        seen = np.flatnonzero(y.any(0))
        axis = (y.shape[1] - 1) / 2 - geometry.det_offset_mm / geometry.det_spacing_mm
        radius = max(abs(float(seen[0]) - axis), abs(float(seen[-1]) - axis))
        # Round the object the picture of a wrong centre is negative; what the detector sees of that is taken in.
        seen_whole = min(axis, y.shape[1] - 1 - axis)
        radius = max(radius, min(_AIR * radius, seen_whole))
        side = 2 * math.ceil(radius) + 3
        grid = np.arange(side) - (side - 1) / 2
        self._inside = grid[:, None] ** 2 + grid**2 < radius**2
        self._y = y.astype(np.float32)
        self._geometry = dataclasses.replace(
            geometry, shape=(side, side), pixel_mm=(geometry.det_spacing_mm,) * 2
        )
        self._known: dict[float, float] = {}

    def lowest(self, places: list[float]) -> float:
        """The place of the least negative part."""
        return min(places, key=self._negative)

    def fitted(self, place: float) -> float:
        """The lowest point of a parabola through the values within a bin of a place; infinite where there is none."""
        places = place + _STEP * np.arange(-_REACH, _REACH + 1)
        values = [self._negative(float(p)) for p in places]
        bend, slope, _ = np.polyfit(places - place, values, 2)
        return place - float(slope / (2 * bend)) if bend > 0 else math.inf

    def _negative(self, place: float) -> float:
        import torch

        from restore.operators.ct.filtering import fbp

        if place not in self._known:
            offset = self._geometry.det_offset_mm + place * self._geometry.det_spacing_mm
            seen = dataclasses.replace(self._geometry, det_offset_mm=offset)
            picture = fbp(torch.from_numpy(self._y), seen, "shepp-logan").numpy()[self._inside]
            self._known[place] = float(-np.minimum(picture, 0).sum())
        return self._known[place]
