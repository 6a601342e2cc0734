"""The U-Net of guided-diffusion ("ADM") under its official names: a network of image, time and perhaps class.

Source: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021; the layout is that of
Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.adm_blocks import (
    GROUPS,
    AttentionBlock,
    Downsample,
    EmbeddedSequential,
    ResBlock,
    Upsample,
    group_norm,
)
from restore.priors.nets.parts import timestep_embedding

LARGEST_WIDTH, MOST_BLOCKS = 65_536, 64
"""Far beyond any network of this kind: a wrong setting must not ask for all the memory there is."""


@dataclasses.dataclass(frozen=True)
class ADMConfig:
    """Constructor arguments of the official `UNetModel`, under its names.

    attention_resolutions: factors of down-sampling at which attention sits. channel_mult: width of each level as a
    multiple of model_channels. num_heads_upsample: -1 for num_heads; num_head_channels: -1 for num_heads heads.
    conv_resample: resample by convolutions where the residual blocks do not (resblock_updown).
    """

    in_channels: int
    model_channels: int
    out_channels: int
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    channel_mult: tuple[float, ...] = (1, 2, 4, 8)
    conv_resample: bool = True
    num_classes: int | None = None
    num_heads: int = 1
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False

    def __post_init__(self) -> None:
        widths = [int(m * self.model_channels) for m in self.channel_mult]
        counts = (self.in_channels, self.out_channels, self.model_channels, *widths)
        if not widths or not all(1 <= n <= LARGEST_WIDTH for n in counts):
            raise ConfigError(
                f"in_channels, out_channels, model_channels and widths {counts} (channel_mult {self.channel_mult}): "
                f"expected 1..{LARGEST_WIDTH}"
            )
        if not 0 <= self.num_res_blocks <= MOST_BLOCKS or len(widths) > MOST_BLOCKS:
            raise ConfigError(
                f"num_res_blocks {self.num_res_blocks}, {len(widths)} levels: expected at most {MOST_BLOCKS} of each"
            )
        if self.num_classes is not None and not 1 <= self.num_classes <= LARGEST_WIDTH:
            raise ConfigError(f"num_classes {self.num_classes}: expected 1..{LARGEST_WIDTH}")
        if bad := [w for w in widths if w % GROUPS]:
            raise ConfigError(
                f"widths {bad} (model_channels {self.model_channels} x channel_mult {self.channel_mult}) cannot be "
                f"divided by the {GROUPS} groups of the normalisation"
            )

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return int(2 ** (len(self.channel_mult) - 1))

    def heads(self, channels: int, *, up: bool = False) -> int:
        """Attention heads at a width. Raises ConfigError where they do not divide it."""
        heads = self.num_heads
        if up and self.num_heads_upsample != -1:
            heads = self.num_heads_upsample
        if self.num_head_channels != -1:
            heads = channels // self.num_head_channels if self.num_head_channels > 0 else 0
        width = self.num_head_channels if self.num_head_channels != -1 else 1
        if heads < 1 or channels % heads or (self.num_head_channels != -1 and channels % width):
            raise ConfigError(
                f"num_heads {self.num_heads}, num_head_channels {self.num_head_channels} do not divide {channels} "
                "channels"
            )
        return heads


class ADMUNet(nn.Module):
    """Encoder, middle and decoder with concatenated skips. A subclass puts other layers in the place of attention."""

    def __init__(self, config: ADMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.model_channels
        emb = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, emb)
        first = int(config.channel_mult[0] * width)
        widths, channels, factor = self._encoder(first, emb)
        self.middle_block = EmbeddedSequential(
            self._res(channels, emb), self._attention(channels, up=False), self._res(channels, emb)
        )
        channels = self._decoder(widths, channels, factor, emb)
        self.out = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv2d(first, config.out_channels, 3, padding=1)
        )

    def _encoder(self, first: int, emb: int) -> tuple[list[int], int, int]:
        """Builds `input_blocks`; returns the widths of its outputs, the last one, the factor of down-sampling."""
        c = self.config
        blocks = [EmbeddedSequential(nn.Conv2d(c.in_channels, first, 3, padding=1))]
        widths, channels, factor = [first], first, 1
        for level, mult in enumerate(c.channel_mult):
            for _ in range(c.num_res_blocks):
                out = int(mult * c.model_channels)
                layers: list[nn.Module] = [self._res(channels, emb, out)]
                channels = out
                if factor in c.attention_resolutions:
                    layers.append(self._attention(channels, up=False))
                blocks.append(EmbeddedSequential(*layers))
                widths.append(channels)
            if level != len(c.channel_mult) - 1:
                down = (
                    self._res(channels, emb, resample="down")
                    if c.resblock_updown
                    else Downsample(channels, c.conv_resample)
                )
                blocks.append(EmbeddedSequential(down))
                widths.append(channels)
                factor *= 2
        self.input_blocks = nn.ModuleList(blocks)
        return widths, channels, factor

    def _decoder(self, widths: list[int], channels: int, factor: int, emb: int) -> int:
        """Builds `output_blocks`; returns the width of what leaves the last."""
        c = self.config
        blocks = []
        for level, mult in reversed(list(enumerate(c.channel_mult))):
            for i in range(c.num_res_blocks + 1):
                out = int(mult * c.model_channels)
                layers: list[nn.Module] = [self._res(channels + widths.pop(), emb, out)]
                channels = out
                if factor in c.attention_resolutions:
                    layers.append(self._attention(channels, up=True))
                if level and i == c.num_res_blocks:
                    layers.append(
                        self._res(channels, emb, resample="up")
                        if c.resblock_updown
                        else Upsample(channels, c.conv_resample)
                    )
                    factor //= 2
                blocks.append(EmbeddedSequential(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        return channels

    def _res(self, channels: int, emb: int, out: int | None = None, resample: str = "") -> ResBlock:
        return ResBlock(
            channels, emb, out, use_scale_shift_norm=self.config.use_scale_shift_norm, resample=resample
        )  # fmt: skip

    def _attention(self, channels: int, *, up: bool) -> nn.Module:
        heads = self.config.heads(channels, up=up)
        return AttentionBlock(channels, heads, self.config.use_new_attention_order)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """x: (N, in_channels, H, W); t: (N,) times; y: (N,) classes; context: for subclasses that look at one.

        Returns (N, out_channels, H, W). Raises ConfigError for a class where there are none, and the other way round.
        """
        if (y is None) != (self.config.num_classes is None):
            raise ConfigError(
                "a class label belongs to a class-conditional network, and only there"
            )
        emb = self.time_embed(timestep_embedding(t.to(x.dtype), self.config.model_channels))
        if y is not None:
            emb = emb + self.label_emb(y)
        h, skips = x, []
        for block in self.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb, context)
        return self.out(h)
