"""Means with bootstrap intervals, and paired differences.

Used by the table, the comparison and the report. Numpy only. The resampling has its own seed, so that the same rows
give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES, LEVEL = 4000, 0.95


def mean_interval(
    values: Sequence[float], weights: Sequence[float] | None = None, seed: int = 0
) -> tuple[float, float, float]:
    """Mean, and its 95 % percentile bootstrap interval over the values (volumes).

    weights: numbers of slices, where the mean is one over slices; the volumes are what is resampled then too, since
    slices of one volume are alike. Infinite values (a perfect image) give an infinite mean. The interval of fewer
    than two values is (nan, nan). Raises ValueError for no value.
    """
    x = np.asarray(values, np.float64)
    if x.size == 0:
        raise ValueError("no value to average")
    w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64)
    mean = float(np.average(x, weights=w))
    if x.size < 2 or not np.isfinite(x).all():
        return mean, float("nan"), float("nan")
    means = _resampled_means(x, w, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return mean, float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Differences a - b on the same volumes: their mean with its interval, and how often a is larger."""

    mean: float
    low: float
    high: float
    n: int
    larger: int


def paired(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Paired:
    """Compare two methods volume by volume. Raises ValueError for lists of different lengths or without a pair."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, low, high = mean_interval(difference.tolist(), seed=seed)
    return Paired(mean, low, high, difference.size, int(np.count_nonzero(difference > 0)))


def _resampled_means(
    x: NDArray[np.float64], w: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, x.size, size=(RESAMPLES, x.size))
    return np.asarray((x[picks] * w[picks]).sum(1) / w[picks].sum(1))
