"""A Gaussian field that varies slowly, such as haze: the exact denoiser by one gain for each frequency.

Used by `restore.priors.structured`; touches no files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.second import Estimate, Seen, StructuredNoise


class SmoothField(StructuredNoise):
    """u ~ N(0, C) on the last two dimensions: correlated as exp(-r^2 / (2 width^2)), r in pixels, mirrored at borders.

    shape: (H, W). std: of a pixel, in the mean. The cosine transform (DCT-II) diagonalises C. Channels and slices are
    independent. Raises ConfigError for a deviation or a width that is not above 0.
    """

    def __init__(self, shape: tuple[int, ...], std: float, width: float) -> None:
        if not (0 < std < math.inf and 0 < width < math.inf):
            raise ConfigError(
                f"structured noise: the deviation is {std:g} and the width {width:g}, expected numbers above 0"
            )
        self.bases = [_cosines(n) for n in shape]
        rows, columns = (
            torch.exp(-0.5 * (math.pi * width / n * torch.arange(n, dtype=torch.float64)) ** 2)
            for n in shape
        )
        spectrum = rows[:, None] * columns
        self.spectrum = std**2 * spectrum.numel() / spectrum.sum() * spectrum

    def estimate(self, u: Tensor, sigma: float, seen: Seen | None = None) -> Estimate:
        """C (C + sigma^2)^-1 u, whose error has the covariance sigma^2 C (C + sigma^2)^-1."""
        down, across = (basis.to(u) for basis in self.bases)
        c = self.spectrum.to(u.device, u.real.dtype)
        gain = c / (c + sigma**2)

        def filtered(v: Tensor, by: Tensor) -> Tensor:
            return down.mT @ (by * (down @ v @ across.mT)) @ across

        return Estimate(filtered(u, gain), lambda v: filtered(v, gain.sqrt()))


def _cosines(n: int) -> Tensor:
    """The orthonormal DCT-II, (n, n): a row is a frequency."""
    k = torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * (2 / n) ** 0.5
    basis[0] /= 2**0.5
    return basis
