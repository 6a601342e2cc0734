"""Where the axis of rotation of a fan or a cone is seen, by rays that were measured from both ends.

Called where such scans are made ready with `--center auto`; numbers in, numbers out, touches no file.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from restore.datasets.ct.checks.plausibility import shows_an_object
from restore.datasets.ct.rotation_axis.centre_choice import NOT_TOLD, Told
from restore.operators.ct.beams import FanBeam

Sinogram = NDArray[np.float64]

_FEWEST = 0.05  # of the rays that must be there from both ends
_FEW_RAYS = (
    90,
    256,
)  # views and bins whose opposites are looked up in the search for the whole bin
_FARTHEST = 0.4  # of the detector's width that the axis may lie off its middle
_CHANCE = 0.05  # bins of deviation at least, what interpolation leaves of discs in closed form
_FINE = 0.25  # bins between the places tried around the best whole one
_SMOOTH = (
    0.25,
    0.5,
    0.25,
)  # along the detector: interpolation between bins smooths by no more than that
_LIKE = 0.5  # of the mean square of the rays: what opposite ones may differ by


def told_by_opposite_rays(sinogram: NDArray[np.floating], beam: FanBeam) -> Told:
    """The detector offset at which rays (t, gamma) and (t + pi - 2 gamma, -gamma) agree best, with its deviation.

    sinogram: (views, n_det) line integrals. The views must go (nearly) round, or reach beyond half a turn and the fan:
    nothing is told where less than a twentieth of the rays is there twice. The deviation comes from every other view.
    """
    y = np.asarray(sinogram, np.float64)
    if not shows_an_object(y) or beam.source_offset_mm or beam.slant_deg:
        return NOT_TOLD
    y = convolve1d(y, _SMOOTH, axis=1, mode="nearest")
    reach = int(_FARTHEST * beam.n_det)
    few = _Pairs(y, beam, tuple(-(-n // most) for n, most in zip(y.shape, _FEW_RAYS, strict=True)))
    whole = [few.unlike(float(k)) for k in range(-reach, reach + 1)]
    first = float(np.argmin(whole)) - reach
    if not min(whole) < _LIKE or abs(first) == reach:
        return NOT_TOLD
    every, *halves = _Pairs(y, beam).fitted(first)
    deviation = max(abs(halves[1] - halves[0]) / 2, _CHANCE)
    pitch = beam.det_spacing_mm
    return Told(every * pitch, deviation * pitch, "opposite rays")


@dataclasses.dataclass(frozen=True, eq=False)
class _Pairs:
    """Rays and their opposites. y: (views, n_det). every: of the views and of the bins, one in so many is asked."""

    y: Sinogram
    beam: FanBeam
    every: tuple[int, ...] = (1, 1)

    def unlike(self, offset: float) -> float:
        """Mean square difference of opposite rays over their mean square, if the detector is `offset` bins off."""
        opposite = self._opposite(offset)
        both = np.isfinite(opposite)
        if both.mean() < _FEWEST:
            return math.inf
        y = self._asked
        size = float((y[both] ** 2).mean())
        return float(((y - opposite)[both] ** 2).mean()) / size if size > 0 else math.inf

    def fitted(self, place: float) -> list[float]:
        """The lowest point of a parabola around a place, of all views and of every other one.

        The rays are those that have an opposite at every place that is tried: others would come and go.
        """
        steps = _FINE * np.arange(-4, 5)
        unlike = np.stack([(self._asked - self._opposite(place + float(s))) ** 2 for s in steps])
        unlike[:, ~np.isfinite(unlike).all(0)] = 0.0
        found = []
        for views in (slice(None), slice(0, None, 2), slice(1, None, 2)):
            bend, slope, _ = np.polyfit(steps, unlike[:, views].sum((1, 2)), 2)
            found.append(place - float(slope / (2 * bend)) if bend > 0 else math.inf)
        return found

    @property
    def _asked(self) -> Sinogram:
        return self.y[:: self.every[0], :: self.every[1]]

    def _opposite(self, offset: float) -> Sinogram:
        """The ray that is opposite to each, NaN where none was measured."""
        beam = self.beam
        places = np.arange(beam.n_det)[:: self.every[1]] - (beam.n_det - 1) / 2 + offset
        along = places * beam.det_spacing_mm / beam.source_detector_mm
        gamma = along if beam.detector_shape == "equiangular" else np.arctan(along)
        mirrored = (beam.n_det - 1) / 2 - offset - places  # the bin of -gamma
        again = np.asarray(beam.angles)[:: self.every[0], None] + math.pi - 2 * gamma
        return self._seen(again, np.broadcast_to(mirrored, again.shape))

    def _seen(self, angles: Sinogram, bins: Sinogram) -> Sinogram:
        """Line integrals between the measured ones, NaN beyond them and in gaps of the views."""
        turn = np.mod(np.asarray(self.beam.angles), 2 * math.pi)
        order = np.argsort(turn)
        around = np.append(turn[order], turn[order[0]] + 2 * math.pi)
        gaps = np.diff(around)
        wanted = around[0] + np.mod(angles - around[0], 2 * math.pi)
        view = np.clip(np.searchsorted(around, wanted, "right") - 1, 0, len(order) - 1)
        part = (wanted - around[view]) / np.maximum(gaps[view], 1e-12)
        column = np.clip(np.floor(bins).astype(int), 0, self.y.shape[1] - 2)
        rest = bins - column
        rows = self.y[order]
        later = np.mod(view + 1, len(order))
        value = (1 - part) * ((1 - rest) * rows[view, column] + rest * rows[view, column + 1])
        value += part * ((1 - rest) * rows[later, column] + rest * rows[later, column + 1])
        beyond = (bins < 1) | (bins > self.y.shape[1] - 2) | (gaps[view] > 2.5 * np.median(gaps))
        return np.where(beyond, np.nan, value)
