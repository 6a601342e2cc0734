"""The bundled conditional model: one EDM-preconditioned U-Net for every bridge and noise level.

x_t - (1 - a) y = a x0 + c n holds all that a bridge's state says of x0 once the degraded image y is known, and
depends on the bridge through sigma = c/a alone. A denoiser of x0 + sigma n that is also shown y therefore serves
ResShift, RDDM and IR-SDE chains alike; where a is 0 it restores y without further help. Preconditioning: Karras and
others, NeurIPS 2022, table 1. Built by the store, trained by `restore.training.conditional`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.priors.base import pad_sides
from restore.priors.conditional import ConditionalModel
from restore.priors.edm import new_unet
from restore.priors.operator_family import OperatorFamily
from restore.priors.unet import UNet, UNetConfig

IMAGE_RMS = 0.5  # of images in [0, 1]: what scales the network's input, as in the bundled denoisers


class BridgeDenoiser(ConditionalModel):
    """E[x0 | x_t, y] for any level (a, c), a may be 0.

    The preconditioning is EDM's for the residual x0 - y: without its network the model answers with the best linear
    mixture of state and degraded image. `network`: a U-Net with as many condition channels as image channels.
    `sigma_data`: root mean square of the residuals. Noise below `sigma_min` is treated as `sigma_min`, the network
    is told at most `sigma_max`.
    """

    def __init__(
        self,
        network: UNet,
        *,
        sigma_data: float = 0.2,
        sigma_min: float = 0.002,
        sigma_max: float = 40.0,
        bridge: str = "",
        tasks: tuple[str, ...] = (),
        families: tuple[OperatorFamily, ...] = (),
        name: str = "",
    ) -> None:
        self.network, self.channels, self.sigma_data = network, network.config.channels, sigma_data
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.bridge, self.tasks, self.families, self.name = bridge, tasks, families, name

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """x0 alone. x, degraded: (N, channels, H, W)."""
        ones = x.new_ones(x.shape[0], 1, 1, 1)
        a, c = level.a * ones, max(level.c, level.a * self.sigma_min) * ones
        return (self.denoise(x - (1 - level.a) * degraded, a, c, degraded),)

    def denoise(self, x: Tensor, a: Tensor, c: Tensor, degraded: Tensor) -> Tensor:
        """E[x0 | a x0 + c n = x, y]. a, c: (N, 1, 1, 1); c positive."""
        sd = self.sigma_data
        total = (c**2 + sd**2 * a**2).sqrt()
        told = (c / a).clamp(self.sigma_min, self.sigma_max).flatten().log() / 4
        given = torch.cat([x / (c**2 + (IMAGE_RMS * a) ** 2).sqrt(), degraded / IMAGE_RMS], dim=1)
        dtype = next(self.network.parameters()).dtype
        f = self.network(pad_sides(given, self.network.config.multiple).to(dtype), told.to(dtype))
        f = f[..., : x.shape[-2], : x.shape[-1]].to(x.dtype)
        return degraded + sd**2 * a / total**2 * (x - a * degraded) + c * sd / total * f


def build_bridge_denoiser(
    config: UNetConfig,
    *,
    sigma_data: float = 0.2,
    bridge: str = "",
    tasks: tuple[str, ...] = (),
    families: tuple[OperatorFamily, ...] = (),
    name: str = "",
    seed: int = 0,
) -> BridgeDenoiser:
    """An untrained model; seed: of its first weights."""
    network = new_unet(config, seed)
    return BridgeDenoiser(
        network, sigma_data=sigma_data, bridge=bridge, tasks=tasks, families=families, name=name
    )
