"""Smooth complex coil sensitivities and image phase for simulated MRI.

May be called by the simulators and by tests; touches nothing but its arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError

COIL_RADIUS = 1.5
"""Distance of the coils from the centre, in half fields of view (the corners lie at 1.41)."""

RING_LEVEL = 0.7
"""Height of the rings of `two_rings`, in half heights of the volume."""

PHASE_ORDER = 2
"""Highest number of half cosine periods across the field of view in the simulated phase."""


def birdcage(
    shape: tuple[int, int], coils: int, radius: float = COIL_RADIUS
) -> NDArray[np.complex64]:
    """Sensitivities of `coils` loops on a circle around the field of view, sum |S|^2 = 1
    everywhere.

    Loop c at angle t = 2 pi c / coils has the magnitude 1 / distance and the phase t + (angle of
    the line of sight): smooth, because the loops lie outside the image (radius > sqrt 2). Returns
    complex64 (coils, H, W). Raises ConfigError for fewer than one coil or a radius inside the
    image.
    """
    if coils < 1:
        raise ConfigError(f"at least one coil is needed, got {coils}")
    if radius <= np.sqrt(2):
        raise ConfigError(f"the coils must lie outside the image: radius > 1.42, got {radius}")
    y, x = (_axis(n).reshape(-1, 1) if i == 0 else _axis(n) for i, n in enumerate(shape))
    angle = 2 * np.pi * np.arange(coils).reshape(-1, 1, 1) / coils
    sight = (x - radius * np.cos(angle)) + 1j * (y - radius * np.sin(angle))
    maps = np.exp(1j * (angle + np.angle(sight))) / np.abs(sight)
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    return maps.astype(np.complex64)


def two_rings(shape: tuple[int, int, int], coils: int) -> NDArray[np.complex64]:
    """As `birdcage`, of a volume (D, H, W), its loops in turn above and below the middle: they tell slices apart too.

    Returns complex64 (coils, D, H, W) with sum |S|^2 = 1. Raises ConfigError for fewer than one coil.
    """
    depth, height, width = shape
    if coils < 1:
        raise ConfigError(f"at least one coil is needed, got {coils}")
    z, y, x = _axis(depth)[:, None, None], _axis(height)[:, None], _axis(width)
    number = np.arange(coils).reshape(-1, 1, 1, 1)
    angle = 2 * np.pi * number / coils
    level = RING_LEVEL * (1 - 2 * (number % 2)) if coils > 1 else 0 * number
    sight = (x - COIL_RADIUS * np.cos(angle)) + 1j * (y - COIL_RADIUS * np.sin(angle))
    distance = np.sqrt(np.abs(sight) ** 2 + (z - level) ** 2)
    maps = np.exp(1j * (angle + np.angle(sight))) / distance
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    return maps.astype(np.complex64)


def smooth_phase(
    shape: tuple[int, int], position: float, rng: np.random.Generator, limit: float = 0.75 * np.pi
) -> NDArray[np.float32]:
    """Smooth image phase in radians, within about +-limit, changing slowly from slice to slice.

    A random sum of low-order cosines over the plane whose coefficients rotate slowly with
    `position`, the place of the slice in its volume in [0, 1]. Pass a generator of the same seed
    for every slice of a volume. Returns float32 (H, W).
    """
    amplitude = rng.normal(size=(PHASE_ORDER + 1, PHASE_ORDER + 1))
    drift = rng.uniform(0, 2 * np.pi, size=amplitude.shape)
    shift = rng.uniform(0, 2 * np.pi, size=(2, PHASE_ORDER + 1, 1))
    # A coarse grid over the whole volume finds the scale, so that it is the same for every slice.
    coarse = [_waves((9, 9), z, amplitude, drift, shift) for z in np.linspace(0, 1, 9)]
    scale = limit / np.max(np.abs(coarse))
    return (scale * _waves(shape, position, amplitude, drift, shift)).astype(np.float32)


def _waves(
    shape: tuple[int, int],
    position: float,
    amplitude: NDArray[np.float64],
    drift: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> NDArray[np.float64]:
    orders = np.arange(PHASE_ORDER + 1).reshape(-1, 1)
    rows, cols = (
        np.cos(0.5 * np.pi * orders * _axis(n) + s) for n, s in zip(shape, shift, strict=True)
    )
    coefficients = amplitude * np.cos(0.5 * np.pi * position + drift)
    return rows.T @ coefficients @ cols


def _axis(length: int) -> NDArray[np.float64]:
    """Pixel centres on [-1, 1]."""
    return (2 * np.arange(length) + 1 - length) / length
