"""The networks of RDDM: one U-Net, two of them, or two decoders on one encoder, under their official names.

Liu, Wang, Fan, Wang, Tang, Qu, "Residual denoising diffusion models", CVPR 2024. Built by the family `rddm`; pure
torch, no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.channel_parts import (
    LEAST_WIDTH,
    Attention,
    LearnedEmbedding,
    LinearAttention,
    Normed,
    Residual,
    SinusoidalEmbedding,
    downsample,
    floor_of,
    upsample,
)
from restore.priors.nets.sizes import check_groups, check_sizes


@dataclasses.dataclass(frozen=True)
class RDDMConfig:
    """Arguments of the published U-Nets, by their own names.

    condition, input_condition, self_condition: one more image each beside the state, as further input channels.
    """

    dim: int
    init_dim: int | None = None
    out_dim: int | None = None
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    channels: int = 3
    self_condition: bool = False
    resnet_block_groups: int = 8
    learned_variance: bool = False
    learned_sinusoidal_cond: bool = False
    random_fourier_features: bool = False
    learned_sinusoidal_dim: int = 16
    condition: bool = False
    input_condition: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "dim_mults", "channels", "resnet_block_groups", "learned_sinusoidal_dim")
        check_sizes(self, "dim", least=LEAST_WIDTH)
        for name in ("init_dim", "out_dim"):
            if getattr(self, name) is not None:
                check_sizes(self, name)
        widths = [self.dim, self.first, *(self.dim * m for m in self.dim_mults)]
        check_groups(f"dim {self.dim} with {self.dim_mults}", widths, self.resnet_block_groups)
        if self.first != self.dim or self.learned_sinusoidal_dim % 2:
            raise ConfigError(
                f"init_dim {self.init_dim} is not dim {self.dim}, or learned_sinusoidal_dim "
                f"{self.learned_sinusoidal_dim} is odd: the released network knows neither"
            )

    @property
    def given(self) -> int:
        """Input channels."""
        return self.channels * (1 + self.self_condition + self.condition + self.input_condition)

    @property
    def first(self) -> int:
        """Channels behind the first convolution."""
        return self.dim if self.init_dim is None else self.init_dim

    @property
    def out(self) -> int:
        """Channels of the answer."""
        return self.out_dim or self.channels * (2 if self.learned_variance else 1)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Channels before and after every level of the encoder."""
        return list(pairwise([self.first, *(self.dim * m for m in self.dim_mults)]))

    @property
    def multiple(self) -> int:
        """Sides must be multiples of this."""
        return int(2 ** (len(self.dim_mults) - 1))


class StandardisedConv(nn.Conv2d):
    """A convolution whose kernels are brought to mean 0 and variance 1 at every call; the file holds them raw."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, h, w)."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        kernel = (self.weight - mean) * (variance + floor_of(x)).rsqrt()
        return F.conv2d(x, kernel, self.bias, padding=1)


class Block(nn.Module):
    """Convolution, group norm, and scale and shift by the time."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.proj = StandardisedConv(width, out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, out)

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x: (N, width, h, w); film: scale and shift, (N, out, 1, 1) each."""
        h = self.norm(self.proj(x))
        if film is not None:
            h = h * (film[0] + 1) + film[1]
        return F.silu(h)


class ResBlock(nn.Module):
    """Two blocks, the first one told the time, beside the identity."""

    def __init__(self, width: int, out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.block1, self.block2 = Block(width, out, groups), Block(out, out, groups)
        self.res_conv = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, width, h, w); t: (N, embedding)."""
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = self.block2(self.block1(x, (scale, shift))) + self.res_conv(x)
        return out


