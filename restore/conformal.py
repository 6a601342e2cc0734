"""Intervals around the mean of samples, with the factor of the deviation by which they hold the truth as often as said.

Split conformal prediction (Vovk, Gammerman, Shafer 2005; Lei and others, JASA 2018): of images with a known truth the
score of every pixel is |truth - mean| / deviation; the factor of a level is the score below which that part of them
lies. The next image's pixels then lie within factor * deviation with that probability if the images are exchangeable
with those: the same kind of anatomy, measured in the same way. A deviation that knows more of where errors are
(`Scale`) makes images more alike in their scores and changes nothing about that. Used by the pipelines and the
benchmarks. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError

Unit = Literal["pixel", "region"]
UNITS: tuple[Unit, ...] = ("pixel", "region")
"""What an interval is for: every pixel, or the mean over a block of pixels."""
BLOCK = 8
"""Side of a region in pixels; those at the lower and right border may be smaller."""
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
AGREED = 1 / 512
"""Deviation, as a part of the image's range, below which samples agree: half of a grey level of 8 bits, which nobody
sees. There the score would be a ratio of roundings (air, pixels that were measured), so that the deviation is taken for
this one, and such pixels are not counted: they are always covered, and would lend that to those in doubt."""
FOREGROUND = 0.05
"""Part of the truth's maximum above which a magnitude is an object's: below it the noise floor rules, and what folds
over into the air, which all samples share."""


POOLED, NEAR = 5, 3
"""Sides of the squares over which variances are pooled, and in which contrast is looked for."""


@dataclass(frozen=True)
class Scale:
    """What the truth's distance from the mean is measured in: s^2 = (1 - p) v + p v' + (c k)^2, plane by plane.

    v: the variance of the samples; v': its mean over 5 x 5 pixels, since that of K samples errs by (2/(K - 1))^1/2;
    k: the deviation of the mean itself within 3 x 3 pixels, one number a plane (the square of the mean root, which a
    few strong edges move less than a mean): what all samples miss alike, edges and fine structure, grows with the
    image's own. Of regions likewise, over their means. pooled p in 0..1, contrast c of 0 or more; 0 and 0 are the
    deviation itself.

    Raises ConfigError.
    """

    pooled: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.pooled <= 1 and 0 <= self.contrast < math.inf):
            raise ConfigError(
                f"a scale has a share in 0..1 and a contrast of 0 or more, got {self.pooled:g}, {self.contrast:g}"
            )

    @property
    def words(self) -> str:
        """For tables and records."""
        pooled = f", {self.pooled:g} of it pooled" if self.pooled else ""
        return f"deviation{pooled}" + (f", {self.contrast:g} contrast" if self.contrast else "")

    def of(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
        """s of (..., H, W), in the units of both."""
        if self == PLAIN:
            return deviation
        variance = (1 - self.pooled) * deviation**2 + self.pooled * _squares(deviation**2, POOLED)
        level = mean - mean.mean((-2, -1), keepdims=True)  # against roundings of the difference
        contrast = np.maximum(_squares(level**2, NEAR) - _squares(level, NEAR) ** 2, 0)
        whole = (contrast**0.25).mean((-2, -1), keepdims=True) ** 2
        found: NDArray[np.float64] = np.sqrt(variance + (self.contrast * whole) ** 2)
        return found


PLAIN = Scale()
SCALES = tuple(Scale(p, c) for c in (0.0, 0.25, 0.5, 1.0, 2.0) for p in (0.0, 0.5, 1.0))
"""Those that a calibration tries, the plain one first."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and deviation of samples, and which values count in a coverage. All (..., H, W), of regions (..., h, w).

    deviation: at least `AGREED` of the range of the mean (of a region's mean an eighth of that: roundings of its 64
    pixels average out).
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    counted: NDArray[np.bool_]
    unit: Unit

    def scores(self, truth: NDArray[Any], scale: Scale = PLAIN) -> NDArray[np.float64]:
        """|truth - mean| / s of what counts, (n,). truth: (..., H, W) like the samples. Raises ShapeError."""
        known = np.asarray(truth, np.float64)
        known = known if self.unit == "pixel" else block_means(known)
        if known.shape != self.mean.shape:
            raise ShapeError(f"the truth is {np.shape(truth)}, the samples' mean {self.mean.shape}")
        chosen = self.counted
        size = scale.of(self.mean, self.deviation)
        found: NDArray[np.float64] = np.abs(known - self.mean)[chosen] / size[chosen]
        return found


