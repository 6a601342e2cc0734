"""One frame for ResShift, RDDM and IR-SDE: x_t = a x0 + (1 - a) y + c n, and what networks predict of it.

x0 is the clean image, y the degraded one at its size, n standard normal. Pure functions of tensors; called by the
samplers, the conditional priors and training. Schedules stand in one file a method.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from torch import Tensor

from restore.errors import ConfigError

Head = Literal[
    "x0", "residual", "noise", "scaled-noise", "velocity",
    "residual+noise", "residual+sum", "x0+noise", "x0+sum",
]  # fmt: skip
"""What a network returns.

One tensor: x0; the residual r = y - x0; the noise n; "scaled-noise" c n; the velocity of a variance-preserving pair.
Two: residual or x0, and the noise or the "sum" of the first and the noise (RDDM's "add_noise").
"""
HEADS: tuple[str, ...] = get_args(Head)


@dataclasses.dataclass(frozen=True)
class Level:
    """One noise level of a bridge: the time t that a network is told, and the factors a and c.

    scale: the factor that the network's image input is multiplied by (published networks differ).
    """

    t: float
    a: float
    c: float
    scale: float = 1.0

    @property
    def sigma(self) -> float:
        """Noise of (x_t - (1 - a) y) / a, which is x0 plus white noise; infinite where a is 0."""
        return self.c / self.a if self.a > 0 else math.inf


@dataclasses.dataclass(frozen=True)
class Times:
    """The times that a solver visits, descending, with a, c and lambda = log(a/c), infinite where c is 0."""

    t: tuple[float, ...]
    a: tuple[float, ...]
    c: tuple[float, ...]
    lam: tuple[float, ...]

    def level(self, i: int) -> Level:
        """The factors at the i-th time."""
        return Level(self.t[i], self.a[i], self.c[i])


def mix(x0: Tensor, y: Tensor, n: Tensor, level: Level) -> Tensor:
    """The forward process: x_t from clean image, degraded image and noise, all of one shape."""
    return level.a * x0 + (1 - level.a) * y + level.c * n


def implied_noise(x: Tensor, x0: Tensor, y: Tensor, level: Level) -> Tensor:
    """The n that makes x_t = x consistent with x0. Undefined where c is 0."""
    return (x - level.a * x0 - (1 - level.a) * y) / level.c


def clean_estimate(
    head: str,
    out: tuple[Tensor, ...],
    x: Tensor,
    y: Tensor,
    level: Level,
    *,
    stationary_std: float = 1.0,
) -> Tensor:
    """x0 from a network's output. x: the state x_t. stationary_std: the limit of c, which velocities need.

    Two-tensor heads state x0 by their first tensor. Noise heads divide by a. Raises ConfigError for
    unknown heads and for noise heads where a is 0.
    """
    first = out[0]
    if head.startswith("x0"):
        return first
    if head.startswith("residual"):
        return y - first
    if head == "velocity":  # v = -(c/s)(x0 - y) + s a n
        return level.a * x + (1 - level.a) * y - level.c / stationary_std * first
    if head not in HEADS:
        raise ConfigError(f"unknown head '{head}'; known: {', '.join(HEADS)}")
    if level.a == 0:
        raise ConfigError(
            f"a network that predicts the noise says nothing where no image is left (time {level.t:g})"
        )
    noise = first if head == "scaled-noise" else level.c * first
    return (x - (1 - level.a) * y - noise) / level.a
