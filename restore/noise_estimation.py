"""How strong the white noise of a picture or of a residual is, where nobody says so.

May be called by any layer above the noise models; takes arrays and tensors, touches nothing but its
arguments and draws nothing. scikit-image's wavelet estimate does the work and is imported on first
use; where a picture has smooth parts, these are asked as well.

All figures are standard deviations per real channel, in the units of the argument, so that they can
be given as `noise=` to `restore.solve`. White noise is what they measure: noise that a camera, a
JPEG or an interpolation has correlated looks weaker than it is, and texture as fine as a pixel
looks like noise.
"""

from __future__ import annotations

import math
import warnings
from statistics import NormalDist
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError
from restore.gaussian import MAD_TO_STD

LEAST_SIDE = 8
"""Pixels along a side below which a picture has too few wavelet coefficients to take a median of."""

PART, PARTS, SMOOTH = 6, 16, 0.2
"""Coefficients along a side of a part; parts that there must be; the share of them that is taken for smooth."""

CLIPPED = 0.02
"""Of the pixels of a part, at the picture's darkest or brightest value: light that was cut off has lost its noise."""

LEAST_VALUES = 64
"""Values that a median must rest on: its own deviation is then a tenth of what it measures."""


def white_noise_std(image: Any, *, known: Any = None) -> NDArray[np.float64]:
    """Noise deviation of every channel or slice of a picture, as an array of its leading shape.

    image: (..., H, W), real or complex, sides of at least 8 pixels. known: boolean or 0/1,
    broadcastable to image, true where a pixel was measured; default everywhere.

    The median absolute value of the finest diagonal wavelet coefficients (Daubechies 2), of which
    an image has few and noise has its share: Donoho and Johnstone, "Ideal spatial adaptation by
    wavelet shrinkage", Biometrika 1994, section 4.2, by `skimage.restoration.estimate_sigma`. With
    `known` those of Haar over squares of 2 x 2 known pixels. Complex: root mean square of the real
    and the imaginary part's. A constant channel has none, 0.

    Noise is everywhere and texture is not: the smoothest fifth of the parts of 6 x 6 coefficients
    gives a second estimate, corrected for being the smoothest of noise too, and the lower one
    holds. Parts with clipped pixels do not count.

    The estimate errs upwards, by the picture's own texture: on photographs by 1 to 5 % of a
    deviation of 0.05 (intensities in [0, 1]), by up to an eighth of 0.02; gravel or a lawn that
    fills the picture has 0.02 to 0.04 of its own. Raises ShapeError, ConfigError (values that are not finite, too few
    known squares).
    """
    values = _finite(image, "picture")
    if values.ndim < 2 or min(values.shape[-2:]) < LEAST_SIDE:
        raise ShapeError(
            f"the noise of a picture needs (..., H, W) with sides of at least {LEAST_SIDE} pixels, "
            f"got {values.shape}"
        )
    if np.iscomplexobj(values):
        parts = [white_noise_std(part, known=known) for part in (values.real, values.imag)]
        return np.sqrt(np.mean(np.square(parts), axis=0))
    planes = values.reshape(-1, *values.shape[-2:])
    if known is None:
        found = [_by_wavelet(plane) for plane in planes]
    else:
        seen = np.broadcast_to(_known(known, values.shape), values.shape).reshape(planes.shape)
        found = [_by_squares(p, m) for p, m in zip(planes, seen, strict=True)]
    return np.array(found, dtype=np.float64).reshape(values.shape[:-2])


def residual_noise_std(residual: Any, *, item_ndim: int | None = None) -> NDArray[np.float64]:
    """Noise deviation of a residual y - A x, in which no picture is left, for each item.

    residual: real or complex, of any shape; its last `item_ndim` dimensions (default: all) share
    one level, the others are the result's shape. The median absolute deviation, so that the edges
    that a reconstruction missed do not count. Samples that are exactly zero were not measured and
    are left out. Only right where x was not fitted to the noise itself: an x with as many free
    values as y has samples leaves no residual. Raises ConfigError (values that are not finite,
    fewer than 64 samples), ShapeError.
    """
    values = _finite(residual, "residual")
    ndim = values.ndim if item_ndim is None else item_ndim
    if not 1 <= ndim <= values.ndim:
        raise ShapeError(f"a residual of shape {values.shape} has no items of {ndim} dimensions")
    leading = values.shape[: values.ndim - ndim]
    items = values.reshape(math.prod(leading), -1)
    return np.array([_of_samples(item[item != 0]) for item in items]).reshape(leading)