def spread_of(
    samples: NDArray[Any],
    unit: Unit = "pixel",
    span: float | None = None,
) -> Spread:
    """The spread of real samples (K, ..., H, W). span: the range of the mean, where these are a part of what it is of.

    Raises ConfigError.
    """
    drawn = np.asarray(samples, np.float64)
    if drawn.ndim < 3 or drawn.shape[0] < 2:
        raise ConfigError(
            f"an interval needs 2 samples or more of an image, got an array {drawn.shape}"
        )
    mean = drawn.mean(0)
    span = span if span is not None else float(np.ptp(mean)) if mean.size else 0.0
    floor = AGREED * span
    if unit == "region":
        drawn, floor = block_means(drawn), floor / BLOCK
        mean = drawn.mean(0)
    raw = drawn.std(0, ddof=1)
    counted = raw >= max(floor, np.finfo(np.float64).tiny)
    return Spread(mean, np.maximum(raw, max(floor, np.finfo(np.float64).tiny)), counted, unit)


def of_object(truth: NDArray[Any], unit: Unit = "pixel") -> NDArray[np.bool_]:
    """Where a true magnitude (..., H, W), of MRI, is no air: whose pixels, or regions (..., h, w), count."""
    known = np.asarray(truth, np.float64)
    known = known if unit == "pixel" else block_means(known)
    return np.asarray(known > FOREGROUND * known.max())


def half_width(
    samples: NDArray[Any],
    factor: float,
    unit: Unit = "pixel",
    span: float | None = None,
    scale: Scale = PLAIN,
) -> NDArray[np.float32]:
    """factor * s at every pixel, (..., H, W): of its region for the unit "region". span: see `spread_of`.

    Raises ConfigError.
    """
    spread = spread_of(samples, unit, span)
    width = factor * scale.of(spread.mean, spread.deviation)
    if unit == "region":
        rows, columns = np.shape(samples)[-2:]
        width = width.repeat(BLOCK, -2).repeat(BLOCK, -1)[..., :rows, :columns]
    return width.astype(np.float32)


def conformal_factor(scores: NDArray[Any], level: float) -> float:
    """The smallest score that ceil((n + 1) level) of n scores do not exceed, which is right for finite n too.

    level: in (0, 1). Infinite where n is too small for the level. Raises ConfigError for no score, or a level outside.
    """
    check_level(level)
    found = np.asarray(scores, np.float64).ravel()
    if not found.size:
        raise ConfigError("there is no score to take a factor from: nothing counts in these images")
    # A whisker below the product: (n + 1) level is exact in decimals and may lie above it in binary.
    rank = math.ceil((found.size + 1) * level * (1 - 1e-12))
    if rank > found.size:
        return math.inf
    return float(np.partition(found, rank - 1)[rank - 1])


def nominal_factor(level: float, samples: int) -> float:
    """The factor if truth and samples are draws from one Gaussian at every pixel: Student's t with K - 1 degrees.

    t (1 + 1/K)^1/2, since the mean of K samples errs too. Raises ConfigError for a level outside (0, 1), K < 2.
    """
    from scipy.stats import t

    check_level(level)
    if samples < 2:
        raise ConfigError(f"an interval needs 2 samples or more, got {samples}")
    return float(t.ppf((1 + level) / 2, samples - 1)) * (1 + 1 / samples) ** 0.5


def check_level(level: float) -> None:
    """Refuse a level that is no probability between 0 and 1 (ConfigError)."""
    if not 0 < level < 1:
        hint = f"; {level:g} % is {level / 100:g}" if 1 < level < 100 else ""
        raise ConfigError(f"a level lies between 0 and 1, got {level:g}{hint}")


def block_means(image: NDArray[Any]) -> NDArray[np.float64]:
    """Means over blocks of `BLOCK` x `BLOCK` pixels, smaller at the lower and right border. (..., H, W)."""
    values = np.asarray(image, np.float64)
    for axis in (-2, -1):
        starts = np.arange(0, values.shape[axis], BLOCK)
        sizes = np.diff([*starts, values.shape[axis]])
        sums = np.add.reduceat(values, starts, axis=axis)
        values = sums / (sizes[:, None] if axis == -2 else sizes)
    return values


def _squares(planes: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Means over squares around every pixel of (..., H, W), the border repeated."""
    from scipy.ndimage import uniform_filter

    size = (1,) * (planes.ndim - 2) + (side, side)
    found: NDArray[np.float64] = uniform_filter(planes, size=size, mode="nearest")
    return found
