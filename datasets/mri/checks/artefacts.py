"""Faults of the receiver that a slice of k-space shows by itself: a spike, a constant offset, an overflow.

May be called by the set-up of k-space; touches nothing but its arguments. Nothing is mended: what is found is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore.datasets.median_deviation import std_by_median

SPIKE = 20.0
"""Times the mean of the measured samples around it; noise reaches 4, the rays of sharp edges 10."""

AROUND, OWN = 7, 3
"""Sides of the neighbourhood that a sample is held against, and of its middle that is left out."""

INNER = 0.25
"""Of half of each side: nearer to the middle every sample stands out."""

OFFSET, SURE = 0.5, 8.0
"""Of the deviation of the outer samples, from which their mean is an offset, and in standard errors."""

OUTER, FEWEST = 0.75, 64
"""Of half of each side, from which samples are outer ones; their number below which a mean tells nothing."""


CUT_OFF, RARER = 6, 10
"""Numbers of one coil with the very same largest size, and how many times as many as of the next size there are."""


def faults_of(kspace: NDArray[Any], mask: NDArray[np.bool_]) -> list[str]:
    """What is wrong with k-space (coils, H, W) sampled where `mask` says, in words that name no slice."""
    height, width = kspace.shape[-2:]
    y = np.abs(np.arange(height) - height // 2) / (height / 2)
    x = np.abs(np.arange(width) - width // 2) / (width / 2)
    radius = np.maximum(y[:, None], x)
    measured = np.broadcast_to(mask, (height, width)) & (kspace != 0).any(axis=0)
    outer = measured & (radius > OUTER)
    return [*_spike(kspace, measured, radius), *_offset(kspace, outer), *_overflow(kspace)]


def _overflow(kspace: NDArray[Any]) -> list[str]:
    """Real and imaginary parts that were cut off at one value, as by a converter that was set too sensitive."""
    for coil, samples in enumerate(kspace):
        parts = np.abs(np.concatenate([samples.real.ravel(), samples.imag.ravel()]))
        top = parts.max()
        count = int((parts == top).sum())
        if top == 0 or count < CUT_OFF:
            continue
        following = int((parts == parts[parts < top].max(initial=0)).sum())
        if count >= RARER * following:
            return [
                f"{count} numbers of coil {coil} have one and the same largest size, {top:.3g}: the receiver was "
                "overdriven, and the middle of k-space is cut off there; what is bright comes out wrong"
            ]
    return []


def _spike(
    kspace: NDArray[Any], measured: NDArray[np.bool_], radius: NDArray[np.float64]
) -> list[str]:
    size = np.abs(kspace).max(axis=0).astype(np.float64) * measured
    total, count = (_box(v, AROUND) - _box(v, OWN) for v in (size, measured.astype(float)))
    usual = np.maximum(total, 0) / np.maximum(count, 1)
    floor = size[measured & (radius > INNER)]
    usual = np.maximum(usual, np.median(floor) if floor.size else 0)
    times = np.where((radius > INNER) & (count > OWN), size / np.maximum(usual, 1e-300), 0)
    at = np.unravel_index(int(times.argmax()), times.shape)
    if times[at] <= SPIKE:
        return []
    return [
        f"the sample at row {at[0]}, column {at[1]} is {times[at]:.3g} times as large as those around it: "
        "a spike, which "
        "draws stripes over the image; set it to NaN and use --repair zero to do without it"
    ]


def _box(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Sums over squares around each place."""
    return np.asarray(ndimage.uniform_filter(values, side, mode="constant") * side**2)


def _offset(kspace: NDArray[Any], outer: NDArray[np.bool_]) -> list[str]:
    samples = kspace[:, outer]
    if samples.shape[1] < FEWEST:
        return []
    middle = np.median(samples.real, axis=1) + 1j * np.median(samples.imag, axis=1)
    rest = samples - middle[:, None]
    spread = np.asarray(std_by_median(np.concatenate([rest.real, rest.imag], axis=1), axis=1))
    least = np.maximum(OFFSET, SURE / np.sqrt(samples.shape[1])) * spread
    found = np.flatnonzero((np.abs(middle) > least) & (spread > 0))
    if not found.size:
        return []
    worst = found[np.argmax(np.abs(middle[found]))]
    return [
        f"the samples have a constant offset ({np.abs(middle[worst]):.3g} in coil {worst}): it makes a bright point in "
        "the middle of the image and is taken for noise; subtract each coil's mean over its outermost samples"
    ]
