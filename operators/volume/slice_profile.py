"""How sensitive a slice is along its normal, and the matrix by which thin cells along an axis become slices.

Called by the operators of this folder and by whoever makes thick slices. Physical millimetres; imports numpy and scipy
only.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from restore.config import did_you_mean
from restore.errors import ConfigError

Array = NDArray[np.float64]
Shape = Literal["rect", "gauss"]
SHAPES = ("rect", "gauss")

FWHM_OF_DEVIATION = 2 * math.sqrt(2 * math.log(2))
TAIL_DEVIATIONS = 3.0
"""Where a Gaussian profile ends: beyond lie 0.3 % of its area."""

COVERED = 0.99
"""Of a slice's profile that must lie on the grid of thin cells; a slice of which less does is not explained by it."""


@dataclasses.dataclass(frozen=True)
class SliceProfile:
    """A profile of unit area, even about the slice's centre.

    shape: "rect", or "gauss", whose full width at half maximum is `width_mm`. width_mm: above 0, the thickness of
    the slice. Raises ConfigError.
    """

    shape: Shape
    width_mm: float

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ConfigError(
                f"slice profile '{self.shape}'{did_you_mean(self.shape, SHAPES)}; there are: {', '.join(SHAPES)}"
            )
        if not 0 < self.width_mm < math.inf:
            raise ConfigError(f"slice profile: a width of {self.width_mm} mm, expected one above 0")

    @classmethod
    def parse(cls, words: str, thickness_mm: float) -> SliceProfile:
        """ "rect", "gauss" (as wide as the slice is thick) or "gauss:FWHM" in mm. Raises ConfigError."""
        shape, colon, width = words.partition(":")
        if colon and shape == "rect":
            raise ConfigError(
                f"profile '{words}': a rectangle is as wide as the slice is thick; give --thickness"
            )
        try:
            found = float(width) if colon else thickness_mm
        except ValueError:
            raise ConfigError(
                f"profile '{words}': expected rect, gauss or gauss:FWHM with a full width at half maximum in mm, such "
                "as gauss:4.5"
            ) from None
        return cls(shape, found)  # type: ignore[arg-type]  # checked above

    @property
    def reach_mm(self) -> float:
        """Distance from the centre beyond which the slice sees (nearly) nothing."""
        if self.shape == "rect":
            return self.width_mm / 2
        return TAIL_DEVIATIONS * self.width_mm / FWHM_OF_DEVIATION

    def area_below(self, at_mm: Array) -> Array:
        """The area of the profile below a place relative to its centre: 0 to 1."""
        if self.shape == "rect":
            return np.clip(at_mm / self.width_mm + 0.5, 0.0, 1.0)
        return np.asarray(ndtr(at_mm * (FWHM_OF_DEVIATION / self.width_mm)))


def sampling_matrix(centres_mm: Array, profile: SliceProfile, cells: int, pitch_mm: float) -> Array:
    """Rows of weights by which cells become slices: the exact integral over cells that are constant inside.

    centres_mm: (slices,), of the slices, from the centre of cell 0. cells of `pitch_mm` follow each other without gaps.
    Returns (slices, cells), float64. Rows add up to one, so that a flat object keeps its intensity at the ends of the
    grid too; a slice less than `COVERED` of which lies on the grid has a row of zeros: it tells of something else.
    """
    edges = (np.arange(cells + 1) - 0.5) * pitch_mm
    weights = np.diff(profile.area_below(edges - np.asarray(centres_mm)[:, None]), axis=1)
    covered = weights.sum(1, keepdims=True)
    return np.where(covered >= COVERED, weights / np.maximum(covered, COVERED), 0.0)
