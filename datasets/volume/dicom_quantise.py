"""Real intensities as 16-bit integers with a slope and an intercept, for the DICOM writer.

May be called by the DICOM writer only; touches nothing but its arguments. DICOM states slope and
intercept as decimal strings of at most 16 characters: the rounding uses the numbers that the
strings say, not those before they were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

STEPS = 65534
"""One step fewer than 16 bits have, so that the cut of the slope's string cannot overflow."""

WHOLE_TOLERANCE = 2.0**-23
"""How far, relative to the largest value, data may be from whole steps and still count as whole:
the rounding of float32."""

SMALLEST_RELATIVE_SLOPE = 1e-9
"""Slope over largest value: below this the strings' eleven digits no longer carry the steps."""


@dataclass(frozen=True, eq=False)
class Stored:
    """pixels: (z, y, x) uint16 or int16; value = slope * pixel + intercept, by the two strings;
    window: centre and width, in the volume's units, that shows the middle 98 % of the values.
    """

    pixels: NDArray[np.uint16] | NDArray[np.int16]
    slope_text: str
    intercept_text: str
    window: tuple[float, float]

    def step(self, value: float) -> int:
        """The integer that stands for an intensity within the range of the data."""
        return round((value - float(self.intercept_text)) / float(self.slope_text))

    @property
    def signed(self) -> bool:
        """Whether the integers carry a sign."""
        return self.pixels.dtype == np.int16


def quantise(
    data: NDArray[np.floating],
    preferred: Sequence[tuple[float, float]],
    measured: NDArray[np.bool_] | None = None,
) -> Stored:
    """Store finite real data without clipping, each value within half a slope.

    preferred: (slope, intercept) to try first: used where every value is a whole step of it.
    measured: True for the values that the window is made for, all by default.
    """
    low, high = float(data.min()), float(data.max())
    shown = data if measured is None or not measured.any() else data[measured]
    first, last = np.percentile(shown, [1, 99])
    window = (float(first + last) / 2, max(float(last - first), 1e-3 * (high - low), 1e-6))
    for slope, intercept in preferred:
        exact = _whole_steps(data, slope, intercept, low, high)
        if exact is not None:
            return Stored(exact, _text(slope), _text(intercept), window)
    slope = max((high - low) / STEPS, max(abs(low), abs(high)) * SMALLEST_RELATIVE_SLOPE)
    slope_text, intercept_text = _text(slope or 1.0), _text(low)
    pixels = np.empty(data.shape, np.uint16)
    for out, plane in zip(pixels, data, strict=True):
        steps = (plane.astype(np.float64) - float(intercept_text)) / float(slope_text)
        out[...] = np.rint(steps)
    return Stored(pixels, slope_text, intercept_text, window)


def _whole_steps(
    data: NDArray[np.floating], slope: float, intercept: float, low: float, high: float
) -> NDArray[np.uint16] | NDArray[np.int16] | None:
    if float(_text(slope)) != slope or float(_text(intercept)) != intercept or slope <= 0:
        return None
    least, most = round((low - intercept) / slope), round((high - intercept) / slope)
    if least >= 0 and most <= np.iinfo(np.uint16).max:
        pixels = np.empty(data.shape, np.uint16)
    elif least >= np.iinfo(np.int16).min and most <= np.iinfo(np.int16).max:
        pixels = np.empty(data.shape, np.int16)
    else:
        return None
    for out, plane in zip(pixels, data, strict=True):
        steps = (plane.astype(np.float64) - intercept) / slope
        whole = np.rint(steps)
        if np.abs(steps - whole).max() * slope > WHOLE_TOLERANCE * max(abs(low), abs(high)):
            return None
        out[...] = whole
    return pixels


def _text(value: float) -> str:
    return format_number_as_ds(float(value))
