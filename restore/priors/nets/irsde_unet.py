"""ConditionalUNet of IR-SDE, and of DA-CLIP with contexts of the degradation and of the image, under official names.

Luo, Gustafsson, Zhao, Sjölund, Schön, "Image restoration with mean-reverting stochastic differential equations", ICML
2023, and "Controlling vision-language models for multi-task image restoration", ICLR 2024. Built by the family
`irsde`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.base import pad_sides
from restore.priors.nets.channel_parts import (
    LEAST_WIDTH,
    LinearAttention,
    Normed,
    Residual,
    SinusoidalEmbedding,
    downsample,
    upsample,
)
from restore.priors.nets.sizes import LARGEST, check_sizes
from restore.priors.nets.spatial_transformer import SpatialTransformer

HEAD_WIDTH = GROUPS = 32
_FINE_LEVELS = 3  # the first levels never attend to the image's context


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Channels in and out, width `nf`, multiples of it a level.

    context_dim: width of the contexts, 0 for none (IR-SDE). use_degra_context: the time is joined by the degradation's
    context. use_image_context: deep levels attend to the image's.
    """

    in_nc: int
    out_nc: int
    nf: int
    ch_mult: tuple[int, ...]
    context_dim: int = 0
    use_degra_context: bool = False
    use_image_context: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "in_nc", "out_nc", "ch_mult")
        check_sizes(self, "nf", least=LEAST_WIDTH)
        check_sizes(self, "context_dim", least=0)
        widths = [b for _, b in self.steps]
        if max(widths) > LARGEST:
            raise ConfigError(
                f"nf {self.nf} with {self.ch_mult} has {max(widths)} channels, at most {LARGEST}"
            )
        seen = [w for pair in self.steps[_FINE_LEVELS:] for w in pair] + [widths[-1]]
        if self.use_image_context and any(w % GROUPS for w in seen):
            raise ConfigError(
                f"nf {self.nf} with {self.ch_mult}: levels that see the image's context need a multiple of "
                f"{GROUPS} channels"
            )

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Channels before and after every level."""
        return list(pairwise(self.nf * m for m in (1, *self.ch_mult)))

    @property
    def prompted(self) -> bool:
        """Whether the degradation's context joins the time."""
        return self.context_dim > 0 and self.use_degra_context


class Block(nn.Module):
    """Convolution, and scale and shift by the time."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, out, 3, padding=1, bias=False)

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x: (N, width, h, w); film: scale and shift, (N, out, 1, 1) each."""
        h = self.proj(x)
        return F.silu(h if film is None else h * (film[0] + 1) + film[1])


class ResBlock(nn.Module):
    """Two blocks, the first one told the time, beside the identity."""

    def __init__(self, width: int, out: int, embedding: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.block1, self.block2 = Block(width, out), Block(out, out)
        self.res_conv = nn.Conv2d(width, out, 1, bias=False) if width != out else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, width, h, w); t: (N, embedding)."""
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = self.block2(self.block1(x, (scale, shift))) + self.res_conv(x)
        return out


class ConditionalUNet(nn.Module):
    """The noise in x_t from the state, the degraded image and the time.

    x, degraded: (N, channels, H, W) of any size: sides are grown by reflection. time: (N,) or (). degradation, image:
    contexts (N, context_dim), for networks that have them.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, nf, embedding = config, config.nf, 4 * config.nf
        self.init_conv = nn.Conv2d(2 * config.in_nc, nf, 7, padding=3, bias=False)
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf), nn.Linear(nf, embedding), nn.GELU(),
            nn.Linear(embedding, embedding),
        )  # fmt: skip
        if config.prompted:
            self.prompt = nn.Parameter(torch.empty(1, embedding))
            self.text_mlp = nn.Sequential(
                nn.Linear(config.context_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
            )
            self.prompt_mlp = nn.Linear(embedding, embedding)
        steps, last = config.steps, len(config.steps) - 1
        self.downs = nn.ModuleList(
            self._level(i, a, a, downsample(a, b) if i < last else _conv(a, b))
            for i, (a, b) in enumerate(steps)
        )
        self.ups = nn.ModuleList(
            self._level(i, a + b, b, upsample(b, a) if i else _conv(b, a))
            for i, (a, b) in reversed(list(enumerate(steps)))
        )
        deep = steps[-1][1]
        self.mid_block1 = ResBlock(deep, deep, embedding)
        self.mid_attn = self._attention(_FINE_LEVELS, deep)
        self.mid_block2 = ResBlock(deep, deep, embedding)
        self.final_res_block = ResBlock(2 * nf, nf, embedding)
        self.final_conv = nn.Conv2d(nf, config.out_nc, 3, padding=1)

    def _level(self, i: int, width: int, out: int, way: nn.Module) -> nn.ModuleList:
        blocks = [ResBlock(width, out, 4 * self.config.nf) for _ in range(2)]
        return nn.ModuleList([*blocks, self._attention(i, out), way])

    def _attention(self, i: int, width: int) -> nn.Module:
        config = self.config
        if not (config.use_image_context and config.context_dim > 0) or i < _FINE_LEVELS:
            return Residual(Normed(width, LinearAttention(width)))
        inner = SpatialTransformer(
            width,
            heads=width // HEAD_WIDTH,
            head_width=HEAD_WIDTH,
            context_width=config.context_dim,
        )
        return Residual(Normed(width, inner))

    def forward(
        self,
        x: Tensor,
        degraded: Tensor,
        time: Tensor,
        degradation: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """The network's answer, (N, out_nc, H, W)."""
        height, width = x.shape[2:]
        given = pad_sides(torch.cat([x - degraded, degraded], dim=1), 2 ** len(self.config.ch_mult))
        first = h = self.init_conv(given)
        t = self._told(time.to(x.dtype).reshape(-1), degradation)
        context = None if image is None else image[:, None]
        kept = []
        for block1, block2, attention, down in (tuple(m.children()) for m in self.downs):
            h = block1(h, t)
            kept.append(h)
            h = _attended(attention, block2(h, t), context)
            kept.append(h)
            h = down(h)
        h = self.mid_block2(_attended(self.mid_attn, self.mid_block1(h, t), context), t)
        for block1, block2, attention, up in (tuple(m.children()) for m in self.ups):
            h = block1(torch.cat([h, kept.pop()], dim=1), t)
            h = block2(torch.cat([h, kept.pop()], dim=1), t)
            h = up(_attended(attention, h, context))
        out: Tensor = self.final_conv(self.final_res_block(torch.cat([h, first], dim=1), t))
        return out[..., :height, :width]

    def _told(self, time: Tensor, degradation: Tensor | None) -> Tensor:
        """The embedding of the time, joined by the degradation's context."""
        t: Tensor = self.time_mlp(time)
        if degradation is None or not self.config.prompted:
            return t
        prompt = self.text_mlp(degradation).softmax(dim=1) * self.prompt
        joined: Tensor = t + self.prompt_mlp(prompt)
        return joined


def _conv(width: int, out: int) -> nn.Module:
    return nn.Conv2d(width, out, 3, padding=1, bias=False)


def _attended(attention: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    """Through an attention, with the context where it takes one."""
    inner = attention.fn.fn  # type: ignore[union-attr]
    out: Tensor = attention(x, context) if isinstance(inner, SpatialTransformer) else attention(x)
    return out
