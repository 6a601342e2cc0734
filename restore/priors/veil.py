"""Haze of ultrasound as a prior: veils that are positive, fall off with depth and are patchy.

Used by `restore.priors.structured`; touches no files.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.sought import Sought

LEVEL = 1.0
"""Deviation of the logarithm of the strength: veils of a third and of three times `std` are still usual."""
DECAY, DECAY_SPREAD = 2.0, 1.0
"""Fall of the logarithm over the picture's height, and its deviation."""
PATCHES = 0.4
"""Deviation of the logarithm where it is patchy."""
STARTS = (-2.0, -1.0, 0.0, 1.0)
"""Strengths that are tried first, of the veil without patches: deviations of the logarithm."""
FAINTEST = 0.03
"""Modes of the patches below this share of the strongest are left out."""


class Veil(Sought):
    """exp(log std + LEVEL a - (DECAY + DECAY_SPREAD b) depth + patches), with a, b and the patches' modes N(0, 1).

    shape: (H, W), the transducer above; depth from 0 to 1. std: of the image's white, the usual strength at the
    transducer. width: over which the patches vary, a share of the height: correlated as exp(-r^2 / (2 width^2)),
    mirrored at borders, so that cosines are their modes. The picture is the measurement. Raises ConfigError for numbers
    that are not above 0.
    """

    name: ClassVar[str] = "haze"
    caution: ClassVar[str] = (
        "what is haze and what is bright tissue only a prior of such pictures without haze can tell"
    )
    stride: ClassVar[float] = 0.15
    any_brightness: ClassVar[bool] = False
    lowest: ClassVar[float] = 0.03
    highest: ClassVar[float] = 3.0
    noisy: ClassVar[bool] = True
    start_count: ClassVar[int] = len(STARTS)
    # Of 30 phantoms none without haze reached 0.7, and none with haze of 0.1 stayed below 3.6.
    odds: ClassVar[float] = 2.0

    def __init__(self, shape: tuple[int, ...], std: float, width: float) -> None:
        if not (0 < std < math.inf and 0 < width < math.inf):
            raise ConfigError(
                f"haze: the deviation is {std:g} and the width {width:g}, expected numbers above 0"
            )
        rows, columns = shape
        down, across = _modes(rows, width * rows), _modes(columns, width * rows)
        self.rows, self.columns = _cosines(rows, len(down)), _cosines(columns, len(across))
        strengths = down[:, None] * across
        strengths[0, 0] = 0  # `a` is the mean
        size = torch.linalg.vector_norm(strengths)
        self.strengths = strengths * (PATCHES / size) if bool(size) else strengths
        self.depth = torch.arange(rows, dtype=torch.float64)[:, None] / rows
        self.std, self.shape = std, shape

    @property
    def unknowns(self) -> int:
        """How many numbers a veil has: a, b, the modes."""
        return 2 + self.strengths.numel()

    def starts(self, y: Tensor) -> list[Tensor]:
        """Veils without patches, of several strengths."""
        found = [y.new_zeros(*y.shape[:-2], self.unknowns) for _ in STARTS]
        for theta, a in zip(found, STARTS, strict=True):
            theta[..., 0] = a
        return found

    def field(self, theta: Tensor) -> Tensor:
        """The veils (*batch, H, W) of unknowns (*batch, unknowns)."""
        rows, columns, strengths, depth = self._like(theta)
        modes = theta[..., 2:].unflatten(-1, self.strengths.shape) * strengths
        a, b = theta[..., :1, None], theta[..., 1:2, None]
        falling = math.log(self.std) + LEVEL * a - (DECAY + DECAY_SPREAD * b) * depth
        return torch.exp(falling + rows.mT @ modes @ columns)

    def picture(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def pulled(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """Through the logarithm, whose unknowns they are."""
        rows, columns, strengths, depth = self._like(theta)
        g = -self.field(theta) * gradient
        a, b = LEVEL * g.sum((-2, -1)), -DECAY_SPREAD * (depth * g).sum((-2, -1))
        modes = (strengths * (rows @ g @ columns.mT)).flatten(-2)
        return torch.cat([a[..., None], b[..., None], modes], -1)

    def penalty(self, theta: Tensor) -> Tensor:
        """Of N(0, 1)."""
        return theta**2 / 2

    def slope(self, theta: Tensor) -> Tensor:
        """theta."""
        return theta

    def _like(self, x: Tensor) -> list[Tensor]:
        return [t.to(x) for t in (self.rows, self.columns, self.strengths, self.depth)]


def _modes(n: int, width: float) -> Tensor:
    """How strong the cosines over n pixels are in a field that varies over `width` pixels, the first ones."""
    found = torch.exp(-0.25 * (math.pi * width / n * torch.arange(n, dtype=torch.float64)) ** 2)
    return found[found > FAINTEST]


def _cosines(n: int, count: int) -> Tensor:
    """The first `count` cosines over n pixels, of mean square one: (count, n)."""
    k = torch.arange(count, dtype=torch.float64)[:, None]
    found = math.sqrt(2) * torch.cos(math.pi / n * k * (torch.arange(n) + 0.5))
    found[0] = 1
    return found
