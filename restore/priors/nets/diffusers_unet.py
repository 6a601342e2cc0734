"""UNet2DModel and UNet2DConditionModel of the diffusers package under their names.

Missing settings are the defaults of the package's classes. What changes the network and is not built here is refused.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.diffusers_blocks import (
    DownLevel,
    Downsample2D,
    MidBlock,
    ResnetBlock2D,
    Shape,
    UpLevel,
    Upsample2D,
    timesteps,
)

_LARGEST = 65_536
_DOWN = {
    "DownBlock2D": "plain", "AttnDownBlock2D": "attention", "ResnetDownsampleBlock2D": "plain",
    "CrossAttnDownBlock2D": "transformer",
}  # fmt: skip
_UP = {
    "UpBlock2D": "plain", "AttnUpBlock2D": "attention", "ResnetUpsampleBlock2D": "plain",
    "CrossAttnUpBlock2D": "transformer",
}  # fmt: skip
_MID = {"UNetMidBlock2D": "attention", "UNetMidBlock2DCrossAttn": "transformer"}


@dataclasses.dataclass(frozen=True)
class UNet2DConfig:
    """Settings of `UNet2DModel`; attention_head_dim is the width of a head."""

    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    mid_block_type: str | None = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    act_fn: str = "silu"
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: int | None = None
    add_attention: bool = True

    def __post_init__(self) -> None:
        check_common(self)
        for name, words in (
            ("time_embedding_type", ("positional", "fourier")), ("downsample_type", ("conv", "resnet")),
            ("upsample_type", ("conv", "resnet")), ("class_embed_type", (None, "timestep", "identity")),
        ):  # fmt: skip
            _one_of(name, getattr(self, name), words)

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def time_width(self) -> int:
        """Of the embedding of time."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    def shape(self, level: int) -> Shape:
        """Of the blocks of a level."""
        scale_shift = self.resnet_time_scale_shift == "scale_shift"
        mid = self.attn_norm_num_groups or (None if scale_shift else self.norm_num_groups)
        return Shape(
            self.norm_num_groups, self.norm_eps, self.time_width, scale_shift, self.attention_head_dim, mid,
            self.downsample_padding, self.downsample_type, self.upsample_type,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class UNet2DConditionConfig:
    """Settings of `UNet2DConditionModel`; attention_head_dim is the number of heads, by level or of all."""

    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[str, ...] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    use_linear_projection: bool = False
    resnet_time_scale_shift: str = "default"
    num_class_embeds: int | None = None
    class_embed_type: str | None = None
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    add_attention: bool = True

    def __post_init__(self) -> None:
        check_common(self)
        _one_of("class_embed_type", self.class_embed_type, (None,))
        _one_of("time_embedding_type", self.time_embedding_type, ("positional",))

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def time_width(self) -> int:
        """Of the embedding of time."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    def shape(self, level: int) -> Shape:
        """Of the blocks of a level."""
        heads = self.num_attention_heads or self.attention_head_dim
        depth = self.transformer_layers_per_block
        return Shape(
            self.norm_num_groups, self.norm_eps, self.time_width, self.resnet_time_scale_shift == "scale_shift",
            padding=self.downsample_padding, heads=heads if isinstance(heads, int) else heads[level],
            context=self.cross_attention_dim, linear=self.use_linear_projection,
            depth=depth if isinstance(depth, int) else depth[level],
        )  # fmt: skip


UNetConfigs = UNet2DConfig | UNet2DConditionConfig


def _one_of(name: str, value: object, words: tuple[object, ...]) -> None:
    if value not in words:
        known = ", ".join(map(str, words))
        raise ConfigError(f"{name} is {value!r}, and only {known} can be built here")


def check_common(config: UNetConfigs) -> None:
    """Raise ConfigError for levels that do not fit together and for blocks that are not built here."""
    levels = len(config.block_out_channels)
    if not levels == len(config.down_block_types) == len(config.up_block_types) or levels > 16:
        raise ConfigError(
            "block_out_channels, down_block_types and up_block_types differ in number"
        )
    for name, words in (
        ("down_block_types", _DOWN), ("up_block_types", _UP),
    ):  # fmt: skip
        for kind in getattr(config, name):
            _one_of(name, kind, tuple(words))
    _one_of("mid_block_type", config.mid_block_type, (*_MID, None))
    _one_of("resnet_time_scale_shift", config.resnet_time_scale_shift, ("default", "scale_shift"))
    _one_of("act_fn", config.act_fn, ("silu", "swish"))
    sizes = (
        *config.block_out_channels,
        config.in_channels,
        config.out_channels,
        config.layers_per_block,
    )
    if not all(1 <= n <= _LARGEST for n in sizes):
        raise ConfigError(f"channels and layers {sizes}: expected 1..{_LARGEST}")
    if config.norm_num_groups < 1:
        raise ConfigError(f"norm_num_groups is {config.norm_num_groups}, expected 1 or more")
    if bad := [c for c in config.block_out_channels if c % config.norm_num_groups]:
        raise ConfigError(f"norm_num_groups {config.norm_num_groups} does not divide {bad}")


class TimestepEmbedding(nn.Module):
    """Two linear maps with a SiLU between."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width)."""
        return self.linear_2(F.silu(self.linear_1(x)))


class FourierProjection(nn.Module):
    """Sines, then cosines of 2 pi W log t, W fixed at random when the network was made."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(self, t: Tensor) -> Tensor:
        """t: (N,)."""
        phase = t.log()[:, None] * self.weight[None] * (2 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class DiffusersUNet(nn.Module):
    """Both U-Nets: residual levels with concatenated skips, told the time and, where it has them, class and context."""

    def __init__(self, config: UNetConfigs) -> None:
        super().__init__()
        self.config = config
        widths = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.fourier = config.time_embedding_type == "fourier"
        if self.fourier:
            self.time_proj = FourierProjection(widths[0])
        told = 2 * widths[0] if self.fourier else widths[0]
        self.time_embedding = TimestepEmbedding(told, config.time_width)
        if config.class_embed_type == "timestep":
            self.class_embedding: nn.Module = TimestepEmbedding(told, config.time_width)
        elif config.class_embed_type is None and config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, config.time_width)
        self._build_levels()
        last = len(widths) - 1
        self.mid_block = None
        if config.mid_block_type is not None:
            kind = _MID[config.mid_block_type] if config.add_attention else "plain"
            self.mid_block = MidBlock(
                widths[-1], config.shape(last), kind, config.mid_block_scale_factor
            )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def _build_levels(self) -> None:
        c, widths = self.config, self.config.block_out_channels
        last = len(widths) - 1
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        width = widths[0]
        for i, name in enumerate(c.down_block_types):
            inputs = [width, *[widths[i]] * (c.layers_per_block - 1)]
            width, shape = widths[i], c.shape(i)
            down = _down(name, width, shape) if i < last else None
            self.down_blocks.append(DownLevel(inputs, width, shape, _DOWN[name], down))
        before = widths[-1]
        for i, name in enumerate(c.up_block_types):
            at = last - i
            width, below, shape = widths[at], widths[max(at - 1, 0)], c.shape(at)
            skips = [*[width] * c.layers_per_block, below]
            inputs = [(before if k == 0 else width) + s for k, s in enumerate(skips)]
            up = _up(name, width, shape) if i < last else None
            self.up_blocks.append(UpLevel(inputs, width, shape, _UP[name], up))
            before = width

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """x: (N, in_channels, H, W); t: (N,); y: (N,) classes; context: (N, S, cross_attention_dim)."""
        c, time = self.config, t.to(x.dtype)
        temb = self.time_embedding(self._told(time))
        if y is not None:
            known = hasattr(self, "class_embedding")
            told = self._told(y.to(x.dtype)) if c.class_embed_type == "timestep" else y
            temb = temb + (self.class_embedding(told) if known else told)
        skips = [self.conv_in(2 * x - 1 if c.center_input_sample else x)]
        for level in self.down_blocks:
            skips += level(skips[-1], temb, context)
        h = skips[-1]
        if self.mid_block is not None:
            h = self.mid_block(h, temb, context)
        for level in self.up_blocks:
            h = level(h, skips, temb, context)
        h = self.conv_out(F.silu(self.conv_norm_out(h)))
        return h / time[:, None, None, None] if self.fourier else h

    def _told(self, t: Tensor) -> Tensor:
        c = self.config
        if self.fourier:
            return self.time_proj(t)
        width = c.block_out_channels[0]
        return timesteps(t, width, cosines_first=c.flip_sin_to_cos, shift=c.freq_shift)


def _down(name: str, width: int, shape: Shape) -> nn.Module:
    by_resnet = name == "ResnetDownsampleBlock2D" or (
        name == "AttnDownBlock2D" and shape.down_by == "resnet"
    )
    if by_resnet:
        return ResnetBlock2D(width, width, shape, resample="down")
    return Downsample2D(width, shape.padding)


def _up(name: str, width: int, shape: Shape) -> nn.Module:
    by_resnet = name == "ResnetUpsampleBlock2D" or (
        name == "AttnUpBlock2D" and shape.up_by == "resnet"
    )
    return ResnetBlock2D(width, width, shape, resample="up") if by_resnet else Upsample2D(width)
