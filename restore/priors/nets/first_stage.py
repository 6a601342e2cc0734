"""The first stages of latent diffusion: encoder, decoder, KL and VQ autoencoders, under their official names.

Esser, Rombach, Ommer, "Taming transformers", CVPR 2021, and Rombach and others, "High-resolution image synthesis with
latent diffusion models", CVPR 2022; ResShift's autoencoders are the same. Built by the families `ldm` and
`resshift`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.parts import attend
from restore.priors.nets.sizes import MOST, check_groups, check_sizes

NORM_EPS = 1e-6
LOG_VARIANCES = (-30.0, 20.0)  # what those of the KL encoder are clipped to


@dataclasses.dataclass(frozen=True)
class DDConfig:
    """Arguments of the published encoder and decoder (`ddconfig`), by their own names.

    resolution: side of the training images; attention sits where the side, halved at every level, is in
    `attn_resolutions`. num_res_blocks: one number, or one a level (ResShift). attn_type: "vanilla", or "none" for no
    attention.
    """

    ch: int
    z_channels: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int | tuple[int, ...]
    resolution: int
    attn_resolutions: tuple[int, ...] = ()
    in_channels: int = 3
    out_ch: int = 3
    double_z: bool = True
    resamp_with_conv: bool = True
    attn_type: str = "vanilla"

    def __post_init__(self) -> None:
        check_sizes(self, "ch", "z_channels", "ch_mult", "resolution", "in_channels", "out_ch")
        check_sizes(self, "num_res_blocks", least=0, largest=MOST)
        check_groups(
            f"ch {self.ch} with ch_mult {self.ch_mult}",
            (self.ch * m for m in (1, *self.ch_mult)),
            32,
        )
        if len(self.blocks) != len(self.ch_mult):
            raise ConfigError(
                f"num_res_blocks {self.num_res_blocks} and ch_mult {self.ch_mult} must have one entry a level"
            )

    @property
    def factor(self) -> int:
        """A code has 1/factor of the image's height and width."""
        return int(2 ** (len(self.ch_mult) - 1))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks of every level."""
        if isinstance(self.num_res_blocks, int):
            return (self.num_res_blocks,) * len(self.ch_mult)
        return self.num_res_blocks


class ResnetBlock(nn.Module):
    """Two convolutions behind group norms, beside the identity."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, width, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(32, out, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(width, out, 1) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class AttnBlock(nn.Module):
    """Attention over the pixels with one head, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=NORM_EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        h = self.norm(x)
        q, k, v = (t.flatten(2) for t in (self.q(h), self.k(h), self.v(h)))
        out: Tensor = x + self.proj_out(attend(q, k, v).reshape(x.shape))
        return out


class Down(nn.Module):
    """Half the size; the convolution sees zeros right and below, as published."""

    def __init__(self, width: int, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w), sides even."""
        if self.conv is None:
            return F.avg_pool2d(x, 2)
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Up(nn.Module):
    """Twice the size: every pixel repeated, then a convolution."""

    def __init__(self, width: int, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1) if with_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """Blocks of one size, each followed by attention where there is any, and the way to the next size."""

    def __init__(self, widths: list[tuple[int, int]], attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in widths)
        self.attn = nn.ModuleList(AttnBlock(b) for _, b in widths if attention)
        self.downsample: Down | None = None
        self.upsample: Up | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        for i, block in enumerate(self.block):
            x = block(x)
            x = self.attn[i](x) if len(self.attn) else x
        if self.downsample is not None:
            x = self.downsample(x)
        return x if self.upsample is None else self.upsample(x)


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, width: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(width, width)
        self.attn_1 = AttnBlock(width) if attention else nn.Identity()
        self.block_2 = ResnetBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Encoder(nn.Module):
    """Image to moments of the code."""

    def __init__(self, config: DDConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        side, attends = config.resolution, config.attn_type == "vanilla"
        for i, mult in enumerate(config.ch_mult):
            # The width of a level's first block is the level's before; without blocks it stays there.
            width = config.ch * (1, *config.ch_mult)[i]
            widths = []
            for _ in range(config.blocks[i]):
                widths.append((width, config.ch * mult))
                width = config.ch * mult
            level = Level(widths, attends and side in config.attn_resolutions)
            if i < len(config.ch_mult) - 1:
                level.downsample = Down(width, config.resamp_with_conv)
                side //= 2
            self.down.append(level)
        self.mid = Middle(width, attends)
        self.norm_out = nn.GroupNorm(32, width, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(
            width, config.z_channels * (2 if config.double_z else 1), 3, padding=1
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, H, W), sides multiples of the factor."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return out


class Decoder(nn.Module):
    """Code to image."""

    def __init__(self, config: DDConfig) -> None:
        super().__init__()
        width = config.ch * config.ch_mult[-1]
        side, attends = config.resolution // config.factor, config.attn_type == "vanilla"
        self.conv_in = nn.Conv2d(config.z_channels, width, 3, padding=1)
        self.mid = Middle(width, attends)
        levels: list[Level] = []
        for i, mult in reversed(list(enumerate(config.ch_mult))):
            widths = []
            for _ in range(config.blocks[i] + 1):
                widths.append((width, config.ch * mult))
                width = config.ch * mult
            level = Level(widths, attends and side in config.attn_resolutions)
            if i:
                level.upsample = Up(width, config.resamp_with_conv)
                side *= 2
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(32, width, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(width, config.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, z_channels, h, w)."""
        h = self.mid(self.conv_in(z))
        for level in reversed(list(self.up)):
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return out


class AutoencoderKL(nn.Module):
    """First stage whose code is a Gaussian."""

    def __init__(self, config: DDConfig, embed_dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, config.z_channels, 1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, (N, embed_dim, h, w) each. x: (N, channels, H, W) in [-1, 1]."""
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def encode(self, x: Tensor) -> Tensor:
        """The mean code."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code."""
        out: Tensor = self.decoder(self.post_quant_conv(z))
        return out


class Codebook(nn.Module):
    """The codes that there are."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, width)

    def indices(self, z: Tensor) -> Tensor:
        """Number of the nearest code of every pixel, (N, h, w). z: (N, width, h, w)."""
        rows, codes = z.movedim(1, -1).flatten(0, 2), self.embedding.weight
        # |z|^2 is the same for all codes of a pixel
        distances = codes.square().sum(1) - 2 * rows @ codes.T
        return distances.argmin(1).reshape(z.shape[0], *z.shape[2:])

    def forward(self, z: Tensor) -> Tensor:
        """The nearest codes, with the gradient of the identity. z: (N, width, h, w)."""
        nearest = self.embedding(self.indices(z)).movedim(-1, 1)
        return z + (nearest - z).detach() if z.requires_grad else nearest


class VQModel(nn.Module):
    """First stage with a codebook; encodes without it, decodes through it."""

    def __init__(self, config: DDConfig, embed_dim: int, n_embed: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Codebook(n_embed, embed_dim)
        self.quant_conv = nn.Conv2d(config.z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, config.z_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The code before the codebook, (N, embed_dim, h, w). x: (N, channels, H, W) in [-1, 1]."""
        out: Tensor = self.quant_conv(self.encoder(x))
        return out

    def decode(self, z: Tensor, *, quantised: bool = False) -> Tensor:
        """The image of a code. quantised: z comes from the codebook."""
        code = z if quantised else self.quantize(z)
        out: Tensor = self.decoder(self.post_quant_conv(code))
        return out
