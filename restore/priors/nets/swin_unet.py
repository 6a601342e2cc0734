"""The U-Net of ResShift: residual blocks of guided diffusion with Swin layers, shown the degraded image.

Yue, Wang, Loy, "ResShift: efficient diffusion model for image super-resolution by residual shifting", NeurIPS 2023.
Built by the family `resshift`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.adm_blocks import (
    GROUPS,
    Downsample,
    EmbeddedSequential,
    ResBlock,
    Upsample,
    group_norm,
)
from restore.priors.nets.parts import timestep_embedding
from restore.priors.nets.sizes import MOST, check_groups, check_sizes
from restore.priors.nets.swin import SwinLayer

_COLOURS, _FEATURES = 3, 16  # of the degraded image, and of the first layer that reads a large one


@dataclasses.dataclass(frozen=True)
class SwinUNetConfig:
    """Arguments of the published `UNetModelSwin`, by their own names.

    image_size: side of the state in training, lq_size: that of the degraded image. attention_resolutions: sides of
    feature maps that have a Swin layer after the first block. num_res_blocks: one number, or one a level. cond_mask:
    a mask is shown with the degraded image (1 where it is unknown, -1 elsewhere).
    """

    image_size: int
    in_channels: int
    model_channels: int
    out_channels: int
    num_res_blocks: tuple[int, ...]
    attention_resolutions: tuple[int, ...]
    channel_mult: tuple[float, ...] = (1, 2, 4, 8)
    conv_resample: bool = True
    num_heads: int = 1
    num_head_channels: int = -1
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    swin_depth: int = 2
    swin_embed_dim: int = 96
    window_size: int = 8
    mlp_ratio: float = 2.0
    patch_norm: bool = False
    cond_lq: bool = True
    cond_mask: bool = False
    lq_size: int = 256

    def __post_init__(self) -> None:
        check_sizes(
            self, "image_size", "in_channels", "model_channels", "out_channels", "num_heads", "swin_depth",
            "swin_embed_dim", "window_size", "lq_size",
        )  # fmt: skip
        check_sizes(self, "num_res_blocks", least=0, largest=MOST)
        widths = [int(m * self.model_channels) for m in self.channel_mult]
        check_groups("model_channels with channel_mult", widths, GROUPS)
        check_groups("swin_embed_dim", [self.swin_embed_dim], GROUPS)
        if self.heads < 1 or self.swin_embed_dim % self.heads or self.mlp_ratio <= 0:
            raise ConfigError(
                f"swin_embed_dim {self.swin_embed_dim} is not divided by {self.heads} heads (num_heads "
                f"{self.num_heads}, num_head_channels {self.num_head_channels}), or mlp_ratio "
                f"{self.mlp_ratio} is not above 0"
            )
        if len(self.num_res_blocks) != len(self.channel_mult):
            raise ConfigError(
                f"num_res_blocks {self.num_res_blocks} and channel_mult {self.channel_mult} must have one entry a level"
            )
        if not self.cond_lq:
            raise ConfigError(
                "cond_lq is false: only networks that see the degraded image are known"
            )
        halvings = self.lq_size / self.image_size
        if halvings < 1 or halvings != 2**self.halvings:
            raise ConfigError(
                f"lq_size {self.lq_size} must be image_size {self.image_size} times a power of two"
            )

    @property
    def halvings(self) -> int:
        """How often the degraded image is halved before it meets the state."""
        return max(int(self.lq_size / self.image_size).bit_length() - 1, 0)

    @property
    def heads(self) -> int:
        """Attention heads of the Swin layers."""
        if self.num_head_channels == -1:
            return self.num_heads
        width = self.num_head_channels
        return self.swin_embed_dim // width if width > 0 else 0

    @property
    def multiple(self) -> int:
        """Sides of the state must be multiples of this, as every level's must be of its window."""
        sides = [self.image_size // 2**i for i in range(len(self.channel_mult))]
        return max(min(self.window_size, side) * 2**i for i, side in enumerate(sides))


class SwinUNet(nn.Module):
    """Called with the state x (N, in_channels, h, w), the time (N,), the degraded image (N, 3, s h, s w), s =
    lq_size/image_size, and its mask (N, 1, s h, s w) where it takes one. Returns (N, out_channels, h, w).
    """

    def __init__(self, config: SwinUNetConfig) -> None:
        super().__init__()
        self.config, wide = config, 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, wide), nn.SiLU(), nn.Linear(wide, wide)
        )
        shown, self.feature_extractor = _feature_extractor(config)
        width = first = int(config.channel_mult[0] * config.model_channels)
        enter = nn.Conv2d(config.in_channels + shown, width, 3, padding=1)
        self.input_blocks = nn.ModuleList([EmbeddedSequential(enter)])
        kept, side, last = [width], config.image_size, len(config.channel_mult) - 1
        for i, count in enumerate(config.num_res_blocks):
            for j in range(count):
                width, layers = self._stage(width, i, j, side)
                self.input_blocks.append(EmbeddedSequential(*layers))
                kept.append(width)
            if i < last:
                self.input_blocks.append(EmbeddedSequential(self._resample(width, "down")))
                kept.append(width)
                side //= 2
        self.middle_block = EmbeddedSequential(
            self._block(width, width), self._swin(width, side), self._block(width, width)
        )
        self.output_blocks = nn.ModuleList()
        for i, count in reversed(list(enumerate(config.num_res_blocks))):
            for j in range(count + 1):
                width, layers = self._stage(width + kept.pop(), i, j, side)
                if i and j == count:
                    layers.append(self._resample(width, "up"))
                    side *= 2
                self.output_blocks.append(EmbeddedSequential(*layers))
        leave = nn.Conv2d(first, config.out_channels, 3, padding=1)
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), leave)

    def _stage(self, width: int, level: int, j: int, side: int) -> tuple[int, list[nn.Module]]:
        """The j-th block of a level, and its Swin layer: the width after it, and the layers."""
        out = int(self.config.channel_mult[level] * self.config.model_channels)
        layers: list[nn.Module] = [self._block(width, out)]
        if side in self.config.attention_resolutions and j == 0:
            layers.append(self._swin(out, side))
        return out, layers

    def _block(self, width: int, out: int, resample: str = "") -> ResBlock:
        scaled = self.config.use_scale_shift_norm
        wide = 4 * self.config.model_channels
        return ResBlock(width, wide, out, use_scale_shift_norm=scaled, resample=resample)

    def _resample(self, width: int, way: str) -> nn.Module:
        if self.config.resblock_updown:
            return self._block(width, width, way)
        kind = Downsample if way == "down" else Upsample
        return kind(width, self.config.conv_resample)

    def _swin(self, width: int, side: int) -> SwinLayer:
        c = self.config
        return SwinLayer(
            width, width=c.swin_embed_dim, heads=c.heads, window=c.window_size, depth=c.swin_depth, resolution=side,
            mlp_ratio=c.mlp_ratio, normed=c.patch_norm,
        )  # fmt: skip

    def forward(
        self, x: Tensor, time: Tensor, degraded: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The network's answer, (N, out_channels, h, w)."""
        emb = self.time_embed(timestep_embedding(time.to(x.dtype), self.config.model_channels))
        shown = degraded if mask is None else torch.cat([degraded, mask], dim=1)
        h, kept = torch.cat([x, self.feature_extractor(shown)], dim=1), []
        for block in self.input_blocks:
            h = block(h, emb)
            kept.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, kept.pop()], dim=1), emb)
        out: Tensor = self.out(h)
        return out


def _feature_extractor(config: SwinUNetConfig) -> tuple[int, nn.Module]:
    """What brings a large degraded image to the state's size, and the channels that come out."""
    channels = _COLOURS + config.cond_mask
    layers: list[nn.Module] = []
    width = _FEATURES
    for _ in range(config.halvings):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.SiLU()]
        layers.append(Downsample(width, True, 2 * width))
        channels = width = 2 * width
    return channels, nn.Sequential(*layers) if layers else nn.Identity()
