"""Noise of neighbouring slices that is not independent: the setting, what it needs, and where it has to be off.

For samplers that join the slices of a volume by total variation. Every slice's noise is N(0, I); with a negative
correlation the noise of neighbours has opposite signs, and what the denoiser leaves of it cancels where total variation
averages (measured in benchmarks/VOLUME_3D.md). Touches nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar

from restore.errors import ConfigError
from restore.problem import Problem
from restore.randomness import Draws

Z_NOISE = "correlation of the noise of neighbouring slices, for one sample of a volume"


class Correlated(Protocol):
    """A sampler, a frozen dataclass, with the settings."""

    @property
    def tv_weight(self) -> float:
        """Of total variation along the slices."""

    @property
    def z_noise(self) -> float:
        """The correlation r."""


S = TypeVar("S", bound=Correlated)


def neighbouring(draws: Draws, r: float, problem: Problem) -> Draws:
    """Draws whose neighbouring slices correlate by r. Raises ConfigError where the measurement has no slices."""
    axis = problem.slice_axis
    if not r:
        return draws
    if axis is None:
        raise ConfigError(
            f"z_noise correlates the noise of slices, and the measurement {tuple(problem.y.shape)} has no slice "
            "dimension; give (slices, ...), or set z_noise=0"
        )
    return draws.along_slices(r, axis)


def independent(sampler: S, samples: int) -> tuple[S, tuple[str, ...]]:
    """The sampler with independent slices where several samples are drawn, and notes on its z_noise.

    Slices whose noise is correlated spread otherwise along z than the posterior does. Noise of opposite signs that
    nothing averages along z leaves neighbouring slices further apart.
    """
    if not sampler.z_noise:
        return sampler, ()
    if samples == 1:
        opposed = sampler.z_noise < 0 and not sampler.tv_weight
        said = f"z_noise {sampler.z_noise:g} without total variation along the slices (tv_weight 0) drives them apart"
        return sampler, (f"{said}: set z_noise=0 as well",) if opposed else ()
    changed: Any = dataclasses.replace(sampler, z_noise=0.0)  # type: ignore[type-var]
    return changed, (
        f"z_noise is 0 instead of {sampler.z_noise:g}: with correlated noise the spread of several samples along the "
        "slices would be wrong",
    )
