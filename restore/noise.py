"""Noise models of measurements: how to draw it and how much to trust each sample.

A sampler needs one thing of a noise model, the precision (inverse variance per real channel) of every sample; a
simulation needs another, a draw. Lowest layer; knows neither operators nor samplers.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from restore.errors import ConfigError


class Noise(Protocol):
    """What every noise model offers."""

    def precision(self, y: Tensor) -> Tensor | float:
        """1/variance per real channel: a number, or a tensor that broadcasts to the measurement y."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy measurement of the noiseless one."""


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Additive white noise of standard deviation `std`, in the units of the measurement.

    Complex measurements: re and im get `std` each (so |n|^2 has mean 2 std^2). `std` may be a tensor that
    broadcasts to the measurement, such as one value per slice. Raises ConfigError.
    """

    std: float | Tensor

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.std) > 0).all()):
            raise ConfigError(
                f"noise std must be positive, got {self.std}; give noise=None for noiseless data"
            )

    def precision(self, y: Tensor) -> Tensor | float:
        """1/std^2."""
        return 1.0 / self.std**2

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Clean + std * n."""
        shape = (*clean.shape, 2) if clean.is_complex() else clean.shape
        n = torch.randn(
            shape,
            generator=generator,
            dtype=clean.real.dtype if clean.is_complex() else clean.dtype,
        )
        return clean + self.std * (torch.view_as_complex(n) if clean.is_complex() else n).to(
            clean.device
        )


@dataclasses.dataclass(frozen=True)
class PostLogPoisson:
    """Transmission data after the logarithm: y = -log(N / photons), N ~ Poisson(photons exp(-l)).

    Variance of y is close to 1/N (error propagation), so the precision of a ray is its expected count. Line integrals
    are dimensionless. Zero counts are set to one half before the logarithm.
    """

    photons: float

    def __post_init__(self) -> None:
        if not self.photons > 0:
            raise ConfigError(f"photons per ray must be positive, got {self.photons}")

    def precision(self, y: Tensor) -> Tensor:
        """Counts of each ray, photons * exp(-y)."""
        return self.photons * torch.exp(-y)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Post-log noisy line integrals of noiseless ones."""
        return -torch.log(self.counts(clean, generator).clamp(min=0.5) / self.photons)

    def counts(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Poisson counts (pre-log) of noiseless line integrals."""
        mean = (self.photons * torch.exp(-clean)).cpu()
        return torch.poisson(mean, generator=generator).to(clean.device)


@dataclasses.dataclass(frozen=True)
class PreLogPoisson:
    """Counts N ~ Poisson(mean) as measured, for the non-linear Beer-Lambert model; precision 1/N."""

    def precision(self, y: Tensor) -> Tensor:
        """1/max(N, 1), the inverse variance of a count."""
        return 1.0 / y.clamp(min=1.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Counts of mean `clean`."""
        return torch.poisson(clean.cpu(), generator=generator).to(clean.device)
