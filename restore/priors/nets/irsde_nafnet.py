"""ConditionalNAFNet of Refusion under its official names.

Luo, Gustafsson, Zhao, Sjölund, Schön, "Refusion: enabling large-size realistic image restoration with latent-space
diffusion models", CVPR workshops 2023, after Chen, Chu, Zhang, Sun, "Simple baselines for image restoration", ECCV
2022. Built by the family `irsde`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.channel_parts import LEAST_WIDTH, ChannelNorm, SinusoidalEmbedding
from restore.priors.nets.sizes import LARGEST, check_sizes

_MOST_BLOCKS = 1024


@dataclasses.dataclass(frozen=True)
class NAFNetConfig:
    """Arguments of the published network, by their own names.

    ending_skip: the last convolution sees the first features too, as in some codes that descend from the published one
    and load the same weights.
    """

    img_channel: int = 3
    width: int = 16
    middle_blk_num: int = 1
    enc_blk_nums: tuple[int, ...] = ()
    dec_blk_nums: tuple[int, ...] = ()
    ending_skip: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "img_channel", "middle_blk_num")
        check_sizes(self, "width", least=LEAST_WIDTH)
        check_sizes(self, "enc_blk_nums", "dec_blk_nums", least=0, largest=_MOST_BLOCKS)
        levels = len(self.enc_blk_nums)
        if levels != len(self.dec_blk_nums) or self.width * 2**levels > LARGEST:
            raise ConfigError(
                f"enc_blk_nums {self.enc_blk_nums} and dec_blk_nums {self.dec_blk_nums} must have one entry a level, "
                f"and width {self.width} doubles at each, up to {LARGEST}"
            )


class Gate(nn.Module):
    """The product of both halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 2 C, ...)."""
        one, other = x.chunk(2, dim=1)
        return one * other


class NAFBlock(nn.Module):
    """Gated convolutions with channel attention, then a gated product of pixels; both told the time."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Gate(), nn.Linear(embedding // 2, 4 * width))
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, width, h, w); t: (N, embedding)."""
        shift1, scale1, shift2, scale2 = self.mlp(t)[:, :, None, None].chunk(4, dim=1)
        one, other = self.conv2(self.conv1(self.norm1(x) * (scale1 + 1) + shift1)).chunk(2, dim=1)
        h = one * other
        x = x + self.conv3(h * self.sca(h)) * self.beta
        one, other = self.conv4(self.norm2(x) * (scale2 + 1) + shift2).chunk(2, dim=1)
        out: Tensor = x + self.conv5(one * other) * self.gamma
        return out


class ConditionalNAFNet(nn.Module):
    """The noise in x_t from the state, the degraded image and the time.

    x, degraded: (N, img_channel, H, W) of any size: sides are grown by zeros. time: (N,) or ().
    """

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config, width, embedding = config, config.width, 4 * config.width
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(width), nn.Linear(width, 2 * embedding), Gate(),
            nn.Linear(embedding, embedding),
        )  # fmt: skip
        self.intro = nn.Conv2d(2 * config.img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, config.img_channel, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for count in config.enc_blk_nums:
            self.encoders.append(_blocks(count, width, embedding))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width *= 2
        self.middle_blks = _blocks(config.middle_blk_num, width, embedding)
        for count in config.dec_blk_nums:
            up = nn.Conv2d(width, 2 * width, 1, bias=False)
            self.ups.append(nn.Sequential(up, nn.PixelShuffle(2)))
            width //= 2
            self.decoders.append(_blocks(count, width, embedding))

    def forward(self, x: Tensor, degraded: Tensor, time: Tensor) -> Tensor:
        """The network's answer, (N, img_channel, H, W)."""
        height, width = x.shape[2:]
        multiple = 2 ** len(self.encoders)
        given = torch.cat([x - degraded, degraded], dim=1)
        given = F.pad(given, (0, -width % multiple, 0, -height % multiple))
        t = self.time_mlp(time.to(x.dtype).reshape(-1))
        first = h = self.intro(given)
        kept = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            h = _through(blocks, h, t)
            kept.append(h)
            h = down(h)
        h = _through(self.middle_blks, h, t)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            h = _through(blocks, up(h) + kept.pop(), t)
        out: Tensor = self.ending(h + first if self.config.ending_skip else h)
        return out[..., :height, :width]


def _blocks(count: int, width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width, embedding) for _ in range(count)))


def _through(blocks: nn.Module, h: Tensor, t: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, t)
    return h
