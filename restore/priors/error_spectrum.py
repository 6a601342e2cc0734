"""How far a denoiser is from the truth, by noise level and spatial frequency: the covariance of x0 given x, on average.

E(sigma, |f|) is the power of D(x, sigma) - x0 at the frequency f over images that no training saw. Around D(x, sigma)
an image scatters by about N(0, R) with R diagonal in Fourier; samplers that draw use it. Stored on a prior's card,
measured by `restore train`. Touches no files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.base import Denoiser

RINGS = 24
"""Bands of equal width of the spatial frequency, from 0 to that of the diagonal, sqrt(1/2) cycles a pixel."""
LEVELS = tuple(10 ** (-3 + i / 3) for i in range(13))
"""Noise levels of a table: 0.001 to 10 in units of the intensity range, three a decade."""
HIGHEST = math.sqrt(0.5)
"""The frequency of the diagonal, in cycles a pixel."""
_LEAST = 1e-30  # power of a ring without error, such as that of an image too small to reach it


@dataclasses.dataclass(frozen=True)
class ErrorSpectrum:
    """A table of E(sigma, |f|), in squared intensities a pixel: its mean over all frequencies is the squared error.

    sigmas: ascending noise levels. power: for each, the value in the middle of each of `rings` bands of |f|, zero or
    more. Raises ConfigError.
    """

    sigmas: tuple[float, ...]
    power: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        rings = {len(row) for row in self.power}
        values = [*self.sigmas, *(v for row in self.power for v in row)]
        rising = all(0 < a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        fits = len(self.sigmas) == len(self.power) >= 2 and len(rings) == 1 and min(rings) >= 1
        if not (fits and rising and all(0 <= v < math.inf for v in values)):
            raise ConfigError(
                f"an error spectrum needs two or more rising noise levels and as many rows of equal length, zero or "
                f"more and finite; got {len(self.sigmas)} levels and {len(self.power)} rows of {sorted(rings)} values"
            )

    def at(self, sigma: float, shape: Sequence[int]) -> Tensor:
        """E on the grid of the 2-D DFT of `shape` (H, W), in double precision.

        Between levels and bands the logarithm is linear in log sigma and |f|; below the lowest level the error falls
        with sigma^2, above the highest it stays.
        """
        rows = torch.tensor(self.power, dtype=torch.float64).clamp(min=_LEAST).log()
        row = _between(
            torch.tensor(self.sigmas, dtype=torch.float64).log(), rows.mT, math.log(sigma)
        )
        below = 2 * min(0.0, math.log(sigma / self.sigmas[0]))
        rings = rows.shape[1]
        place = frequency(shape) / HIGHEST * rings - 0.5
        low = place.floor().clamp(0, rings - 1)
        high = (low + 1).clamp(max=rings - 1)
        t = (place - low).clamp(0, 1)
        return (row[low.long()] * (1 - t) + row[high.long()] * t + below).exp()

    def describe(self) -> dict[str, Any]:
        """The entry of a card."""
        return {
            "sigmas": list(self.sigmas),
            "power": [[float(f"{v:.4g}") for v in row] for row in self.power],
        }

    @classmethod
    def from_card(cls, entry: dict[str, Any]) -> ErrorSpectrum:
        """From the entry of a card. Raises KeyError, TypeError, ValueError, ConfigError."""
        power = tuple(tuple(float(v) for v in row) for row in entry["power"])
        return cls(tuple(float(s) for s in entry["sigmas"]), power)


@torch.no_grad()
def measured(prior: Denoiser, images: Sequence[Tensor], *, seed: int = 0) -> ErrorSpectrum:
    """The table of a denoiser on images that its training did not see.

    images: (C, H, W) with the prior's channels, in its intensities, at least 8 pixels a side; one noise seed an image
    and level. Channels are averaged. Levels outside the prior's noise range are left out. Raises ConfigError.
    """
    if not images or any(min(i.shape[-2:]) < 8 for i in images):
        raise ConfigError(
            "an error spectrum is measured on one image or more, with sides of 8 pixels or more"
        )
    width = prior.intensity[1] - prior.intensity[0]
    sigmas = [width * s for s in LEVELS if prior.sigma_min <= width * s <= prior.sigma_max]
    power = []
    for i, sigma in enumerate(sigmas):
        total, weight = torch.zeros(2, RINGS, dtype=torch.float64)
        for k, image in enumerate(images):
            g = torch.Generator().manual_seed(seed + 1_000_003 * i + k)
            noise = torch.randn(image.shape, generator=g, dtype=torch.float32)
            error = prior((image + sigma * noise)[None], sigma)[0] - image
            found = torch.fft.fft2(error.double(), norm="ortho").abs().square().mean(0).flatten()
            ring = (frequency(image.shape[-2:]).flatten() / HIGHEST * RINGS).long()
            ring = ring.clamp(max=RINGS - 1)
            total.index_add_(0, ring, found)
            weight.index_add_(0, ring, torch.ones_like(found))
        power.append(tuple((total / weight.clamp(min=1)).tolist()))
    return ErrorSpectrum(tuple(sigmas), tuple(power))


def frequency(shape: Sequence[int]) -> Tensor:
    """|f| in cycles a pixel on the grid of the 2-D DFT."""
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[-2:])
    return torch.hypot(fy[:, None], fx[None, :])


def _between(xs: Tensor, columns: Tensor, x: float) -> Tensor:
    """Each of the columns (n, len(xs)) at x, linear between xs, constant outside."""
    k = int(torch.searchsorted(xs, x).clamp(1, len(xs) - 1))
    t = min(max((x - float(xs[k - 1])) / float(xs[k] - xs[k - 1]), 0.0), 1.0)
    return columns[:, k - 1] * (1 - t) + columns[:, k] * t
