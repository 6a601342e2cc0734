"""AutoencoderKL and VQModel of the diffusers package under their names.

Sources: Rombach and others, "High-resolution image synthesis with latent diffusion models", CVPR 2022; Esser, Rombach,
Ommer, "Taming transformers", CVPR 2021.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.diffusers_blocks import (
    DownLevel,
    Downsample2D,
    MidBlock,
    Shape,
    UpLevel,
    Upsample2D,
)

_EPS = 1e-6
_DOWN = {"DownEncoderBlock2D": "plain", "AttnDownEncoderBlock2D": "attention"}
_UP = {"UpDecoderBlock2D": "plain", "AttnUpDecoderBlock2D": "attention"}


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Settings of `AutoencoderKL` and, with codes in a book (num_vq_embeddings), of `VQModel`."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    num_vq_embeddings: int = 0
    vq_embed_dim: int | None = None

    def __post_init__(self) -> None:
        for name, words in (("down_block_types", _DOWN), ("up_block_types", _UP)):
            kinds = getattr(self, name)
            if len(kinds) != len(self.block_out_channels) or set(kinds) - set(words):
                raise ConfigError(
                    f"{name} is {kinds}, expected one of {', '.join(words)} for each of {self.block_out_channels}"
                )
        if self.act_fn not in ("silu", "swish"):
            raise ConfigError(f"act_fn is '{self.act_fn}', and only silu can be built here")
        sizes = (
            self.in_channels,
            self.out_channels,
            self.latent_channels,
            *self.block_out_channels,
        )
        if not all(1 <= n <= 65_536 for n in sizes) or not 1 <= self.layers_per_block <= 64:
            raise ConfigError(
                f"channels {sizes}, layers_per_block {self.layers_per_block}: expected channels in 1..65536, 1 to 64 "
                "layers"
            )
        if self.norm_num_groups < 1:
            raise ConfigError(f"norm_num_groups is {self.norm_num_groups}, expected 1 or more")
        if bad := [c for c in self.block_out_channels if c % self.norm_num_groups]:
            raise ConfigError(f"norm_num_groups {self.norm_num_groups} does not divide {bad}")

    @property
    def quantised(self) -> bool:
        """Whether codes are those of a book."""
        return self.num_vq_embeddings > 0

    @property
    def code_channels(self) -> int:
        """Of the codes that samplers see."""
        return (
            (self.vq_embed_dim or self.latent_channels) if self.quantised else self.latent_channels
        )

    @property
    def factor(self) -> int:
        """A code has 1/factor of the image's sides."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def shape(self) -> Shape:
        """Of all blocks: one head of attention, zeros on one side when halving."""
        return Shape(self.norm_num_groups, _EPS, attention_groups=self.norm_num_groups, padding=0)


class Encoder(nn.Module):
    """Images to what the code is made of."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, shape = config.block_out_channels, config.shape
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        width = widths[0]
        for i, name in enumerate(config.down_block_types):
            inputs = [width, *[widths[i]] * (config.layers_per_block - 1)]
            width = widths[i]
            down = Downsample2D(width, 0) if i < len(widths) - 1 else None
            self.down_blocks.append(DownLevel(inputs, width, shape, _DOWN[name], down))
        kind = "attention" if config.mid_block_add_attention else "plain"
        self.mid_block = MidBlock(width, shape, kind)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, width, eps=_EPS)
        out = config.latent_channels * (1 if config.quantised else 2)
        self.conv_out = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, H, W)."""
        h = self.conv_in(x)
        for level in self.down_blocks:
            h = level(h)[-1]
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h, None))))


class Decoder(nn.Module):
    """Codes to images."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, shape = config.block_out_channels[::-1], config.shape
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        kind = "attention" if config.mid_block_add_attention else "plain"
        self.mid_block = MidBlock(widths[0], shape, kind)
        self.up_blocks = nn.ModuleList()
        width = widths[0]
        for i, name in enumerate(config.up_block_types):
            inputs = [width, *[widths[i]] * config.layers_per_block]
            width = widths[i]
            up = Upsample2D(width) if i < len(widths) - 1 else None
            self.up_blocks.append(UpLevel(inputs, width, shape, _UP[name], up))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, width, eps=_EPS)
        self.conv_out = nn.Conv2d(width, config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, latent_channels, h, w)."""
        h = self.mid_block(self.conv_in(z), None)
        for level in self.up_blocks:
            h = level(h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class CodeBook(nn.Module):
    """The vectors that a code may consist of."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, width)

    def nearest(self, z: Tensor) -> Tensor:
        """Indices of the nearest vectors, in the order of rows. z: (N, width, h, w). Returns (N h w,)."""
        flat = z.movedim(1, -1).reshape(-1, z.shape[1])
        return torch.cdist(flat, self.embedding.weight).argmin(dim=1)

    def forward(self, z: Tensor) -> Tensor:
        """The code with each vector replaced by the nearest of the book; gradients pass as if it were not."""
        found = self.embedding(self.nearest(z))
        nearest = found.reshape(len(z), *z.shape[2:], -1).movedim(-1, 1)
        return z + (nearest - z).detach() if z.requires_grad else nearest


class DiffusersVAE(nn.Module):
    """Encoder, decoder, and what makes codes between them."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        latent, code = config.latent_channels, config.code_channels
        moments = (latent, code) if config.quantised else (2 * latent, 2 * code)
        if config.use_quant_conv:
            self.quant_conv = nn.Conv2d(*moments, 1)
        if config.use_post_quant_conv:
            self.post_quant_conv = nn.Conv2d(code, latent, 1)
        if config.quantised:
            self.quantize = CodeBook(config.num_vq_embeddings, code)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the code of an image; a code of a book has no variance."""
        h = self.encoder(x)
        h = self.quant_conv(h) if self.config.use_quant_conv else h
        if self.config.quantised:
            return h, None
        mean, log_variance = h.chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def decode(self, z: Tensor, *, quantise: bool = True) -> Tensor:
        """The image of a code, which is taken to the book first where there is one."""
        if self.config.quantised and quantise:
            z = self.quantize(z)
        return self.decoder(self.post_quant_conv(z) if self.config.use_post_quant_conv else z)

    def forward(self, x: Tensor) -> Tensor:
        """Encode to the mean code and decode."""
        return self.decode(self.moments(x)[0])
