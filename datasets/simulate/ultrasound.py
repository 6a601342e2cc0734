"""Simulate B-mode ultrasound: a phantom of layers, cysts and lesions with speckle, and haze that lies over it.

May be called by benchmarks and tests; touches no files. Every picture comes from a generator seeded by its number.

Model: scatterers are complex Gaussian, as strong as the tissue reflects; the beam smears them, narrower in depth than
across; the magnitude is shown over `RANGE_DB` decibels, 1 being the brightest. Haze (clutter of many reflections)
multiplies the magnitude by what varies slowly, so that it adds to what is shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from restore.errors import ConfigError

RANGE_DB = 60.0
TISSUE_DB = 40.0
"""Between the darkest and the brightest tissue; cysts reflect nothing."""
BEAM = (0.7, 1.2)
"""Deviation of the beam in depth and across, in pixels."""
BRIGHTEST = 2.0
"""Magnitude that is shown as 1, in deviations of the brightest tissue's speckle."""
LEAST_SIDE = 32
_PHANTOM, _HAZE = 1, 2


def bmode_phantom(number: int, side: int = 64) -> NDArray[np.float32]:
    """A haze-free B-mode picture in [0, 1], (side, side), the transducer above. Raises ConfigError for a small side."""
    if side < LEAST_SIDE:
        raise ConfigError(
            f"a B-mode phantom has a side of {LEAST_SIDE} pixels at least, got {side}"
        )
    rng = np.random.default_rng([number, _PHANTOM])
    shown = _tissue(rng, side)
    strength = np.where(shown > 0, 10 ** (-TISSUE_DB * (1 - shown) / 20), 0)
    scatterers = rng.normal(size=(2, side, side))
    speckle = np.stack([gaussian_filter(part, BEAM) for part in scatterers])
    speckle /= np.sqrt(np.mean(np.sum(speckle**2, 0)))
    smeared = gaussian_filter(strength, 0.5) * np.hypot(*speckle)
    decibels = 20 * np.log10(np.maximum(smeared / BRIGHTEST, 1e-9))
    return np.clip(1 + decibels / RANGE_DB, 0, 1).astype(np.float32)


def haze(number: int, side: int = 64, strength: float = 0.3) -> NDArray[np.float32]:
    """What haze adds to a B-mode picture, (side, side), zero or more: `strength` in the mean at the transducer, falling
    off with depth, patchy."""
    rng = np.random.default_rng([number, _HAZE])
    depth = np.arange(side)[:, None] / side
    patches = gaussian_filter(rng.normal(size=(side, side)), 0.15 * side, mode="reflect")
    patches /= patches.std()
    return (strength * np.exp(-depth / rng.uniform(0.3, 1.0) + 0.4 * patches)).astype(np.float32)


def _tissue(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """How bright tissue is shown, 0 where nothing reflects: layers with bright borders, cysts, lesions."""
    depth, across = np.mgrid[0:side, 0:side] / side
    borders = np.sort(rng.uniform(0.08, 0.95, rng.integers(2, 6)))
    shown = np.full((side, side), rng.uniform(0.2, 0.6))
    waves = [
        border + 0.03 * np.sin(2 * np.pi * (across * rng.uniform(0.5, 1.5) + rng.uniform()))
        for border in borders
    ]
    for wave in waves:
        shown = np.where(depth > wave, rng.uniform(0.15, 0.75), shown)
    for wave in waves[:3]:
        shown = np.where(np.abs(depth - wave) < 0.01, 1.0, shown)
    for _ in range(rng.integers(1, 5)):
        y, x = rng.uniform(0.15, 0.85, 2)
        radius, flat = rng.uniform(0.05, 0.16), rng.uniform(0.7, 1.4)
        inside = ((depth - y) * flat) ** 2 + (across - x) ** 2 < radius**2
        shown = np.where(inside, rng.choice([0.0, 0.0, rng.uniform(0.7, 1.0)]), shown)
    return shown
