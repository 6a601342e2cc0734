"""The one network of the bundled denoisers: a compact U-Net without normalisation layers.

Pure torch module; knows nothing of noise levels beyond the conditioning number it is given, one an image or one a
pixel. Built by `restore.priors.edm`, trained by `restore.training.denoiser`; told maps by `restore.priors.region`.
Without normalisation every output pixel depends on a fixed neighbourhood only, so that a network trained on small crops
behaves the same on a large slice.
"""

from __future__ import annotations

import dataclasses
import math
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError

# Far beyond any network of this kind: a damaged card must not ask for all the memory there is.
_LARGEST, _MOST_BLOCKS = 4096, 256


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Shape of the network: image channels, width and residual blocks of each level, entrance pixel-unshuffle.

    condition: further input channels, of an image that the answer depends on. skips: factors of the skip connections,
    the outermost first, one for each level but the lowest, empty for ones: constants as in ScaleLong (Huang, Zhou, Yan,
    Lin, NeurIPS 2023). backbone: factor of what comes from below where it meets a skip connection, as in FreeU (Si,
    Huang, Jiang, Liu, CVPR 2024), which scales half of the channels and damps the skips' low frequencies besides.
    """

    channels: int = 1
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (3, 2, 2)
    unshuffle: int = 2
    embedding: int = 128
    condition: int = 0
    skips: tuple[float, ...] = ()
    backbone: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.blocks) > 0:
            raise ConfigError(
                f"U-Net widths {self.widths} and blocks {self.blocks} must have one entry a level"
            )
        if len(self.skips) not in (0, len(self.widths) - 1) or not all(
            isinstance(f, int | float) and math.isfinite(f) for f in (*self.skips, self.backbone)
        ):
            raise ConfigError(
                f"U-Net skips {self.skips} and backbone {self.backbone}: expected finite factors, one for each "
                f"skip connection of {len(self.widths) - 1} levels above the lowest, or none"
            )
        sizes = (self.channels, *self.widths, *self.blocks, self.unshuffle, self.embedding)
        if (
            not all(type(n) is int and 1 <= n <= _LARGEST for n in sizes)
            or not (type(self.condition) is int and 0 <= self.condition <= _LARGEST)
            or sum(self.blocks) > _MOST_BLOCKS
        ):
            raise ConfigError(
                f"{self}: expected whole numbers in 1..{_LARGEST}, at most {_MOST_BLOCKS} blocks in all"
            )

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return self.unshuffle * 2 ** (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """Pixels around one that its answer depends on, at most: two convolutions a block, on the way down and up."""
        sides = [self.unshuffle * 2**level for level in range(len(self.widths))]
        convolutions = [2 * count for count in self.blocks]
        down = sum(side * count for side, count in zip(sides, convolutions, strict=True))
        up = sum(side * count for side, count in zip(sides[:-1], convolutions, strict=False))
        return 2 * self.unshuffle + down + up + self.unshuffle


class Features(NamedTuple):
    """What the encoder hands to the decoder: the lowest level (N, C, h, w), and the skips, the outermost first."""

    lowest: Tensor
    skips: tuple[Tensor, ...]


class Told(NamedTuple):
    """What the blocks of a level are told of the noise.

    embedding: (N, embedding) of images; (N, h, w, embedding) of places; or, with `shares` (N, h, w, L), which sum to
    one over L, (L, embedding) of levels of which every place has its shares.
    """

    embedding: Tensor
    shares: Tensor | None = None

    def through(self, film: nn.Linear) -> Tensor:
        """What a linear layer makes of it, (N, outputs, h, w) or (N, outputs, 1, 1)."""
        found = film(self.embedding)
        if self.shares is not None:
            found = self.shares.to(found.dtype) @ found
        return (found if found.ndim == 4 else found[:, None, None]).movedim(-1, 1)

    def halved(self) -> Told:
        """The same for the level below: means over 2 x 2 places."""
        if self.embedding.ndim == 4:
            return Told(_pooled(self.embedding, 2))
        return self if self.shares is None else Told(self.embedding, _pooled(self.shares, 2))


class ResidualBlock(nn.Module):
    """x + conv(silu(scale * conv(silu(x)) + shift)), scale and shift from the noise embedding."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * width)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        """x: (N, width, h, w)."""
        scale, shift = told.through(self.film).chunk(2, dim=1)
        h = self.conv1(F.silu(x))
        return self.conv2(F.silu(torch.addcmul(shift, h, 1 + scale))).add_(x)


class UNet(nn.Module):
    """Encoder and decoder of residual blocks with summed skips, at `1/unshuffle` resolution and below."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, emb = config.widths, config.embedding
        inner = config.channels * config.unshuffle**2
        given = inner + config.condition * config.unshuffle**2
        self.embed = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, emb), nn.SiLU(), nn.Linear(emb, emb), nn.SiLU()
        )
        self.enter = nn.Conv2d(given, widths[0], 3, padding=1)
        self.leave = nn.Conv2d(widths[0], inner, 3, padding=1)

        def level(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(width, emb) for _ in range(count))

        self.encode = nn.ModuleList(level(w, n) for w, n in zip(widths, config.blocks, strict=True))
        self.decode = nn.ModuleList(
            level(w, n) for w, n in zip(widths[:-1], config.blocks, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """First weights: uniform in +-1/sqrt(fan in); zero where a block or the network ends."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                bound = module.weight[0].numel() ** -0.5
                for p in (module.weight, module.bias):
                    if p is not None:
                        p.uniform_(-bound, bound, generator=generator)
        ends = [
            m
            for block in self.modules()
            if isinstance(block, ResidualBlock)
            for m in (block.conv2, block.film)
        ]
        for module in [*ends, self.leave]:
            for p in module.parameters():
                p.zero_()

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x: (N, channels + condition, H, W), sides a multiple of `config.multiple`; noise: (N,) conditioning number,
        or (N, 1, H, W) of one a pixel.

        Returns (N, channels, H, W). A map of one number gives what the number gives, to rounding.
        """
        told = self.embedded(noise)
        return self.decoded(self.encoded(x, told), told)

    def embedded(self, noise: Tensor) -> list[Told]:
        """The embedding for every level: of a map the mean over the pixels that a place of the level stands for.

        Few levels are embedded once each. Of others the pixels of the entrance's squares are embedded by turns: all at
        once would take more memory than the rest.
        """
        u = self.config.unshuffle
        levels = noise.unique() if noise.ndim > 1 else noise
        if noise.ndim == 1:
            told = Told(self.embed(_fourier_features(noise)))
        elif len(levels) <= _FEW:
            shares = (noise[:, 0, ..., None] == levels).to(noise)
            told = Told(self.embed(_fourier_features(levels)), _pooled(shares, u))
        else:
            parts = (noise[:, 0, i::u, j::u] for i in range(u) for j in range(u))
            told = Told(reduce(torch.add, (self.embed(_fourier_features(p)) for p in parts)) / u**2)
        found = [told]
        for _ in self.down:
            found.append(found[-1].halved())
        return found

    def encoded(self, x: Tensor, told: list[Told]) -> Features:
        """What the way down makes of x, as `forward` takes it."""
        h = self._entered(F.pixel_unshuffle(x, self.config.unshuffle))
        skips: list[Tensor] = []
        for i, blocks in enumerate(self.encode):
            if i:
                skips.append(h)
                h = self.down[i - 1](h)
            h = _through(blocks, h, told[i])
        return Features(h, tuple(skips))

    def decoded(self, features: Features, told: list[Told]) -> Tensor:
        """The answer of the way up, (N, channels, H, W); the features stay as they are."""
        h, backbone = features.lowest, self.config.backbone
        for i in reversed(range(len(self.decode))):
            h = self.up[i](h)
            h = (h if backbone == 1 else h * backbone) + self._skip(features.skips[i], i)
            h = _through(self.decode[i], h, told[i])
        return F.pixel_shuffle(self.leave(h), self.config.unshuffle)

    def _skip(self, features: Tensor, level: int) -> Tensor:
        scales = self.config.skips
        return features if not scales or scales[level] == 1 else features * scales[level]

    def _entered(self, x: Tensor) -> Tensor:
        """The first convolution, in x's precision under autocast too; what follows in that of autocast.

        A picture rounded to bfloat16 has noise of 0.002 of its values, which at low levels is more than its own: the
        answer at a level of 0.005 would lose 0.1 dB, and loses 0.015 dB so, for nothing.
        """
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return self.enter(x)
        with torch.autocast(kind, enabled=False):
            return self.enter(x).to(torch.get_autocast_dtype(kind))


def _through(level: nn.Module, h: Tensor, told: Told) -> Tensor:
    for block in level.children():
        h = block(h, told)
    return h


def _pooled(x: Tensor, side: int) -> Tensor:
    """Means over squares of places: (N, h, w, C) -> (N, h / side, w / side, C)."""
    return F.avg_pool2d(x.movedim(-1, 1), side).movedim(1, -1)


_FREQUENCIES = 16
_FEW = 8
"""Levels of a map up to which their shares are cheaper to keep than the embedding of every place."""


def _fourier_features(noise: Tensor) -> Tensor:
    """Cosines and sines of the conditioning number at log-spaced frequencies: (N, ...) -> (N, ..., 32)."""
    frequencies = torch.logspace(-1, 1, _FREQUENCIES, device=noise.device, dtype=noise.dtype)
    phase = 2 * math.pi * 0.25 * noise[..., None] * frequencies
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
