"""Where two ends of half a turn meet: the last views against the mirrored first ones, whatever their angles say.

Called by `centre`; numbers in, numbers out, touches no file. Views that are l steps apart differ by what l steps of the
same side differ by; so the lag at which mirrored views would not differ is known from the data alone, and the axis of
rotation is where they meet at that lag.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from restore.datasets.ct.rotation_axis.mirrored_views import phase_shift

Sinogram = NDArray[np.floating[Any]]

LAGS = 8
"""Steps between views that are compared."""

_FEWEST_VIEWS = 90  # of half a turn: steps of two degrees, over which views stay alike
_SMOOTH = 1.5  # bins, against noise
_TOLD = 10.0  # times the views LAGS steps apart differ more than noise, or no lag is told
_PLACES = np.arange(-2.0, 3.01, 0.05)  # steps tried


class Seam(NamedTuple):
    """steps: from the last view to the mirrored first one, 0 where they are half a turn apart, as the views tell;
    offset_bins: of the detector from the axis of rotation."""

    steps: float
    offset_bins: float


def seam_of(y: Sinogram) -> Seam | None:
    """The seam of views in the order of their angles, evenly spaced over half a turn, (views, n_det); None if untold.

    The views must see the whole object, with air at both ends of the detector.
    """
    views = len(y)
    if views < _FEWEST_VIEWS:
        return None
    y = gaussian_filter1d(np.asarray(y, np.float64), _SMOOTH, axis=1)
    ends = [
        (k, k + lag) for lag in range(1, LAGS + 1) for k in (0, 2, views - 1 - lag, views - 3 - lag)
    ]
    same = np.array([_unlike(y[a], y[b])[0] for a, b in ends]).reshape(LAGS, 4).mean(1)
    met = [
        [_unlike(y[views - 1 - d], y[lag - d, ::-1]) for d in range(lag + 1)] for lag in range(LAGS)
    ]
    opposite = np.array([np.mean([m for m, _ in row]) for row in met])
    shifts = np.array([np.mean([s for _, s in row]) for row in met])
    lags = np.arange(1, LAGS + 1)
    noise, *curve = np.linalg.lstsq(
        np.stack([lags**0, lags**2, lags**4], 1) * 1.0, same, rcond=None
    )[0]
    if same[-1] - max(noise, 0.0) < _TOLD * max(noise, 0.0) or curve[0] <= 0:
        return None
    tried = [_rest(opposite, curve, place) for place in _PLACES]
    steps = float(_PLACES[int(np.argmin(tried))])
    line = np.polyfit(np.arange(LAGS), shifts, 2)
    return Seam(steps, -float(np.polyval(line, -steps)) / 2)


def _rest(opposite: Sinogram, curve: list[float], place: float) -> float:
    """What is left of mirrored views' differences if the seam is `place` steps, stripes and noise being a constant."""
    x = np.arange(LAGS) + place
    rest = opposite - curve[0] * x**2 - curve[1] * x**4
    return float(((rest - rest.mean()) ** 2).sum())


def _unlike(first: Sinogram, second: Sinogram) -> tuple[float, float]:
    """Mean square difference of two views that are shifted onto each other, and the shift in bins."""
    size = 2 * len(first)
    k = np.fft.rfftfreq(size)
    shift = phase_shift(first[None], second[None, ::-1])
    moved = np.fft.irfft(np.fft.rfft(second, size) * np.exp(-2j * math.pi * k * shift), size)
    return float(np.mean((first - moved[: len(first)]) ** 2)), shift
