"""Scaling: an explicit, invertible map between measured units and the unit range a prior was trained in.

Applied around a sampler and stored with its result; never a clamp in the middle. Lowest layer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError

CT_WINDOW_HU = (
    -1000.0,
    1500.0,
)  # air to dense bone: maps to [0, 1]; values beyond are kept, not clipped
WINDOW_RULE = f"window {CT_WINDOW_HU[0]:g} to {CT_WINDOW_HU[1]:g} HU"
PEAK_RULE = "0.999 quantile of the magnitude"
PICTURE_RULE = "bit depth"
"""How intensities become [0, 1], in the words of a prior's card: CT, MR, pictures."""
CT_MINIMUM_HU = -500.0  # a volume of unknown modality that reaches below this is taken for CT in HU


@dataclasses.dataclass(frozen=True)
class Scaling:
    """physical = scale * unit. A pure factor keeps linear operators linear: A(physical) = scale * A(unit)."""

    scale: float = 1.0
    rule: str = "none"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.scale < float("inf")):
            raise ConfigError(
                f"scaling must be a positive number, got {self.scale} from rule '{self.rule}'"
            )

    def to_unit(self, x: Any) -> Any:
        """Physical values (image or, by linearity, measurement) in the prior's units."""
        return x / self.scale

    def to_physical(self, x: Any) -> Any:
        """Unit values in the measurement's own units."""
        return x * self.scale

    @classmethod
    def quantile(cls, image: Tensor, q: float = 0.999) -> Scaling:
        """Magnitude quantile of an image to 1. Raises ConfigError for an image of zeros."""
        magnitude = image.abs().flatten()
        rank = max(0, min(magnitude.numel() - 1, round(q * (magnitude.numel() - 1))))
        value = float(torch.sort(magnitude).values[rank])
        if not value > 0:
            value = float(magnitude.max())
        if not value > 0:
            raise ConfigError("the image to take the intensity scale from is zero everywhere")
        return cls(value, f"quantile {q:g} of the magnitude")
