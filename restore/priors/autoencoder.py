"""A small KL autoencoder: images to codes at a quarter of their size, and back.

Pure torch modules without normalisation layers, so that a code depends on a fixed neighbourhood. Source of the
form: Rombach and others, "High-resolution image synthesis with latent diffusion models", CVPR 2022, without
the adversarial and perceptual terms. Trained by `restore.training.autoencoder`.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError

_LARGEST = 1024


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Image channels, code channels, widths and blocks at half and quarter resolution."""

    channels: int = 3
    latent_channels: int = 12
    widths: tuple[int, int] = (64, 128)
    blocks: tuple[int, int] = (2, 3)

    def __post_init__(self) -> None:
        sizes = (self.channels, self.latent_channels, *self.widths, *self.blocks)
        paired = len(self.widths) == len(self.blocks) == 2
        if not paired or not all(type(n) is int and 1 <= n <= _LARGEST for n in sizes):
            raise ConfigError(
                f"{self}: expected two widths and blocks, whole numbers in 1..{_LARGEST}"
            )

    @property
    def factor(self) -> int:
        """A code has 1/factor of the image's height and width."""
        return 4


class Block(nn.Module):
    """x + conv(silu(conv(silu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Autoencoder(nn.Module):
    """Encoder to the mean and log-variance of a code, decoder from a code."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        (wide, deep), (few, many) = config.widths, config.blocks
        inner = config.channels * 4
        self.enter = nn.Conv2d(inner, wide, 3, padding=1)
        self.fine_in = nn.Sequential(*(Block(wide) for _ in range(few)))
        self.down = nn.Conv2d(wide, deep, 2, stride=2)
        self.coarse_in = nn.Sequential(*(Block(deep) for _ in range(many)))
        self.to_code = nn.Conv2d(deep, 2 * config.latent_channels, 3, padding=1)
        self.from_code = nn.Conv2d(config.latent_channels, deep, 3, padding=1)
        self.coarse_out = nn.Sequential(*(Block(deep) for _ in range(many)))
        self.up = nn.ConvTranspose2d(deep, wide, 2, stride=2)
        self.fine_out = nn.Sequential(*(Block(wide) for _ in range(few)))
        self.leave = nn.Conv2d(wide, inner, 3, padding=1)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """First weights: uniform in +-1/sqrt(fan in); zero where a block ends."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                bound = module.weight[0].numel() ** -0.5
                for p in module.parameters():
                    p.uniform_(-bound, bound, generator=generator)
        for module in self.modules():
            if isinstance(module, Block):
                for p in module.conv2.parameters():
                    p.zero_()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code. x: (N, channels, H, W) in [0, 1], sides divisible by 4."""
        h = self.fine_in(self.enter(F.pixel_unshuffle(2 * x - 1, 2)))
        mean, log_variance = self.to_code(self.coarse_in(self.down(h))).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code. z: (N, latent_channels, H/4, W/4)."""
        h = self.up(self.coarse_out(self.from_code(z)))
        return (F.pixel_shuffle(self.leave(self.fine_out(h)), 2) + 1) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Encode to the mean code and decode."""
        return self.decode(self.encode(x)[0])


def new_autoencoder(config: AutoencoderConfig, seed: int = 0) -> Autoencoder:
    """An untrained autoencoder; seed: of its first weights."""
    with torch.device("meta"):  # torch's layers would draw from the global generator
        network = Autoencoder(config)
    network = network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
