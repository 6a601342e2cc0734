"""Whether samples are spread as they should be: coverage of their interval, error against predicted deviation.

Called by the runner for samplers with more than one sample. Numpy only; touches nothing.

If the truth is one more draw from the distribution that K samples come from, it lies between the smallest and the
largest of them with probability (K - 1)/(K + 1), whatever the distribution. And the error of their mean then has the
variance (1 + 1/K) times that of the distribution, which the sample variance estimates without bias. Where all are
Gaussian, the truth lies within Student's interval around the mean at any level (`restore.conformal.nominal_factor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.conformal import LEVELS, nominal_factor

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """coverage in [0, 1] beside its nominal value; spread_ratio: rms error over rms predicted deviation, 1 where the
    samples are spread rightly, above 1 where they are too close together. bins: "predicted" and "error", the rms of
    both in groups of equally many pixels, ordered by the predicted deviation; "level" and "covered": nominal levels and
    the part of the pixels whose truth lies in the interval of that level around the mean."""

    coverage: float
    nominal: float
    spread_ratio: float
    bins: dict[str, list[float]]


def calibration(
    samples: NDArray[Any], truth: NDArray[Any], where: NDArray[np.bool_]
) -> Calibration:
    """samples: real (K, ...), K >= 2; truth: (...); where: which pixels count, at least one."""
    chosen = np.asarray(samples, np.float64)[:, where]
    reference = np.asarray(truth, np.float64)[where]
    k = chosen.shape[0]
    inside = (chosen.min(0) <= reference) & (reference <= chosen.max(0))
    error, deviation = chosen.mean(0) - reference, chosen.std(0, ddof=1)
    scale = _rms(deviation) * (1 + 1 / k) ** 0.5
    return Calibration(
        coverage=float(inside.mean()), nominal=(k - 1) / (k + 1),
        spread_ratio=_rms(error) / scale if scale > 0 else float("inf"),
        bins=spread_bins(error, deviation, k),
    )  # fmt: skip


def spread_bins(
    error: NDArray[np.float64], deviation: NDArray[np.float64], k: int
) -> dict[str, list[float]]:
    """`Calibration.bins` of errors of the mean of K samples and their deviations, both (n,), at least one."""
    predicted = deviation * (1 + 1 / k) ** 0.5
    groups = np.array_split(np.argsort(predicted, kind="stable"), min(BINS, predicted.size))
    within = [np.abs(error) <= nominal_factor(level, k) * deviation for level in LEVELS]
    return {
        "predicted": [_rms(predicted[g]) for g in groups],
        "error": [_rms(error[g]) for g in groups],
        "level": list(LEVELS),
        "covered": [float(w.mean()) for w in within],
    }


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
