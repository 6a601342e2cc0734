"""The spectrum of correlated noise, such as that of CT reconstructions: from a region without structure.

Called by the tasks. Pure functions of arrays. The region is said, or the flattest patches of the volume are taken; what
they hold besides noise is a slope, which is taken out.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from restore.errors import InputError

Array = NDArray[np.float64]

PATCH = 24
"""Voxels along a side of a patch: correlations reach no further than half of it."""

LAGS = 3
"""Slices over which correlations along z are looked for."""

LEAST_PATCHES = 4
"""A mean spectrum of fewer says little: each frequency scatters by 1 / sqrt(patches)."""

FLATTEST = 0.1
"""The share of patches that are taken where no region is given, the least uneven ones."""

FLOOR = 0.01
"""Of the mean power: below it noise is taken to have this much, so that nothing is trusted without limit."""

FLAT = 0.5
"""The share of squares of four voxels without any detail from which a patch holds no noise, but an edge or two."""

BLANKED = 0.05
"""The share of voxels at the lowest value from which they were cut off or blanked."""

WHITE = 0.15
"""Correlation of neighbours up to which noise counts as white: patches tell it to 0.02 or so."""


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """correlation: (PATCH, PATCH) of the noise at in-plane lags 0, 1, ... -1, in the order of a DFT, 1 at lag 0.
    along: of the slices at lags 0 to LAGS. std: of the noise, in the volume's units. patches: how many it rests on."""

    correlation: Array
    along: Array
    std: float
    patches: int

    @property
    def neighbours(self) -> tuple[float, float, float]:
        """Correlation with the next voxel along z, y and x."""
        return float(self.along[1]), float(self.correlation[1, 0]), float(self.correlation[0, 1])

    @property
    def is_white(self) -> bool:
        """Whether no neighbour knows of another."""
        return max(map(abs, self.neighbours)) <= WHITE

    def power(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """Of the noise at the frequencies of a real DFT of volumes (D, H, W), of mean 1: (D, H, W // 2 + 1)."""
        plane = _spectrum(self.correlation, shape[1:])
        lags = np.zeros(shape[0])
        taper = 0.5 + 0.5 * np.cos(np.pi * np.arange(LAGS + 1) / (LAGS + 1))
        for k, value in enumerate(self.along * taper):
            if k < (shape[0] + 1) // 2:
                lags[k] = lags[-k] = value
        along = np.maximum(np.fft.fft(lags).real, 0)
        power = np.maximum(along[:, None, None] * plane, FLOOR)
        half = power[..., : shape[2] // 2 + 1]
        return (half / power.mean()).astype(np.float32)


def spectrum_in(
    data: NDArray[np.floating], region: NDArray[np.bool_] | None, where: str
) -> NoiseSpectrum:
    """The spectrum of the noise in patches that lie in a region, or in the flattest patches of all.

    data: (D, H, W). region: the same shape, true where there is nothing but noise. where: the file, for messages.
    Raises InputError for a region that holds too few patches, or no noise.
    """
    side = PATCH if region is not None or min(data.shape[1:]) >= 4 * PATCH else PATCH // 2
    corners = _corners(data, region, side)
    if len(corners) < LEAST_PATCHES:
        raise InputError(
            where, f"the region for the noise holds {len(corners)} patches of {side} x {side} voxels in a slice",
            f"mark {LEAST_PATCHES} or more, or leave it out",
        )  # fmt: skip
    depth = len(data)
    total, along, count = np.zeros((2 * side, 2 * side)), np.zeros(LAGS + 1), np.zeros(LAGS + 1)
    for k, i, j in corners:
        own = _flat(data[k, i : i + side, j : j + side])
        total += np.abs(np.fft.fft2(own, s=total.shape)) ** 2
        for lag in range(min(LAGS + 1, depth - k)):
            if region is None or region[k + lag, i : i + side, j : j + side].all():
                other = own if lag == 0 else _flat(data[k + lag, i : i + side, j : j + side])
                along[lag] += float((own * other).mean())
                count[lag] += 1
    covariance = np.fft.ifft2(total / len(corners)).real
    reach = side - np.abs(np.fft.fftfreq(2 * side, 1 / (2 * side)))
    overlap = np.outer(reach, reach)
    covariance = np.divide(covariance, overlap, out=np.zeros_like(covariance), where=overlap > 0)
    keep = np.r_[0 : side // 2, 2 * side - side // 2 : 2 * side]
    covariance = _without_flattening(covariance[np.ix_(keep, keep)], side)
    variance = float(covariance[0, 0])
    if not variance > 0:
        raise InputError(
            where, "there is no noise in the region for it", "mark one with noise, or leave it out"
        )
    along = np.divide(along, np.maximum(count, 1)) / (along[0] / count[0])
    correlation = covariance / variance
    std = variance**0.5 / (1.0 if region is not None else _of_flattest(correlation, side))
    return NoiseSpectrum(correlation, along, std, len(corners))


def _without_flattening(covariance: Array, side: int) -> Array:
    """The covariance of the noise, from that of patches whose means and slopes were taken out, lags in a DFT's order.

    Flattening takes away what neighbours have most in common. What it leaves of every covariance of short reach (a
    quarter of the patch) is known, and least squares find the one that leaves what was seen.
    """
    lags, left = _left_by_flattening(side)
    seen = np.array([covariance[i, j] for i, j in lags])
    found = np.zeros_like(covariance)
    for (i, j), value in zip(lags, np.linalg.lstsq(left, seen, rcond=None)[0], strict=True):
        found[i, j] = found[-i, -j] = value
    return found


@functools.cache
def _left_by_flattening(side: int) -> tuple[list[tuple[int, int]], Array]:
    """Lags of short reach, one of each pair, and the matrix from true covariances at them to those of flat patches."""
    reach = side // 4
    lags = [(i, j) for i in range(reach + 1) for j in range(-reach, reach + 1) if i or j >= 0]
    rows, columns = (at.ravel() for at in np.indices((side, side)))
    down, right = rows - rows[:, None], columns - columns[:, None]
    out = np.linalg.qr(np.stack([np.ones(side**2), rows, columns], axis=1))[0]
    near = (np.abs(down) <= reach) & (np.abs(right) <= reach)
    place = ((down + reach) * (2 * reach + 1) + right + reach)[near]
    pairs = np.bincount(place)
    columns_of = []
    for i, j in lags:
        apart = (((down == i) & (right == j)) | ((down == -i) & (right == -j))).astype(np.float64)
        shared = out @ (out.T @ apart)
        flat = apart - shared - shared.T + out @ (out.T @ apart @ out) @ out.T
        mean = np.bincount(place, flat[near]) / pairs
        columns_of.append([mean[(k + reach) * (2 * reach + 1) + m + reach] for k, m in lags])
    return lags, np.array(columns_of).T


def _of_flattest(correlation: Array, side: int) -> float:
    """The deviation in the flattest tenth of patches, of that in all of them, were there noise alone.

    The deviation of n independent values scatters by 1 / sqrt(2 n) of itself, and the mean of the lowest tenth lies
    1.755 such deviations below; correlated values count for as many as 1 / (sum of their squared correlations). Where
    other patches hold structure as well the level comes out too high, which costs less than one too low.
    """
    return max(0.5, 1 - 1.755 * float(np.square(correlation).sum() / (2 * side**2)) ** 0.5)


def _corners(
    data: NDArray[np.floating], region: NDArray[np.bool_] | None, side: int
) -> list[tuple[int, int, int]]:
    """(slice, row, column) of the patches; without a region those of the lowest deviation once slopes are out."""
    rows, columns = (range(0, n - side + 1, side) for n in data.shape[1:])
    blank = float(data.min())
    step = 1 if region is not None else max(1, len(data) // 32)
    every = [(k, i, j) for k in range(0, len(data), step) for i in rows for j in columns]
    if region is not None:
        return [(k, i, j) for k, i, j in every if region[k, i : i + side, j : j + side].all()]
    every = [
        (k, i, j) for k, i, j in every if _is_noisy(data[k, i : i + side, j : j + side], blank)
    ]
    deviations = np.array([_flat(data[k, i : i + side, j : j + side]).std() for k, i, j in every])
    alive = deviations > 1e-6 * float(np.abs(data).max())
    if alive.sum() < LEAST_PATCHES:
        return []
    limit = np.quantile(deviations[alive], max(FLATTEST, LEAST_PATCHES / alive.sum()))
    return [at for at, std in zip(every, deviations, strict=True) if 0 < std <= limit]


def _is_noisy(patch: NDArray[np.floating], blank: float) -> bool:
    """Whether there may be noise everywhere in it: few voxels blanked or cut off, and not mostly flat."""
    details = patch[1:, 1:] - patch[1:, :-1] - patch[:-1, 1:] + patch[:-1, :-1]
    return bool((patch == blank).mean() < BLANKED and (details != 0).mean() > 1 - FLAT)


def _flat(patch: NDArray[np.floating]) -> Array:
    """Without its mean and its slopes."""
    values = patch.astype(np.float64)
    values = values - values.mean()
    for axis in (0, 1):
        ramp = np.arange(values.shape[axis]) - (values.shape[axis] - 1) / 2
        slope = np.tensordot(ramp, values, (0, axis)).mean() / float(ramp @ ramp)
        values -= slope * np.expand_dims(ramp, 1 - axis)
    return values


def _spectrum(correlation: Array, shape: tuple[int, ...]) -> Array:
    """Of a stationary noise on a grid (H, W), from its correlation at small lags, which fades to the largest."""
    reach = correlation.shape[0] // 2
    lags = np.fft.fftfreq(correlation.shape[0], 1 / correlation.shape[0])
    taper = np.cos(np.pi * lags / (4 * reach)) ** 2
    full = np.zeros(shape)
    for i, row in zip(lags.astype(int), correlation * np.outer(taper, taper), strict=True):
        if 2 * abs(i) < shape[0]:
            for j, value in zip(lags.astype(int), row, strict=True):
                if 2 * abs(j) < shape[1]:
                    full[i, j] += value
    return np.maximum(np.fft.fft2(full).real, 0)
