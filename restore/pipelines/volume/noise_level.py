"""How strong the noise of a volume is, slice by slice, where nobody says so: Gaussian, or that of MR magnitudes.

Called by the tasks. Pure functions of arrays. The background of magnitudes, Rayleigh noise alone, tells their level
best; where a scanner has blanked it, wavelets in the object do, corrected for what the magnitude takes away.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, InputError
from restore.noise_estimation import LEAST_SIDE, doubt_of_size, white_noise_std
from restore.rician import BACKGROUND_MEAN, BACKGROUND_STD, corrected_std

SIDE = 8
"""Pixels along a side of a patch of which mean and deviation are taken."""

RAYLEIGH = float(BACKGROUND_STD / BACKGROUND_MEAN)
"""Deviation over mean where there is no signal: 0.523."""

NEAR = 0.1
"""How far from it that ratio may lie in a patch of 64 pixels: twice its own deviation. With signal of one deviation of
the noise it is 0.50, of two 0.40."""

FINE = 0.5
"""Deviation of the diagonal differences over that of the patch: 1 for white noise, 0.6 for noise that was interpolated
to twice the pixels, 0.2 and less where an edge runs through."""

TOO_STRONG = 3.0
"""Times the finest wavelets, which take texture for noise and miss that which was interpolated: a background of more is
none."""

LEAST_SHARE = 0.03
"""Of the patches that must be background, so that it can be told from chance."""

BLANKED = 0.05
"""The share of zeros, or of the lowest value, from which they are no noise, but nothing."""

LEAST_PATCHES = 6
"""Of background in a slice that is to have a level of its own: each tells it to 6 %."""

BACKGROUND = "the background"
"""Where levels were found, in words: Rayleigh noise and nothing else."""

VARIES = 1.25
"""Ratio of the largest to the lowest level of slices (10 % left out on either side) from which each has its own."""


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """of: deviations of the noise, one a slice, in the volume's units. found_in: where, in words. doubt: a sentence."""

    of: NDArray[np.float64]
    found_in: str
    doubt: str = ""

    @property
    def vary(self) -> bool:
        """Whether slices have levels of their own."""
        low, high = np.quantile(self.of, [0.1, 0.9])
        return len(self.of) > 1 and bool(high > VARIES * low)

    @property
    def used(self) -> NDArray[np.float64]:
        """One a slice, smoothed over three of them, or (1,) the median of all."""
        if not self.vary:
            return np.array([np.median(self.of)])
        padded = np.pad(self.of, 1, mode="edge")
        return np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)


def gaussian_levels(data: NDArray[np.floating], where: str) -> Levels:
    """By the finest wavelets of every slice (`white_noise_std`). data: (D, H, W); where: the file, for messages.

    Slices without any noise, such as blank ones, take the level of the others; all are 0 where none has any. Raises
    InputError for slices that are too small.
    """
    if min(data.shape[1:]) < LEAST_SIDE:
        raise InputError(
            where, f"slices of {data.shape[1]} x {data.shape[2]} voxels are too small to tell noise in",
            "give --noise-level",
        )  # fmt: skip
    blank = float(data.min())
    found = np.array([_of_slice(plane, blank) for plane in data])
    return Levels(_filled(found), "the finest wavelets", doubt_of_size(*data.shape[1:]))


def rician_levels(data: NDArray[np.floating], where: str) -> Levels | None:
    """From the background, None where there is none. data: magnitudes (D, H, W)."""
    squares, ratios = _patches(data)
    good = np.abs(ratios - RAYLEIGH) < NEAR
    if good.mean() < LEAST_SHARE:
        return None
    typical = _mode(squares[good])
    each = [_of_background(s[g]) for s, g in zip(squares, good, strict=True)]
    everywhere = good & (squares > typical / 2) & (squares < 2 * typical)
    if everywhere.mean() < LEAST_SHARE:
        return None
    median = float(np.sqrt(squares[everywhere].mean() / 2))
    found = np.array([median if level is None else level for level in each])
    fine = np.median(
        [_of_slice(data[k], 0.0) for k in range(0, len(data), max(1, len(data) // 16))]
    )
    if median > TOO_STRONG * fine:
        return None  # rough tissue or edges that scatter as a background would
    return Levels(found, BACKGROUND)


def rician_levels_of_object(data: NDArray[np.floating], where: str) -> Levels:
    """From wavelets in what is not blank, corrected for the magnitude; 0 where there is no noise. Raises InputError."""
    gaussian = gaussian_levels(data, where)
    each = [
        corrected_std(
            float(level), float(np.median(plane[plane > 0])) if (plane > 0).any() else 0.0
        )
        for level, plane in zip(gaussian.of, data, strict=True)
    ]
    return Levels(np.array(each), "the finest wavelets of the object", gaussian.doubt)


def _of_slice(plane: NDArray[np.floating], blank: float) -> float:
    """The deviation in a slice, what was blanked or cut off (at the lowest value) left out; 0 where there is none."""
    seen = plane != blank
    if seen.mean() > 1 - BLANKED:
        return float(white_noise_std(plane))
    try:
        return float(white_noise_std(plane, known=seen))
    except ConfigError:  # hardly anything is left of this slice: it takes the level of the others
        return 0.0


def _patches(
    data: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean square, and deviation over mean, of the patches of every slice (D, n); of those that are blanked or hold
    anything but noise the ratio is infinite."""
    depth, (rows, columns) = len(data), (n // SIDE for n in data.shape[1:])
    squares, ratios = np.empty((2, depth, rows * columns))
    for k, plane in enumerate(data):
        cut = plane[: rows * SIDE, : columns * SIDE].astype(np.float64)
        parts = cut.reshape(rows, SIDE, columns, SIDE).transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)
        means, stds = parts.mean((1, 2)), parts.std((1, 2))
        details = parts[:, 1:, 1:] - parts[:, 1:, :-1] - parts[:, :-1, 1:] + parts[:, :-1, :-1]
        fine = np.sqrt(np.square(details).mean((1, 2))) / 2 > FINE * stds
        noise = fine & ((parts == 0).mean((1, 2)) < BLANKED) & (means > 0)
        ratios[k] = np.where(noise, stds / np.where(noise, means, 1), np.inf)
        squares[k] = np.square(parts).mean((1, 2))
    return squares, ratios


def _of_background(squares: NDArray[np.float64]) -> float | None:
    """The level of a slice from the mean squares of its patches of background; None of too few.

    Smooth tissue that scatters as much is brighter, and less of it: the densest mean squares count, and their like.
    """
    if len(squares) < LEAST_PATCHES:
        return None
    typical = _mode(squares)
    like = squares[(squares > typical / 2) & (squares < 2 * typical)]
    return float(np.sqrt(like.mean() / 2))


def _mode(values: NDArray[np.float64]) -> float:
    """Where positive values are densest, by their logarithm: the middle of the narrowest range that holds a third."""
    logs = np.sort(np.log(values))
    count = max(1, len(logs) // 3)
    widths = logs[count:] - logs[:-count]
    first = int(np.argmin(widths)) if len(widths) else 0
    return float(np.exp(logs[first : first + count + 1].mean()))


def _filled(found: NDArray[np.float64]) -> NDArray[np.float64]:
    noisy = found > 0
    return np.where(noisy, found, np.median(found[noisy])) if noisy.any() else found
