"""ResShift: the schedule that shifts a clean image to its degraded one, and what follows from it.

Forward process, posterior, network heads and training loss of Yue, Wang, Loy, "ResShift: efficient diffusion model
for image super-resolution by residual shifting", NeurIPS 2023. Called by the sampler and by training. Pure functions
of tensors; the schedule is kept in float64 and cast when it meets an image.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.config import check_settings, setting
from restore.errors import ConfigError

Respacing = Literal["sound", "official"]
InputScaling = Literal["none", "latent", "pixel"]
HEADS: tuple[str, ...] = ("x0", "residual", "noise", "scaled-noise")
"""What a ResShift network may be trained to return: xstart, residual, epsilon, epsilon_scale in the released code."""


@dataclasses.dataclass(frozen=True)
class ResShiftSchedule:
    """Levels t = 0 (least noise) .. T - 1 of x_t = (1 - eta_t) x0 + eta_t y + kappa sqrt(eta_t) n.

    length: T as trained, at least 2. sqrt(eta) runs from min(min_noise/kappa, min_noise) to etas_end, log-linearly in
    (t/(T-1))^power. respacing: "official" keeps int(k T/S), which loses the level
    where the chain starts; "sound" spreads the kept ones from 0 to T - 1. input_scaling: the factor that published
    networks expect on x_t, "latent" 1/sqrt(kappa^2 eta + 1) or "pixel" 1/(3 kappa sqrt(eta) + 1). Below, an index k
    counts the levels kept; networks are told the trained one, `times[k]`. Raises ConfigError.
    """

    length: int
    kappa: float = setting(
        2.0, "deviation of the noise where nothing of the image is left", above=0
    )
    power: float = setting(0.3, "how sqrt(eta) grows", above=0)
    min_noise: float = setting(
        0.2, "where sqrt(eta) begins: min_noise / kappa, at most min_noise", above=0
    )
    etas_end: float = setting(0.99, "where sqrt(eta) ends", above=0, at_most=1)
    n_steps: int | None = setting(None, "levels to keep; none: all", at_least=1)
    respacing: Respacing = setting(
        "sound", "which levels are kept; official loses the one where the chain starts"
    )
    input_scaling: InputScaling = setting(
        "none", "the factor that a published network expects on its input"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.length < 2 or self.count > self.length:
            raise ConfigError(
                "ResShift: a schedule has two levels or more and keeps at most all of them (n_steps), got "
                f"{self.count} of {self.length}"
            )
        if not self._first < self.etas_end:
            raise ConfigError(
                f"ResShift: etas_end must lie above the first sqrt(eta) {self._first:.4g}, got {self.etas_end}"
            )

    @property
    def _first(self) -> float:
        return min(self.min_noise / self.kappa, self.min_noise)

    @property
    def count(self) -> int:
        """S, the number of levels kept."""
        return self.length if self.n_steps is None else self.n_steps

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The trained index of every level kept, ascending."""
        steps, last = self.count, self.length - 1
        if self.respacing == "official":
            return tuple(int(self.length / steps * k) for k in range(steps))
        if steps == 1:
            return (last,)
        return tuple(round(last * k / (steps - 1)) for k in range(steps))

    @cached_property
    def sqrt_eta(self) -> Tensor:
        """(S,) float64, ascending; the trained level T - 1 is etas_end to the last bit."""
        t = torch.tensor(self.times, dtype=torch.float64) / (self.length - 1)
        return self.etas_end * (math.log(self._first / self.etas_end) * (1 - t**self.power)).exp()

    @cached_property
    def eta(self) -> Tensor:
        """Share of the degraded image, (S,)."""
        return self.sqrt_eta.square()

    @cached_property
    def eta_prev(self) -> Tensor:
        """eta of the level below, 0 for the first, (S,)."""
        return torch.cat([self.eta.new_zeros(1), self.eta[:-1]])

    @cached_property
    def alpha(self) -> Tensor:
        """eta_t - eta_{t-1}, (S,)."""
        return self.eta - self.eta_prev

    @cached_property
    def variance(self) -> Tensor:
        """Of q(x_{t-1} | x_t, x0): kappa^2 eta_{t-1} alpha_t / eta_t, (S,); 0 for the first level."""
        return self.kappa**2 * self.eta_prev * self.alpha / self.eta

    @cached_property
    def log_variance(self) -> Tensor:
        """Log of the variance, the first entry replaced by the second, (S,). Raises ConfigError for one level."""
        return self._clipped.log()

    @property
    def _clipped(self) -> Tensor:
        if self.count < 2:
            raise ConfigError("ResShift: a schedule of one level has no posterior variance")
        return torch.cat([self.variance[1:2], self.variance[1:]])

    def level(self, k: int) -> Level:
        """The factors of level k: a = 1 - eta, c = kappa sqrt(eta), and the network's input scaling."""
        eta, c = float(self.eta[k]), self.kappa * float(self.sqrt_eta[k])
        scale = {"none": 1.0, "latent": (c**2 + 1) ** -0.5, "pixel": 1 / (3 * c + 1)}
        return Level(float(self.times[k]), 1 - eta, c, scale[self.input_scaling])

    def forward(self, x0: Tensor, y: Tensor, n: Tensor, k: Tensor) -> Tensor:
        """x_t. x0, y, n: (N, ...); k: (N,) indices of levels, one per sample."""
        eta, c = self._at(self.eta, k, x0), self._at(self.kappa * self.sqrt_eta, k, x0)
        return (1 - eta) * x0 + eta * y + c * n

    def posterior_mean(self, x: Tensor, x0: Tensor, k: int) -> Tensor:
        """Mean of q(x_{t-1} | x_t, x0), in which y does not appear; x0 itself at k = 0."""
        kept = float(self.eta_prev[k] / self.eta[k])
        return kept * x + float(self.alpha[k] / self.eta[k]) * x0

    def deterministic(self, x: Tensor, x0: Tensor, y: Tensor, k: int) -> Tensor:
        """x_{t-1} with the noise that x_t implies and no other: SinSR (Wang and others, CVPR 2024); x0 at k = 0."""
        eta, prev = float(self.eta[k]), float(self.eta_prev[k])
        rho = (prev / eta) ** 0.5
        return rho * x + (1 - prev - rho * (1 - eta)) * x0 + (prev - rho * eta) * y

    def target(self, head: str, x0: Tensor, y: Tensor, n: Tensor, k: Tensor) -> Tensor:
        """What a network with this head is trained to return. Raises ConfigError."""
        if head == "x0":
            return x0
        if head == "residual":
            return y - x0
        _known(head)
        return n if head == "noise" else self._at(self.kappa * self.sqrt_eta, k, n) * n

    def loss_weight(self, head: str) -> Tensor:
        """Weight of the mean square error in the variational bound, (S,). Raises ConfigError."""
        _known(head)
        if head in ("x0", "residual"):
            gain = self.alpha / self.eta
        else:
            gain = self.kappa * self.alpha / ((1 - self.eta) * self.sqrt_eta)
        return gain.square() / (2 * self._clipped)

    def loss(
        self,
        head: str,
        out: Tensor,
        x0: Tensor,
        y: Tensor,
        n: Tensor,
        k: Tensor,
        *,
        weighted: bool = False,
    ) -> Tensor:
        """Mean square error of a network's answer per sample, (N,).

        out, x0, y, n: (N, ...); k: (N,). Errors of scaled noise are divided by kappa^2 eta. weighted: times
        `loss_weight`, which the published trainings leave out. Raises ConfigError.
        """
        error = (out - self.target(head, x0, y, n, k)).abs().square().flatten(1).mean(1)
        if head == "scaled-noise":
            error = error / self._at(self.kappa**2 * self.eta, k, error)
        return error * self._at(self.loss_weight(head), k, error) if weighted else error

    def _at(self, values: Tensor, k: Tensor, like: Tensor) -> Tensor:
        """values[k], one per sample, shaped and cast to broadcast over `like`."""
        chosen = values.to(like.device)[k.to(like.device)].to(like.real.dtype)
        return chosen.reshape(-1, *[1] * (like.ndim - 1))


def _known(head: str) -> None:
    if head not in HEADS:
        raise ConfigError(f"ResShift: unknown head '{head}'; there are {', '.join(HEADS)}")