class _Encoder(nn.Module):
    """What the U-Nets have in common: entrance, time, the way down and the middle."""

    def __init__(self, config: RDDMConfig) -> None:
        super().__init__()
        self.config, embedding = config, 4 * config.dim
        self.init_conv = nn.Conv2d(config.given, config.first, 7, padding=3)
        learned = config.learned_sinusoidal_cond or config.random_fourier_features
        width = config.learned_sinusoidal_dim
        self.time_mlp = nn.Sequential(
            LearnedEmbedding(width) if learned else SinusoidalEmbedding(config.dim),
            nn.Linear(width + 1 if learned else config.dim, embedding),
            nn.GELU(),
            nn.Linear(embedding, embedding),
        )
        self.downs = nn.ModuleList(_level(config, i, a, a, b) for i, (a, b) in _down(config))
        deep = config.steps[-1][1]
        self.mid_block1 = self.block(deep, deep)
        self.mid_attn = Residual(Normed(deep, Attention(deep)))
        self.mid_block2 = self.block(deep, deep)

    def block(self, width: int, out: int) -> ResBlock:
        return ResBlock(width, out, 4 * self.config.dim, self.config.resnet_block_groups)

    def encoded(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The first features, the time's embedding, the deepest features, and those kept on the way down."""
        if self.config.self_condition and x.shape[1] < self.config.given:
            blank = x.new_zeros(x.shape[0], self.config.given - x.shape[1], *x.shape[2:])
            x = torch.cat([blank, x], dim=1)
        first = h = self.init_conv(x)
        t, kept = self.time_mlp(time.to(x.dtype)), []
        for block1, block2, attention, down in _parts(self.downs):
            h = block1(h, t)
            kept.append(h)
            h = attention(block2(h, t))
            kept.append(h)
            h = down(h)
        return first, t, self.mid_block2(self.mid_attn(self.mid_block1(h, t)), t), kept


class Unet(_Encoder):
    """One U-Net. Called with x (N, given, h, w): self-condition first, then the state, then conditions; an absent
    self-condition is zeros. time: (N,). Returns (N, out, h, w).
    """

    def __init__(self, config: RDDMConfig) -> None:
        super().__init__(config)
        self.ups = nn.ModuleList(_level(config, i, a + b, b, a) for i, (a, b) in _up(config))
        self.final_res_block = self.block(2 * config.dim, config.dim)
        self.final_conv = nn.Conv2d(config.dim, config.out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The network's answer."""
        first, t, h, kept = self.encoded(x, time)
        h = torch.cat([_decoded(self.ups, h, t, kept), first], dim=1)
        out: Tensor = self.final_conv(self.final_res_block(h, t))
        return out


class SharedUnet(_Encoder):
    """One encoder and two decoders. The first answer comes from the decoder that sees nothing of the way down."""

    def __init__(self, config: RDDMConfig) -> None:
        super().__init__(config)
        self.ups = nn.ModuleList(_level(config, i, a + b, b, a) for i, (a, b) in _up(config))
        self.ups_no_skip = nn.ModuleList(_level(config, i, b, b, a) for i, (a, b) in _up(config))
        self.final_res_block_1 = self.block(config.dim, config.dim)
        self.final_conv_1 = nn.Conv2d(config.dim, config.out, 1)
        self.final_res_block_2 = self.block(2 * config.dim, config.dim)
        self.final_conv_2 = nn.Conv2d(config.dim, config.out, 1)

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Both answers, (N, out, h, w) each."""
        first, t, deep, kept = self.encoded(x, time)
        one = self.final_conv_1(
            self.final_res_block_1(_decoded(self.ups_no_skip, deep, t, None), t)
        )
        h = torch.cat([_decoded(self.ups, deep, t, kept), first], dim=1)
        return one, self.final_conv_2(self.final_res_block_2(h, t))


class TwoUnets(nn.Module):
    """One or two complete U-Nets under their official names. The second one may be told another time."""

    def __init__(self, config: RDDMConfig, count: int) -> None:
        super().__init__()
        self.config = config
        self.unet0 = Unet(config)
        self.unet1 = Unet(config) if count == 2 else None

    def forward(self, x: Tensor, time: Tensor, second: Tensor | None = None) -> tuple[Tensor, ...]:
        """One answer a U-Net, (N, out, h, w) each. time, second: (N,)."""
        if self.unet1 is None:
            return (self.unet0(x, time),)
        return self.unet0(x, time), self.unet1(x, time if second is None else second)


def _down(config: RDDMConfig) -> Iterator[tuple[bool, tuple[int, int]]]:
    """Every level of the encoder, and whether it halves the size."""
    last = len(config.steps) - 1
    return ((i < last, pair) for i, pair in enumerate(config.steps))


def _up(config: RDDMConfig) -> Iterator[tuple[bool | None, tuple[int, int]]]:
    """Every level of a decoder, deepest first; None: it doubles the size."""
    return ((None if i else False, pair) for i, pair in reversed(list(enumerate(config.steps))))


def _level(
    config: RDDMConfig, resize: bool | None, width: int, out: int, after: int
) -> nn.ModuleList:
    """Two blocks, attention, and the way to the next level. resize: True down, None up, False neither."""
    embedding, groups = 4 * config.dim, config.resnet_block_groups
    way = {True: downsample, None: upsample}.get(resize)
    return nn.ModuleList(
        [
            ResBlock(width, out, embedding, groups),
            ResBlock(width, out, embedding, groups),
            Residual(Normed(out, LinearAttention(out))),
            nn.Conv2d(out, after, 3, padding=1) if way is None else way(out, after),
        ]
    )


def _parts(levels: nn.ModuleList) -> Iterator[tuple[nn.Module, ...]]:
    return (tuple(level.children()) for level in levels)


def _decoded(levels: nn.ModuleList, h: Tensor, t: Tensor, kept: list[Tensor] | None) -> Tensor:
    """Up through a decoder, with what the encoder kept, last first, or without."""
    rest = list(kept or ())
    for block1, block2, attention, up in _parts(levels):
        h = block1(h if kept is None else torch.cat([h, rest.pop()], dim=1), t)
        h = block2(h if kept is None else torch.cat([h, rest.pop()], dim=1), t)
        h = up(attention(h))
    return h
