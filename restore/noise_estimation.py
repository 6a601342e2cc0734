"""How strong the white noise of a picture or of a residual is, where nobody says so.

May be called by any layer above the noise models; takes arrays and tensors, touches nothing but its
arguments and draws nothing. scikit-image's wavelet estimate does the work and is imported on first
use.

All figures are standard deviations per real channel, in the units of the argument, so that they can
be given as `noise=` to `restore.solve`. White noise is what they measure: noise that a camera, a
JPEG or an interpolation has correlated looks weaker than it is, and texture as fine as a pixel
looks like noise.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, ShapeError
from restore.gaussian import MAD_TO_STD

LEAST_SIDE = 8
"""Pixels along a side below which a picture has too few wavelet coefficients to take a median of."""

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

    The estimate errs upwards, by the picture's own texture: on photographs by 3 to 15 % of a
    deviation of 0.05 (intensities in [0, 1]), by up to a third of 0.02; a lawn that fills the
    picture has 0.04 of its own. Raises ShapeError, ConfigError (values that are not finite, too few
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


def _by_wavelet(plane: NDArray[np.float64]) -> float:
    from skimage.restoration import estimate_sigma

    with warnings.catch_warnings():
        # A plane without any detail has no coefficient to take the median of: NaN with a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = float(estimate_sigma(plane))
    return found if math.isfinite(found) else 0.0


def _by_squares(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """The diagonal Haar coefficient of every square of 2 x 2 pixels that were all measured."""
    whole = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1] & known[1:, 1:]
    detail = (plane[:-1, :-1] - plane[:-1, 1:] - plane[1:, :-1] + plane[1:, 1:])[whole] / 2
    if detail.size < LEAST_VALUES:
        raise ConfigError(
            f"{detail.size} squares of 2 x 2 known pixels are too few to tell the noise from "
            f"(at least {LEAST_VALUES}); state the noise"
        )
    return float(MAD_TO_STD * np.median(np.abs(detail)))


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
