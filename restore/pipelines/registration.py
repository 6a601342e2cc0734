"""Lay an image on its reference by a shift, before the two are compared.

Called by `restore.pipelines.evaluate`; touches nothing but its arguments. scikit-image finds the
shift, scipy resamples the image; the reference is never changed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError

SUBDIVISION = 20
"""The shift is found to a twentieth of a pixel."""

SETTLED = 1.5 / SUBDIVISION
"""A round that moves the image by no more, in pixels along any axis, is the last."""

ROUNDS = 6
LARGEST_SHARE = 0.25
"""Of the side: beyond, too little of the two images overlaps to compare them."""

LEAST_CORRELATION = 0.5
"""Of the shifted image with the reference. Different pictures rarely reach a third."""

LEAST_SIDE = 8
"""Samples along an axis that a shift along it needs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Registered:
    """image: the shifted one, at the reference's samples; inside: the block of samples at which it
    is known. shift: by how many samples it was moved along each axis. correlation_before,
    correlation_after: Pearson's, over that block.
    """

    image: NDArray[np.float64]
    inside: tuple[slice, ...]
    shift: tuple[float, ...]
    correlation_before: float
    correlation_after: float


def register(
    image: NDArray[np.float64], reference: NDArray[np.float64], movable: Sequence[bool]
) -> Registered:
    """The image moved by the translation that lays it on the reference.

    image, reference: real arrays of one shape. movable: along which axes it may move; those of
    fewer than 8 samples are held too. Only a translation is looked for: turned or scaled images
    stay so.

    The peak of the cross-correlation, refined to 1/20 of a sample by an upsampled transform
    (Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", Optics
    Letters 2008; `skimage.registration.phase_cross_correlation`, without whitening, which noise and
    blur mislead, and under a Hann window, since pictures do not repeat), again and again on what is
    left until nothing moves. Cubic splines give the values between the samples; they smooth noise a
    little.

    Raises ConfigError where the shift is not convincing: no contrast, no end of the search, more
    than a quarter of a side, or a correlation below 0.5 after it.
    """
    free = [a for a, n in enumerate(image.shape) if movable[a] and n >= LEAST_SIDE]
    if not free:
        raise ConfigError(
            f"no shift can be found in {image.shape} samples: {LEAST_SIDE} along an axis are needed; "
            "leave --align out"
        )
    shift = _settled_shift(image, reference, free)
    moved = _moved(image, shift)
    inside = tuple(
        slice(None) if not s else slice(math.ceil(abs(s)) + 1, n - math.ceil(abs(s)) - 1)
        for s, n in zip(shift, image.shape, strict=True)
    )
    before = _correlation(image[inside], reference[inside])
    after = _correlation(moved[inside], reference[inside])
    if before >= max(after, LEAST_CORRELATION):  # it lies as well as noise and blur let anybody see
        return Registered(image, inside, (0.0,) * image.ndim, before, before)
    if after < LEAST_CORRELATION or after < before:
        raise ConfigError(
            f"no convincing shift was found: moved by {_listed(shift)} samples the image correlates "
            f"with the reference by {after:.2f} (before: {before:.2f}, expected at least "
            f"{LEAST_CORRELATION}); are the two of the same object? Leave --align out to compare "
            "them as they lie"
        )
    return Registered(moved, inside, tuple(shift.tolist()), before, after)


def _settled_shift(
    image: NDArray[np.float64], reference: NDArray[np.float64], free: Sequence[int]
) -> NDArray[np.float64]:
    shift = np.zeros(image.ndim)
    limits = LARGEST_SHARE * np.array(image.shape)
    for _ in range(ROUNDS):
        step = _step(_moved(image, shift), reference, free)
        shift = shift + step
        if (np.abs(shift) > limits).any():
            raise ConfigError(
                f"the shift found, {_listed(shift)} samples, is more than a quarter of the image of "
                f"{image.shape}; leave --align out to compare the two as they lie"
            )
        if np.abs(step).max() <= SETTLED:
            # What is left may as well be the grid of the search.
            return np.where(np.abs(shift) <= 1 / SUBDIVISION, 0.0, shift)
    raise ConfigError(
        f"no convincing shift was found: after {ROUNDS} rounds the image still moves by "
        f"{_listed(step)} samples; are the two of the same object? Leave --align out to compare them "
        "as they lie"
    )


def _step(
    image: NDArray[np.float64], reference: NDArray[np.float64], free: Sequence[int]
) -> NDArray[np.float64]:
    """One estimate of the shift, zero along the axes that are held, over which images are averaged."""
    from skimage.registration import phase_cross_correlation

    held = tuple(a for a in range(image.ndim) if a not in free)
    pair = [_windowed(v.mean(axis=held)) for v in (reference, image)]
    if not all(v.any() for v in pair):
        raise ConfigError(
            "one of the two images is constant: no shift can be found; leave --align out"
        )
    found, _, _ = phase_cross_correlation(*pair, upsample_factor=SUBDIVISION, normalization=None)
    step = np.zeros(image.ndim)
    step[list(free)] = found
    return step


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without its mean, fading to zero at the border."""
    result = values - values.mean()
    for axis, n in enumerate(values.shape):
        shape = [1] * values.ndim
        shape[axis] = n
        # Hann over n + 2 points, without the zeros at its ends.
        result = result * np.hanning(n + 2)[1:-1].reshape(shape)
    return result


def _moved(image: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import shift as resampled

    return resampled(image, shift, order=3, mode="nearest") if shift.any() else image


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's, 0 where one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def _listed(shift: NDArray[np.float64]) -> str:
    return ", ".join(f"{s:.4g}" for s in shift)
