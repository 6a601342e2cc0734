"""The four preconditionings of EDM around a network F: D(x, sigma) = c_skip x + c_out F(c_in x, c_noise).

Source: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
table 1: VP and VE of Song and others, 2021, iDDPM of Nichol and Dhariwal, 2021, and EDM itself.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.edm_unets import DhariwalUNet, EDMNetConfig, SongUNet

EDM, VP, VE, IDDPM = "EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"
PRECONDS = (EDM, VP, VE, IDDPM)


@dataclasses.dataclass(frozen=True)
class PrecondConfig:
    """The network, and which preconditioning with which constants; precond "" where it is not known.

    The state dicts of the first three are the same; iDDPM has a table `u` and twice the output channels.
    """

    net: EDMNetConfig
    precond: str = ""
    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5
    C_1: float = 0.001
    C_2: float = 0.008
    evaluated_under: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in (self.precond, *self.evaluated_under):
            if word not in ("", *PRECONDS):
                raise ConfigError(
                    f"precond is '{word}', expected one of {', '.join(PRECONDS)} (by the class that trained it)"
                )
        if not 0 < self.sigma_data < math.inf or not 1 <= self.M <= 100_000:
            raise ConfigError(
                f"sigma_data {self.sigma_data}, M {self.M}: expected sigma_data above 0, M in 1..100000"
            )
        if not (
            0 < self.beta_d < math.inf and 0 <= self.beta_min < math.inf and self.epsilon_t > 0
        ):
            raise ConfigError(
                f"beta_d {self.beta_d}, beta_min {self.beta_min}, epsilon_t {self.epsilon_t}: expected numbers above 0"
            )

    def noise_range(self) -> tuple[float, float]:
        """Lowest and highest noise that it was trained for: as stated, else as the official class or sampler has it."""
        if self.precond == IDDPM:
            u = self.levels()
            usual = (float(u[self.M - 1]), float(u[0]))
        else:
            vp = (self.vp_sigma(self.epsilon_t), self.vp_sigma(1.0))
            usual = {VP: vp, VE: (0.02, 100.0)}.get(self.precond, (0.002, 80.0))
        low, high = self.sigma_min, self.sigma_max
        return (usual[0] if low is None else low, usual[1] if high is None else high)

    def vp_sigma(self, t: float) -> float:
        """The noise of the variance-preserving chain at time t."""
        return math.sqrt(math.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))

    def levels(self) -> Tensor:
        """The noise levels of iDDPM, highest first, and 0: (M + 1,), float64."""
        bar = [
            math.sin(0.5 * math.pi * j / self.M / (self.C_2 + 1)) ** 2 for j in range(self.M + 1)
        ]
        u = [0.0] * (self.M + 1)
        for j in range(self.M, 0, -1):
            ratio = max(bar[j - 1] / bar[j], self.C_1)
            u[j - 1] = math.sqrt((u[j] ** 2 + 1) / ratio - 1)
        return torch.tensor(u, dtype=torch.float64)


class Preconditioned(nn.Module):
    """D(x, sigma). The network is `model`, as in the official classes; `u` the levels of iDDPM."""

    u: Tensor

    def __init__(self, config: PrecondConfig) -> None:
        super().__init__()
        self.config = config
        out = config.net.img_channels * (2 if config.precond == IDDPM else 1)
        kind = SongUNet if config.net.model_type == "SongUNet" else DhariwalUNet
        self.model = kind(config.net, out)
        if config.precond == IDDPM:
            self.register_buffer("u", torch.empty(config.M + 1))

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, augment: Tensor | None = None,
        precond: str = "",
    ) -> Tensor:  # fmt: skip
        """The clean image. x: (N, C, H, W); sigma: (N,); labels: (N, label_dim), left out: zeros.

        precond: another preconditioning than that of the settings, for files that may be read in several ways.
        """
        net = self.config.net
        if net.label_dim and labels is None:
            labels = x.new_zeros(1, net.label_dim)
        c_skip, c_out, c_in, c_noise = self._coefficients(precond or self.config.precond, sigma)
        f = self.model(_wide(c_in) * x, c_noise, labels, augment)[:, : net.img_channels]
        return _wide(c_skip) * x + _wide(c_out) * f

    def _coefficients(self, precond: str, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c, one = self.config, torch.ones_like(s)
        if precond == EDM:
            total = s**2 + c.sigma_data**2
            return (
                c.sigma_data**2 / total,
                s * c.sigma_data / total.sqrt(),
                1 / total.sqrt(),
                s.log() / 4,
            )
        if precond == VE:
            return one, s, one, (0.5 * s).log()
        c_in = 1 / (s**2 + 1).sqrt()
        if precond == VP:
            log = (1 + s**2).log()
            t = ((c.beta_min**2 + 2 * c.beta_d * log).sqrt() - c.beta_min) / c.beta_d
            return one, -s, c_in, (c.M - 1) * t
        if precond == IDDPM:
            place = (s[:, None] - self.u.to(s.dtype)[None]).abs().argmin(dim=1)
            return one, -s, c_in, (c.M - 1 - place).to(s.dtype)
        raise ConfigError(
            f"the preconditioning is not known; say precond=... of {', '.join(PRECONDS)}"
        )


def _wide(c: Tensor) -> Tensor:
    return c[:, None, None, None]
