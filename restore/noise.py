"""Noise models of measurements: how to draw it and how much to trust each sample.

A sampler needs one thing of a noise model, the precision (inverse variance per real channel) of every sample; a
simulation needs another, a draw. Lowest layer; knows neither operators nor samplers.

Noise is exact (`Exact`: there is none), known (any other model), estimated (`restore.unknown_noise` makes a model from
the measurement) or unknown (None: nobody has said, and nobody has estimated yet).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError


class Noise(Protocol):
    """What every noise model offers."""

    def precision(self, y: Tensor) -> Tensor | float | None:
        """1/variance per real channel: a number, or a tensor that broadcasts to the measurement y; None if there is no
        noise."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy measurement of the noiseless one."""


@dataclasses.dataclass(frozen=True)
class Exact:
    """No noise: the measurement is A x to the last digit, and samplers follow it to the last digit."""

    def precision(self, y: Tensor) -> None:
        """None: there is no variance to weigh with."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Clean itself."""
        return clean


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Additive white noise of standard deviation `std`, in the units of the measurement.

    Complex measurements: re and im get `std` each (so |n|^2 has mean 2 std^2). `std` may be a tensor that
    broadcasts to the measurement, such as one value per slice. Raises ConfigError.
    """

    std: float | Tensor

    def __post_init__(self) -> None:
        std = torch.as_tensor(self.std)
        if not bool(((std > 0) & torch.isfinite(std)).all()):
            raise ConfigError(
                f"noise std must be positive and finite, got {self.std}; noise=0 says that the measurement is exact"
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
        if not 0 < self.photons < math.inf:
            raise ConfigError(f"photons per ray must be positive and finite, got {self.photons}")

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
class EdgeError:
    """Noise, and an operator that puts edges a little beside where they are: one of pixels that bone fills in part.

    `noise`: the rest. `bins`: the deviation of where an edge falls along the last axis, in samples of it (a detector's
    bins). A sample's error from that is `bins` times the difference to its neighbours, their root mean square, and its
    variance is added to the noise's. Raises ConfigError.
    """

    noise: Noise
    bins: float

    def __post_init__(self) -> None:
        if not 0 < self.bins < math.inf:
            raise ConfigError(f"edge error must be positive and finite, got {self.bins} bins")

    def precision(self, y: Tensor) -> Tensor | float | None:
        """1/(variance of the noise + bins^2 times the mean square of the differences to the neighbours)."""
        precision = self.noise.precision(y)
        if precision is None or y.shape[-1] < 2:
            return precision
        # What was not measured may be NaN, and has no edge.
        steps = y.diff(dim=-1).abs().square().nan_to_num(0.0)
        ends = steps[..., :1], steps[..., -1:]
        before, after = torch.cat((ends[0], steps), -1), torch.cat((steps, ends[1]), -1)
        # p / (1 + p v) is 1 / (1/p + v), and zero where p is.
        return precision / (1 + precision * ((self.bins**2 / 2) * (before + after)))

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """As of `noise`: the error of the operator is no chance."""
        return self.noise.sample(clean, generator)


@dataclasses.dataclass(frozen=True)
class PreLogPoisson:
    """Counts N ~ Poisson(mean) as measured, for the non-linear Beer-Lambert model; precision 1/N."""

    def precision(self, y: Tensor) -> Tensor:
        """1/max(N, 1), the inverse variance of a count."""
        return 1.0 / y.clamp(min=1.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Counts of mean `clean`."""
        return torch.poisson(clean.cpu(), generator=generator).to(clean.device)


def noise_model(value: Any) -> Noise | None:
    """What a caller means by `noise`: 0 is `Exact`, another number `Gaussian`, a model itself.

    None and "estimate" are None: to be estimated. Numbers may be Python's, numpy's or tensors of one value; a tensor or
    array of several is a `Gaussian` that broadcasts to the measurement. Raises ConfigError for anything else, and for
    levels that are negative or not finite.
    """
    if value is None or (isinstance(value, str) and value == "estimate"):
        return None
    if isinstance(value, type):
        raise ConfigError(
            f"noise is the class {value.__name__}, expected an instance of it: {value.__name__}(...)"
        )
    if hasattr(value, "precision") and hasattr(value, "sample"):
        return value
    if isinstance(value, Tensor) and value.is_meta:
        raise ConfigError("noise is a tensor on the device 'meta', which holds no numbers")
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.as_tensor(value.astype(np.float64))
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = float(value.detach())
    if isinstance(value, Tensor) and value.numel() and not value.is_complex():
        return Gaussian(value.detach())
    if isinstance(value, bool | str) or not isinstance(value, numbers.Real):
        raise ConfigError(
            f"noise is {value!r}, expected a standard deviation (0: the measurement is exact), a noise model, or "
            "'estimate'"
        )
    level = float(value)
    if not 0 <= level < math.inf:
        raise ConfigError(
            f"noise std must be zero or more and finite, got {level}; leave it out to have it estimated"
        )
    return Gaussian(level) if level else Exact()
