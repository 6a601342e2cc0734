"""Blocks of the diffusers package under its names: residual blocks, attention, transformers, resampling, levels.

Used by `diffusers_unet.py` and `diffusers_vae.py`. Source of the layouts: Ho, Jain, Abbeel, NeurIPS 2020; Dhariwal and
Nichol, NeurIPS 2021; Rombach and others, CVPR 2022.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.parts import doubled, halved


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the blocks of a network have in common. temb: width of the embedding, 0 where there is none.

    head_dim: channels of a head of plain attention, None for one head. heads, context, linear: of transformers: number
    of heads, width of the context, and whether they are entered by a linear map.
    """

    groups: int
    eps: float
    temb: int = 0
    scale_shift: bool = False
    head_dim: int | None = None
    attention_groups: int | None = None
    padding: int = 1
    down_by: str = "conv"
    up_by: str = "conv"
    heads: int = 1
    context: int = 0
    linear: bool = False
    depth: int = 1


class ResnetBlock2D(nn.Module):
    """Two normalised convolutions around the embedding, at the same, half ("down") or twice ("up") the size."""

    def __init__(
        self, channels: int, out: int, shape: Shape, *, resample: str = "", rescale: float = 1.0
    ) -> None:
        super().__init__()
        self.scale_shift, self.resample, self.rescale = shape.scale_shift, resample, rescale
        self.norm1 = nn.GroupNorm(shape.groups, channels, eps=shape.eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        if shape.temb:
            self.time_emb_proj = nn.Linear(shape.temb, 2 * out if shape.scale_shift else out)
        self.norm2 = nn.GroupNorm(shape.groups, out, eps=shape.eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, temb: Tensor | None) -> Tensor:
        """x: (N, channels, H, W), temb: (N, E)."""
        h = F.silu(self.norm1(x))
        if self.resample:
            change = halved if self.resample == "down" else doubled
            h, x = change(h), change(x)
        h = self.conv1(h)
        if temb is None:
            h = self.norm2(h)
        else:
            told = self.time_emb_proj(F.silu(temb))[:, :, None, None]
            if self.scale_shift:
                scale, shift = told.chunk(2, dim=1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + told)
        h = self.conv2(F.silu(h))
        return (self.conv_shortcut(x) + h) / self.rescale


class Attention(nn.Module):
    """Dot-product attention: over the positions of an image (with its own normalisation), or of a sequence.

    groups: of the normalisation; None for none. context: width of the sequence that is looked at, 0 for the input.
    """

    def __init__(
        self, channels: int, heads: int, *, groups: int | None = None, eps: float = 1e-5, context: int = 0,
        bias: bool = True, rescale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if heads < 1 or channels % heads:
            raise ConfigError(f"{heads} attention heads do not divide {channels} channels")
        self.heads, self.rescale = heads, rescale
        self.group_norm = None if groups is None else nn.GroupNorm(groups, channels, eps=eps)
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(context or channels, channels, bias=bias)
        self.to_v = nn.Linear(context or channels, channels, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: (N, C, H, W), to which the answer is added, or (N, T, C); context: (N, S, width)."""
        if x.ndim == 3:
            return self._attended(x, x if context is None else context)
        flat = x.flatten(2)
        if self.group_norm is not None:
            flat = self.group_norm(flat)
        rows = flat.transpose(1, 2)
        h = self._attended(rows, rows).transpose(1, 2).reshape(x.shape)
        return (h + x) / self.rescale

    def _attended(self, x: Tensor, context: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (
            f(s).reshape(n, s.shape[1], self.heads, -1).transpose(1, 2)
            for f, s in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](h.transpose(1, 2).reshape(n, t, c))


class GatedLinear(nn.Module):
    """A linear map to twice the width; one half times the GELU of the other."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, T, channels)."""
        h, gate = self.proj(x).chunk(2, dim=-1)
        return h * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, T, channels)."""
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Self-attention, attention to the context, feed-forward, each added to what comes in."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, heads, bias=False)
        self.attn2 = Attention(channels, heads, context=context, bias=False)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """x: (N, T, channels), context: (N, S, width)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Transformer blocks over the positions of an image."""

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        self.linear = shape.linear
        self.norm = nn.GroupNorm(shape.groups, channels, eps=1e-6)
        enter = nn.Linear if shape.linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.proj_in, self.proj_out = enter(channels, channels), enter(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, shape.heads, shape.context) for _ in range(shape.depth)
        )

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """x: (N, C, H, W), context: (N, S, width)."""
        h = self.norm(x)
        h = h if self.linear else self.proj_in(h)
        h = h.flatten(2).transpose(1, 2)
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context)
        h = self.proj_out(h) if self.linear else h
        h = h.transpose(1, 2).reshape(x.shape)
        return x + (h if self.linear else self.proj_out(h))


class Downsample2D(nn.Module):
    """A strided convolution; padding 0 means zeros on the right and below only."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """x: (N, channels, H, W)."""
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample2D(nn.Module):
    """Every pixel twice, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """x: (N, channels, H, W)."""
        return self.conv(doubled(x))


class Level(nn.Module):
    """Residual blocks with what stands between them, and resampling at the end where there is any.

    kind: "plain", "attention" or "transformer". inputs: channels on entrance of each residual block.
    """

    def __init__(self, inputs: list[int], out: int, shape: Shape, kind: str) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(c, out, shape) for c in inputs)
        self.between = kind
        if kind == "attention":
            self.attentions = nn.ModuleList(
                Attention(out, heads_of(out, shape), groups=shape.groups, eps=shape.eps) for _ in inputs
            )  # fmt: skip
        elif kind == "transformer":
            self.attentions = nn.ModuleList(Transformer2DModel(out, shape) for _ in inputs)

    def layer(self, k: int, x: Tensor, temb: Tensor | None, context: Tensor | None) -> Tensor:
        """One residual block and what follows it."""
        x = self.resnets[k](x, temb)
        if self.between == "attention":
            return self.attentions[k](x)
        return self.attentions[k](x, context) if self.between == "transformer" else x


class DownLevel(Level):
    """A level of an encoder; last: what halves the sides behind it."""

    def __init__(
        self, inputs: list[int], out: int, shape: Shape, kind: str, last: nn.Module | None
    ) -> None:
        super().__init__(inputs, out, shape, kind)
        self.halves = last is not None
        if last is not None:
            self.downsamplers = nn.ModuleList([last])

    def forward(
        self, x: Tensor, temb: Tensor | None = None, context: Tensor | None = None
    ) -> list[Tensor]:
        """What leaves each block, and what leaves the level. x: (N, inputs[0], H, W)."""
        found = []
        for k in range(len(self.resnets)):
            x = self.layer(k, x, temb, context)
            found.append(x)
        if self.halves:
            found.append(self.downsamplers[0](x, temb))
        return found or [x]


class UpLevel(Level):
    """A level of a decoder; last: what doubles the sides behind it."""

    def __init__(
        self, inputs: list[int], out: int, shape: Shape, kind: str, last: nn.Module | None
    ) -> None:
        super().__init__(inputs, out, shape, kind)
        self.doubles = last is not None
        if last is not None:
            self.upsamplers = nn.ModuleList([last])

    def forward(
        self, x: Tensor, skips: list[Tensor] | None = None, temb: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x: (N, C, H, W). skips: the last one is taken away for each block and stands beside its input."""
        for k in range(len(self.resnets)):
            x = x if skips is None else torch.cat([x, skips.pop()], dim=1)
            x = self.layer(k, x, temb, context)
        return self.upsamplers[0](x, temb) if self.doubles else x


class MidBlock(nn.Module):
    """Residual block, attention or transformer, residual block; `kind` as of `Level`, "plain" without attention."""

    def __init__(self, channels: int, shape: Shape, kind: str, rescale: float = 1.0) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock2D(channels, channels, shape, rescale=rescale) for _ in range(2)
        )
        self.attentions = nn.ModuleList()
        if kind == "attention":
            self.attentions.append(
                Attention(
                    channels, heads_of(channels, shape), groups=shape.attention_groups, eps=shape.eps,
                    rescale=rescale,
                )
            )  # fmt: skip
        elif kind == "transformer":
            self.attentions.append(Transformer2DModel(channels, shape))

    def forward(self, x: Tensor, temb: Tensor | None, context: Tensor | None = None) -> Tensor:
        """x: (N, channels, H, W)."""
        x = self.resnets[0](x, temb)
        for attention in self.attentions:
            x = attention(x, context)
        return self.resnets[1](x, temb)


def heads_of(channels: int, shape: Shape) -> int:
    """Heads of plain attention at a width."""
    return 1 if shape.head_dim is None else channels // shape.head_dim


def timesteps(t: Tensor, width: int, *, cosines_first: bool, shift: float) -> Tensor:
    """Sines and cosines of times (N,) at width/2 frequencies: (N, width)."""
    half = width // 2
    steps = torch.arange(half, dtype=t.dtype, device=t.device) / (half - shift)
    phase = t[:, None] * torch.exp(-math.log(10_000) * steps)[None]
    parts = [phase.sin(), phase.cos()]
    found = torch.cat(parts[::-1] if cosines_first else parts, dim=1)
    return F.pad(found, (0, width % 2))
