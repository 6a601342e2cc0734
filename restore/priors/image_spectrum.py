"""What the images of a prior are like as a Gaussian: their mean intensity, and their power by spatial frequency.

At high noise a trained denoiser is near that of the Gaussian with the mean and the covariance of its images (Wang,
Vastola, "The unreasonable effectiveness of Gaussian score approximation for diffusion models and its applications",
TMLR 2024). Stored on a prior's card, measured by `restore train gaussian`; samplers begin with it. Touches no files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.error_spectrum import HIGHEST, frequency

BANDS = 24
"""Bands of |f| of equal ratio, from `LOWEST` cycles a pixel to the diagonal: power falls as 1/|f|^2."""
LOWEST = 1 / 512
LEAST_SIDE = 16


@dataclasses.dataclass(frozen=True)
class ImageSpectrum:
    """A stationary Gaussian, isotropic, channels alike and independent.

    mean: intensity. level_std: deviation of the mean intensities of whole images. frequencies: ascending, in cycles a
    pixel. power: of the DFT with the norm "ortho" at each, in squared intensities: its mean over all frequencies is the
    variance of a pixel. Raises ConfigError.
    """

    mean: float
    level_std: float
    frequencies: tuple[float, ...]
    power: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(
            0 < a < b for a, b in zip(self.frequencies, self.frequencies[1:], strict=False)
        )
        fits = len(self.frequencies) == len(self.power) >= 2 and rising
        sound = math.isfinite(self.mean) and all(0 < v < math.inf for v in self.power)
        if not (fits and sound and 0 <= self.level_std < math.inf):
            raise ConfigError(
                "an image spectrum needs a finite mean, a deviation of zero or more, and two or more rising "
                f"frequencies with as many powers above zero; got {self.mean}, {self.level_std}, "
                f"{len(self.frequencies)} frequencies and {len(self.power)} powers"
            )

    def covariance(self, shape: Sequence[int], *, centred: bool = True) -> Tensor:
        """The eigenvalues on the grid of the 2-D DFT of planes (H, W), the last two of shape, in double precision.

        Between frequencies the logarithm is linear in log |f|, outside constant. centred: around the mean; else around
        zero, for images that may have any phase.
        """
        grid = frequency(shape)
        xs = torch.tensor(self.frequencies, dtype=torch.float64).log()
        ys = torch.tensor(self.power, dtype=torch.float64).log()
        x = grid.clamp(min=self.frequencies[0], max=self.frequencies[-1]).log()
        right = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
        t = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
        found = torch.lerp(ys[right - 1], ys[right], t).exp()
        found[0, 0] = grid.numel() * (self.level_std**2 + (0.0 if centred else self.mean**2))
        return found

    def describe(self) -> dict[str, Any]:
        """The entry of a card."""
        four = {
            "frequencies": [float(f"{v:.4g}") for v in self.frequencies],
            "power": [float(f"{v:.4g}") for v in self.power],
        }
        return {
            "mean": float(f"{self.mean:.4g}"),
            "level_std": float(f"{self.level_std:.4g}"),
            **four,
        }

    @classmethod
    def from_card(cls, entry: dict[str, Any]) -> ImageSpectrum:
        """From the entry of a card. Raises KeyError, TypeError, ValueError, ConfigError."""
        rows = (tuple(float(v) for v in entry[name]) for name in ("frequencies", "power"))
        return cls(float(entry["mean"]), float(entry["level_std"]), *rows)


def measured_images(images: Sequence[Tensor]) -> ImageSpectrum:
    """The spectrum of images (C, H, W), each with the same weight, the channels averaged.

    As the DFT sees them, with the jump from one edge to the other. Raises ConfigError for fewer than two images, for
    small ones, and where all are the same constant.
    """
    if len(images) < 2 or any(min(i.shape[-2:]) < LEAST_SIDE for i in images):
        raise ConfigError(
            f"an image spectrum is measured on two images or more, with sides of {LEAST_SIDE} pixels or more"
        )
    levels = torch.stack([image.double().mean() for image in images])
    power, place, count = torch.zeros(3, BANDS, dtype=torch.float64)
    for image in images:
        found = torch.fft.fft2(image.double(), norm="ortho").abs().square().mean(0).flatten()
        f = frequency(image.shape[-2:]).flatten()
        found, f = found[1:], f[1:]  # without the mean
        band = ((f / LOWEST).log() / math.log(HIGHEST / LOWEST) * BANDS).long().clamp(0, BANDS - 1)
        share = 1 / len(f)
        power.index_add_(0, band, share * found)
        place.index_add_(0, band, share * f.log())
        count.index_add_(0, band, torch.full_like(f, share))
    there = (count > 0) & (power > 0)
    if int(there.sum()) < 2:
        raise ConfigError("an image spectrum needs images that are not constant")
    return ImageSpectrum(
        float(levels.mean()), float(levels.std()),
        tuple((place[there] / count[there]).exp().tolist()), tuple((power[there] / count[there]).tolist()),
    )  # fmt: skip
