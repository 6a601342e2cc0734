"""The U-Net of latent diffusion: that of guided diffusion with spatial transformers in the place of attention.

Rombach, Blattmann, Lorenz, Esser, Ommer, "High-resolution image synthesis with latent diffusion models", CVPR 2022.
Built by the family `ldm`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses

from torch import nn

from restore.errors import ConfigError
from restore.priors.nets.adm_blocks import AttentionBlock
from restore.priors.nets.adm_unet import ADMConfig, ADMUNet
from restore.priors.nets.sizes import MOST, check_sizes
from restore.priors.nets.spatial_transformer import SpatialTransformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class LDMUNetConfig(ADMConfig):
    """Further arguments of the official `UNetModel` of latent diffusion, under its names.

    use_spatial_transformer: attention to a context of `context_dim` channels, in `transformer_depth` blocks. legacy:
    with transformers, num_heads rules over num_head_channels. use_linear_in_transformer: Stable Diffusion 2.
    """

    num_heads: int = -1
    use_spatial_transformer: bool = False
    transformer_depth: int = 1
    context_dim: int | None = None
    legacy: bool = True
    use_linear_in_transformer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "transformer_depth", largest=MOST)
        if self.context_dim is not None:
            check_sizes(self, "context_dim")
        if self.num_heads == -1 and self.num_head_channels == -1:
            raise ConfigError("either num_heads or num_head_channels has to be set")
        if self.use_spatial_transformer != (self.context_dim is not None):
            raise ConfigError(
                f"use_spatial_transformer={self.use_spatial_transformer} and context_dim={self.context_dim}: a context "
                "belongs to spatial transformers, and only there"
            )

    def transformer_heads(self, channels: int) -> tuple[int, int]:
        """Heads and width of a head of the transformers at a width. Raises ConfigError where none fit."""
        heads, width = self.num_heads, self.num_head_channels
        if width != -1:
            heads = channels // width if width > 0 else 0
        if heads > 0 and (width == -1 or self.legacy):
            width = channels // heads
        if heads < 1 or width < 1:
            raise ConfigError(
                f"num_heads {self.num_heads}, num_head_channels {self.num_head_channels} leave no heads at {channels} "
                "channels"
            )
        return heads, width


class LDMUNet(ADMUNet):
    """The network of codes, times and, where it has one, a context (N, words, context_dim)."""

    config: LDMUNetConfig

    def _attention(self, channels: int, *, up: bool) -> nn.Module:
        config = self.config
        if not config.use_spatial_transformer:
            heads = config.heads(channels, up=up)
            return AttentionBlock(channels, heads, config.use_new_attention_order)
        heads, width = config.transformer_heads(channels)
        return SpatialTransformer(
            channels, heads=heads, head_width=width, depth=config.transformer_depth,
            context_width=config.context_dim, linear=config.use_linear_in_transformer,
        )  # fmt: skip
