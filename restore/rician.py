"""Rician noise, that of magnitudes of complex Gaussian noise: moments, a stabiliser of its variance, the exact inverse.

Lowest layer; pure functions of arrays, the table computed once. m = |x + s (n1 + i n2)| with x >= 0 the true magnitude
and s the deviation of either channel.

The stabiliser f makes the deviation of f(m) nearly 1 whatever x: it is the integral of 1 / sd(m | mean), put right
twice by the same rule applied to f(m), whose moments are integrated numerically. Its inverse is the exact unbiased one,
f-values to x through E[f(m) | x], so that a denoiser that returns means returns no bias. After Foi, "Noise estimation
and removal in MR imaging: the variance-stabilization approach", ISBI 2011, with another stabiliser.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ive

Array = NDArray[np.float64]

LARGEST, FINE, COARSE = 30.0, 6000, 400
"""Signal in deviations up to which the table goes, above which noise is Gaussian to 1 part in 1000; steps of the
magnitude, and of the signal."""

PASSES = 2
"""By which the deviation of f(m) comes within 6 % of 1, whatever the signal."""

BACKGROUND_STD = (2 - np.pi / 2) ** 0.5
"""Deviation of the magnitude where there is no signal, in deviations of a channel: 0.655 (Rayleigh)."""

BACKGROUND_MEAN = (np.pi / 2) ** 0.5
"""Mean of the magnitude there: 1.253."""


def mean_magnitude(x: ArrayLike) -> Array:
    """E[m | x] for s = 1: sqrt(pi/2) L_1/2(-x^2/2), Rice 1944. x: any shape, zero or more."""
    u = np.square(np.asarray(x, np.float64)) / 4
    return BACKGROUND_MEAN * ((1 + 2 * u) * ive(0, u) + 2 * u * ive(1, u))


def magnitude_std(x: ArrayLike) -> Array:
    """Deviation of m given x for s = 1, from 0.655 without signal to 1."""
    x = np.asarray(x, np.float64)
    return np.sqrt(np.maximum(2 + x**2 - mean_magnitude(x) ** 2, BACKGROUND_STD**2))


def corrected_std(found: float, mean: float) -> float:
    """The deviation of a channel, given that of magnitudes and their mean in one tissue.

    Solves s sd(x/s) = found, s mean(x/s) = mean by the iteration of Koay and Basser, "Analytically exact correction
    scheme for signal extraction from noisy magnitude MR signals", J. Magn. Reson. 2006. found, mean: in one unit.
    """
    if found <= 0 or mean <= BACKGROUND_MEAN / BACKGROUND_STD * found:
        return found / float(BACKGROUND_STD)
    signal = np.linspace(0, LARGEST, COARSE)
    ratio = mean_magnitude(signal) / magnitude_std(signal)
    x = float(np.interp(mean / found, ratio, signal))
    return found / float(magnitude_std(x))


@dataclasses.dataclass(frozen=True, eq=False)
class Stabiliser:
    """f in a table. magnitudes, values: f(m) with f(m) = m far above the noise. signals, means: E[f(m) | x]."""

    magnitudes: Array
    values: Array
    signals: Array
    means: Array

    def forward(self, m: ArrayLike, s: ArrayLike) -> NDArray[np.float32]:
        """s f(m/s): intensities whose noise has the deviation s everywhere, equal to m where that is large.

        s: broadcasts to m, in its units.
        """
        s = np.asarray(s, np.float32)
        scaled = np.asarray(m, np.float32) / s
        found = np.interp(scaled, self.magnitudes, self.values).astype(np.float32)
        return np.where(scaled > self.magnitudes[-1], scaled, found) * s

    def inverse(self, value: ArrayLike, s: ArrayLike) -> NDArray[np.float32]:
        """The signal x whose stabilised magnitudes have these means: 0 for values of no signal and below."""
        s = np.asarray(s, np.float32)
        scaled = np.asarray(value, np.float32) / s
        found = np.interp(scaled, self.means, self.signals).astype(np.float32)
        return (
            np.where(
                scaled > self.means[-1], scaled + (self.signals[-1] - self.means[-1]), found
            ).astype(np.float32)
            * s
        )


@functools.cache
def stabiliser() -> Stabiliser:
    """The table for s = 1, made once."""
    m = np.linspace(0, LARGEST + 8, FINE)
    x = np.linspace(0, LARGEST, COARSE)
    density = m * np.exp(-((m - x[:, None]) ** 2) / 2) * ive(0, x[:, None] * m)
    density /= density.sum(1, keepdims=True)
    f = _integral(m, np.interp(m, mean_magnitude(x), 1 / magnitude_std(x)))
    for _ in range(PASSES):
        means, stds = _moments(density, f)
        f = _integral(f, np.interp(f, means, 1 / stds))
    f += m[-1] - f[-1]
    return Stabiliser(m, f, x, _moments(density, f)[0])


def _moments(density: Array, f: Array) -> tuple[Array, Array]:
    """Mean and deviation of f(m) for every signal."""
    means = density @ f
    return means, np.sqrt(density @ f**2 - means**2)


def _integral(at: Array, slopes: Array) -> Array:
    """Of slopes over the places `at`, from zero, by trapezoids."""
    steps = np.diff(at) * (slopes[1:] + slopes[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)])
