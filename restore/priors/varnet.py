"""The package's unrolled network: a U-Net's correction and a step towards the data, one after the other.

Pure torch beside the contract `cascade.CascadeModel`; trained by `restore.training.varnet`, walked by the sampler
`varnet`. Source: Sriram and others, "End-to-end variational networks for accelerated MRI reconstruction", MICCAI 2020,
equation 7, what steps remember after Yiasemis and others, "Recurrent variational network", CVPR 2022; the step towards
the data is that of Aggarwal, Mani, Jacob, "MoDL", IEEE TMI 2019, equation 10.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from restore.config import check_settings, setting
from restore.priors.base import pad_sides
from restore.priors.cascade import PARTS, CascadeModel
from restore.priors.unet import UNet, UNetConfig

FIRST = -5.0
"""Logarithm of the first weights: noise of 0.007 over a network's error of 0.08 where little was measured, squared."""
PACE = 10.0
"""Of the logarithms against the numbers that are learnt: Adam moves those by 0.001 a step at most, which is little."""
GAIN = 10.0
"""Of the gradient on its way into the network: near a solution it is a tenth of an image's values and less."""


@dataclasses.dataclass(frozen=True)
class VarNetConfig:
    """Shape of the network. shared: one U-Net serves all steps and is told which one it is, else each has its own.

    memory: planes that a step hands to the next. widths, blocks: as in `UNetConfig`. Raises ConfigError.
    """

    cascades: int = setting(6, "steps", between=(1, 64))
    widths: tuple[int, ...] = (32, 48, 64)
    blocks: tuple[int, ...] = (2, 2, 2)
    memory: int = setting(4, "planes that a step hands to the next", between=(0, 64))
    shared: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        _ = self.unet

    @property
    def unet(self) -> UNetConfig:
        """Of each U-Net: image and memory come in and go out, the gradient comes in."""
        return UNetConfig(
            PARTS + self.memory, tuple(self.widths), tuple(self.blocks), condition=PARTS
        )


class Cascades(nn.Module):
    """All weights: of the images against the data, `exp(FIRST + PACE weights)`, and one U-Net or one a step."""

    def __init__(self, config: VarNetConfig) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.Parameter(torch.zeros(config.cascades))
        self.networks = nn.ModuleList(
            UNet(config.unet) for _ in range(1 if config.shared else config.cascades)
        )

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """First weights: networks that change nothing; the whole is iterated Tikhonov regularisation."""
        self.weights.zero_()
        for network in self.networks:
            assert isinstance(network, UNet)  # noqa: S101  (for the type checker)
            network.initialise(generator)

    def forward(
        self, number: int, x: Tensor, gradient: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x + U-Net(x, memory, gradient), and the U-Net's memory; see `CascadeModel`."""
        own = self.weights.dtype
        network = self.networks[0 if self.config.shared else number]
        shown = torch.cat([x, memory, GAIN * gradient], dim=1).to(own)
        told = (
            4 * number / self.config.cascades - 2
        )  # spread as a denoiser's noise levels are, about -2 to 2
        out = network(pad_sides(shown, self.config.unet.multiple), shown.new_full((len(x),), told))
        out = out[..., : x.shape[-2], : x.shape[-1]].to(x.dtype)
        return x + out[:, :PARTS], out[:, PARTS:]


class VarNet(CascadeModel):
    """`Cascades` as a model. network: called as it is."""

    def __init__(self, network: Cascades, name: str = "") -> None:
        self.network, self.name = network, name
        self.cascades, self.memory = network.config.cascades, network.config.memory

    def __call__(
        self, number: int, x: Tensor, gradient: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The U-Net's part of a step."""
        answer: tuple[Tensor, Tensor] = self.network(number, x, gradient, memory)
        return answer

    def weight(self, number: int) -> Tensor:
        """Learnt."""
        return (FIRST + PACE * self.network.weights[number]).exp()


def new_varnet(config: VarNetConfig, seed: int = 0, name: str = "") -> VarNet:
    """An untrained one, which regularises least squares and nothing else."""
    with torch.device("meta"):
        network = Cascades(config)
    network = network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return VarNet(network.eval(), name)