def doubt_of_size(height: int, width: int, *, whole: bool = True) -> str:
    """What to say of an estimate in pictures so small that their texture counts as noise; "" for larger ones.

    whole: whether every pixel is known. Below 45 pixels a side (31 with `known`) there are too few smooth parts
    (`PARTS` of `PART` coefficients a side) for the second estimate.
    """
    # The finest coefficients of Daubechies 2, four taps: (n + 3) // 2 of n pixels; squares overlap.
    rows, columns = (((n + 3) // 2 if whole else n - 1) // PART for n in (height, width))
    # Without wavelets the parts of the darkest and of the brightest pixel do not count.
    if rows * columns >= PARTS + (0 if whole else 2):
        return ""
    return (
        f"{height} x {width} pixels are too few to tell fine texture from noise: the level may be too high, and "
        "details taken for noise; state it where it is known"
    )


def _by_wavelet(plane: NDArray[np.float64]) -> float:
    from skimage.restoration import estimate_sigma

    with warnings.catch_warnings():
        # A plane without any detail has no coefficient to take the median of: NaN with a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = float(estimate_sigma(plane))
    if not found > 0:
        return 0.0
    finest = pywt.dwtn(plane, wavelet="db2")["dd"]
    # A coefficient stands for 2 x 2 pixels; its filter reaches one of them further.
    clipped = (plane == plane.min()) | (plane == plane.max())
    return min(found, _of_smooth_parts(finest, None, _share(clipped, finest.shape)))


def _share(flags: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """For every coefficient of an array of `shape` the share of flagged pixels among its four."""
    rows, columns = (
        np.minimum(np.arange(2 * n).reshape(n, 2), size - 1)
        for n, size in zip(shape, flags.shape, strict=True)
    )
    return flags[rows[:, None, :, None], columns[None, :, None, :]].mean((2, 3))


def _of_smooth_parts(
    detail: NDArray[np.float64],
    seen: NDArray[np.bool_] | None,
    clipped: NDArray[np.float64],
) -> float:
    """The deviation of coefficients (h, w) in the smoothest parts; infinite where there are too few."""
    h, w = (n // PART for n in detail.shape)
    if h * w < PARTS:
        return math.inf

    def parts(values: NDArray[Any]) -> NDArray[np.float64]:
        cut = values[: h * PART, : w * PART].astype(np.float64)
        return cut.reshape(h, PART, w, PART).sum((1, 3)).ravel()

    counts = parts(np.ones(detail.shape) if seen is None else seen)
    energy = parts(detail**2 if seen is None else np.where(seen, detail, 0) ** 2)
    good = (counts >= PART * PART / 4) & (parts(clipped) <= CLIPPED * PART * PART)
    # Parts without any noise are flat by hand, or by compression; what is left there is rounding.
    good &= energy > counts * (1e-9 * np.abs(detail).max()) ** 2
    if good.sum() < PARTS:
        return math.inf
    deviations = np.sqrt(energy[good] / counts[good])
    # The deviation of n numbers scatters by 1 / sqrt(2 n) of itself, and of many the lowest fifth lies so far below.
    # Squares overlap: of those with holes between them half are worth counting.
    free = float(np.median(counts[good])) / (1 if seen is None else 2)
    below = 1 + NormalDist().inv_cdf(SMOOTH) / math.sqrt(2 * free)
    return float(np.quantile(deviations, SMOOTH)) / below


def _by_squares(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """The diagonal Haar coefficient of every square of 2 x 2 pixels that were all measured."""
    whole = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1] & known[1:, 1:]
    detail = (plane[:-1, :-1] - plane[:-1, 1:] - plane[1:, :-1] + plane[1:, 1:]) / 2
    count = int(whole.sum())
    if count < LEAST_VALUES:
        raise ConfigError(
            f"{count} squares of 2 x 2 known pixels are too few to tell the noise from "
            f"(at least {LEAST_VALUES}); state the noise"
        )
    found = float(MAD_TO_STD * np.median(np.abs(detail[whole])))
    seen = plane[known]
    clipped = known & ((plane == seen.min()) | (plane == seen.max()))
    return min(found, _of_smooth_parts(detail, whole, clipped[:-1, :-1].astype(np.float64)))


def _of_samples(samples: NDArray[Any]) -> float:
    if np.iscomplexobj(samples):
        parts = [_of_samples(part) for part in (samples.real, samples.imag)]
        return math.hypot(*parts) / math.sqrt(2)
    if samples.size < LEAST_VALUES:
        raise ConfigError(
            f"a residual of {samples.size} measured samples is too short to tell its noise from "
            f"(at least {LEAST_VALUES}); state the noise"
        )
    return float(MAD_TO_STD * np.median(np.abs(samples - np.median(samples))))


def _known(known: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = _array(known) != 0
    fits = mask.ndim <= len(shape) and all(
        m in (1, n) for m, n in zip(reversed(mask.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(f"known pixels of shape {mask.shape} do not fit a picture of {shape}")
    return mask


def _finite(value: Any, what: str) -> NDArray[Any]:
    """In double precision, real or complex."""
    array = _array(value)
    array = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ConfigError(f"the {what} holds {bad} values that are NaN or infinite; mask them")
    return array


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
