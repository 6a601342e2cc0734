"""A slice or a volume that beats and breathes: frames of one image, moved smoothly and periodically by a seed.

May be called by the simulators, benchmarks and tests; touches nothing but its arguments. A phantom: nothing of it was
measured of a heart. The truth at any time is known, which scans of moving people never tell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

HEART_HZ, BREATH_HZ = (0.9, 1.3), (0.2, 0.3)
"""Ranges that a seed draws its two rates from: of people at rest."""

SHIFT, CONTRACTION = 0.04, 0.3
"""Breathing moves by up to this share of the rows; a beat narrows the middle of the heart by this share."""

HEART, REACH = 0.12, 0.3
"""Deviation of the Gaussian of the beat, and of that of breathing, as shares of the image's sides."""


@dataclasses.dataclass(frozen=True)
class Motion:
    """Where each point of an image comes from at a time: x(r, t) = image(r + breath(t) u(r) + beat(t) v(r)).

    u: along the rows, strongest about a line of them; v: outwards from the middle of the heart, so that it narrows.
    Both are Gaussians in space and raised cosines, 0 at rest and 1 at most, in time.

    heart_hz, breath_hz: rates. phases: of the two at time 0, in turns. centre: of the heart, line: of breathing, as
    shares of the sides (row, column).
    """

    heart_hz: float
    breath_hz: float
    phases: tuple[float, float]
    centre: tuple[float, float]
    line: float

    @classmethod
    def of_seed(cls, seed: int) -> Motion:
        """The motion of a seed, drawn from a generator of its own."""
        rng = np.random.default_rng([seed, 0x4D0710])
        heart, breath = rng.uniform(*HEART_HZ), rng.uniform(*BREATH_HZ)
        phases = (float(rng.uniform()), float(rng.uniform()))
        centre = (float(rng.uniform(0.42, 0.52)), float(rng.uniform(0.42, 0.58)))
        return cls(float(heart), float(breath), phases, centre, float(rng.uniform(0.6, 0.7)))

    def states(self, time_s: float) -> tuple[float, float]:
        """(breath, beat) at a time in seconds, each in 0..1."""
        breath = (1 - np.cos(2 * np.pi * (self.breath_hz * time_s + self.phases[0]))) / 2
        beat = (1 - np.cos(2 * np.pi * (self.heart_hz * time_s + self.phases[1]))) / 2
        return float(breath), float(beat)

    def moved(self, image: NDArray[np.floating], time_s: float) -> NDArray[np.float64]:
        """The image (..., rows, columns), real, at a time in seconds: every slice of it by the same motion.

        Cubic splines; beyond the edge the image goes on with its edge.
        """
        rows, columns = image.shape[-2:]
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        breath, beat = self.states(time_s)
        down = SHIFT * rows * breath * np.exp(-(((y / rows - self.line) / REACH) ** 2) / 2)
        dy, dx = y - self.centre[0] * rows, x - self.centre[1] * columns
        near = np.exp(-((dy / rows) ** 2 + (dx / columns) ** 2) / (2 * HEART**2))
        grown = CONTRACTION * beat * near
        places = np.stack([y + down + grown * dy, x + grown * dx])
        planes = image.reshape(-1, rows, columns).astype(np.float64)
        frames = [map_coordinates(plane, places, order=3, mode="nearest") for plane in planes]
        return np.stack(frames).reshape(image.shape)
