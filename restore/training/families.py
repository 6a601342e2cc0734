"""Which noise levels a conditional model is trained on and how its errors are weighed: one family a bridge.

Called by the training of conditional models. "any" serves all bridges; the others are the published trainings of their
method, for a network that answers with x0. Images are in [0, 1]; a chain that runs in [-1, 1] has half its noise there.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from restore.bridges import rddm
from restore.bridges.base import Level, implied_noise
from restore.bridges.irsde import IRSDESchedule
from restore.bridges.rddm import RDDMSchedule
from restore.bridges.resshift import ResShiftSchedule
from restore.config import check_settings, did_you_mean, shared
from restore.errors import ConfigError
from restore.training.denoiser import DenoiserTraining, noise_levels


class Drawn(NamedTuple):
    """Levels of a batch: the factors a and c (positive), and the time index of each, all (N,)."""

    a: Tensor
    c: Tensor
    t: Tensor


class Family(Protocol):
    """Levels and loss of one kind of bridge."""

    @property
    def bridge(self) -> str:
        """The sampler it is for, "" for all."""

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Levels of `count` crops."""

    def loss(self, estimate: Tensor, x: Tensor, x0: Tensor, y: Tensor, drawn: Drawn) -> Tensor:
        """A number. estimate of x0, state x, x0, degraded y: (N, channels, H, W)."""


@dataclasses.dataclass(frozen=True)
class AnyBridge:
    """Every level: sigma log-normal for half of the crops, log-uniform over the whole range for the others.

    Two thirds of the draws lie above 0.3, where the degraded image alone says anything: of the two levels at which the
    tuned samplers ask, the first, which restores, is there; the second, at 0.03, refines.
    Errors are weighed by EDM's unit weight on the network's own output (Karras and others, NeurIPS 2022).
    """

    bridge: str = ""
    log_sigma_mean: float = shared(DenoiserTraining, "log_sigma_mean", 0.5)
    log_sigma_std: float = shared(DenoiserTraining, "log_sigma_std", 1.5)
    wide_share: float = shared(DenoiserTraining, "wide_share", 0.5)
    sigma_min: float = shared(DenoiserTraining, "sigma_min")
    sigma_max: float = shared(DenoiserTraining, "sigma_max")
    sigma_data: float = shared(DenoiserTraining, "sigma_data", 0.2)

    def __post_init__(self) -> None:
        check_settings(self)

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """a = 1, c = sigma."""
        sigma = noise_levels(self, count, generator)
        return Drawn(torch.ones(count), sigma, torch.zeros(count, dtype=torch.long))

    def loss(self, estimate: Tensor, x: Tensor, x0: Tensor, y: Tensor, drawn: Drawn) -> Tensor:
        """Mean square of the error over c_out."""
        sigma = (drawn.c / drawn.a)[:, None, None, None].to(x0)
        c_out = sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()
        return ((estimate - x0) / c_out).square().mean()


@dataclasses.dataclass(frozen=True)
class ResShiftFamily:
    """Uniform times of the published 15-step chain, mean square error of x0 (Yue, Wang, Loy, NeurIPS 2023)."""

    bridge: str = "resshift"

    @cached_property
    def schedule(self) -> ResShiftSchedule:
        """The chain whose times are drawn."""
        return ResShiftSchedule(15, min_noise=0.04)

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """t uniform."""
        t = torch.randint(self.schedule.count, (count,), generator=generator)
        eta = self.schedule.eta[t]
        return Drawn((1 - eta).float(), (self.schedule.kappa * eta.sqrt() / 2).float(), t)

    def loss(self, estimate: Tensor, x: Tensor, x0: Tensor, y: Tensor, drawn: Drawn) -> Tensor:
        """The paper's unweighted loss."""
        return self.schedule.loss("x0", estimate, x0, y, torch.zeros_like(x0), drawn.t).mean()


@dataclasses.dataclass(frozen=True)
class RDDMFamily:
    """Uniform times of the 1000, mean absolute error of the residual: the objective SM-Res (Liu and others, CVPR 2024).

    sum_scale: the variance of the last level in [-1, 1].
    """

    bridge: str = "rddm"
    sum_scale: float = 0.01

    @cached_property
    def schedule(self) -> RDDMSchedule:
        """The chain whose times are drawn."""
        return RDDMSchedule(sum_scale=self.sum_scale)

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """t uniform."""
        t = torch.randint(self.schedule.length, (count,), generator=generator)
        return Drawn((1 - self.schedule.A[t]).float(), (self.schedule.B[t] / 2).float(), t)

    def loss(self, estimate: Tensor, x: Tensor, x0: Tensor, y: Tensor, drawn: Drawn) -> Tensor:
        """L1 of the residual y - x0."""
        return rddm.loss("residual", (y - estimate,), x0, y, torch.zeros_like(x0)).mean()


@dataclasses.dataclass(frozen=True)
class MRSFamily:
    """Uniform times of IR-SDE's chain, L1 distance from the optimal reverse step (Luo and others, ICML 2023)."""

    bridge: str = "mrs"

    @cached_property
    def schedule(self) -> IRSDESchedule:
        """The chain whose times are drawn."""
        return IRSDESchedule()

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """t uniform in 1..T."""
        t = torch.randint(1, self.schedule.length + 1, (count,), generator=generator)
        return Drawn(self.schedule.a[t].float(), self.schedule.s[t].float(), t)

    def loss(self, estimate: Tensor, x: Tensor, x0: Tensor, y: Tensor, drawn: Drawn) -> Tensor:
        """The noise that the estimate implies, put through one reverse step."""
        levels = zip(drawn.a.tolist(), drawn.c.tolist(), strict=True)
        parts = [
            implied_noise(x[i], estimate[i], y[i], Level(0.0, a, c))
            for i, (a, c) in enumerate(levels)
        ]
        return self.schedule.loss(torch.stack(parts), x, x0, y, drawn.t).mean()


FAMILIES: dict[str, type[Family]] = {
    "any": AnyBridge, "resshift": ResShiftFamily, "rddm": RDDMFamily, "mrs": MRSFamily,
}  # fmt: skip


def family(name: str) -> Family:
    """The family of a bridge. Raises ConfigError for unknown names."""
    if name not in FAMILIES:
        raise ConfigError(f"no training for the bridge '{name}'{did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]()
