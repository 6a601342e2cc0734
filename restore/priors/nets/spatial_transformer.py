"""The transformer over pixels of latent-diffusion U-Nets: attention to themselves, to a context, and a gated product.

Rombach, Blattmann, Lorenz, Esser, Ommer, "High-resolution image synthesis with latent diffusion models", CVPR 2022,
with the official names. Called by `ldm_unet` and `irsde_unet`; pure torch, no files.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from restore.priors.nets.parts import attend

_NORM_EPS = 1e-6  # of the group norm here; those of the U-Net have 1e-5


class CrossAttention(nn.Module):
    """Attention of tokens to a context, or to themselves where there is none."""

    def __init__(self, width: int, context_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_width
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(context_width, inner, bias=False)
        self.to_v = nn.Linear(context_width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Identity())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: (N, tokens, width); context: (N, words, context_width)."""
        context = x if context is None else context
        rows = (self.to_q(x), self.to_k(context), self.to_v(context))
        width = rows[0].shape[2] // self.heads
        q, k, v = (r.transpose(1, 2).reshape(-1, width, r.shape[1]) for r in rows)
        seen = attend(q, k, v).reshape(x.shape[0], -1, x.shape[1]).transpose(1, 2)
        out: Tensor = self.to_out(seen)
        return out


class GatedLinear(nn.Module):
    """A product of one half of the channels with the GELU of the other."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, tokens, width)."""
        one, gate = self.proj(x).chunk(2, dim=-1)
        return one * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide, gated, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.net = nn.Sequential(GatedLinear(width, inner), nn.Identity(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, tokens, width)."""
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """Attention to the tokens, attention to the context, feed-forward; each beside the identity."""

    def __init__(self, width: int, heads: int, head_width: int, context_width: int | None) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads, head_width)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context_width or width, heads, head_width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: (N, tokens, width); context: (N, words, context_width)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, beside the identity.

    linear: the projections are linear layers over tokens (Stable Diffusion 2), else convolutions.
    """

    wants_context = True

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_width: int,
        depth: int = 1,
        context_width: int | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        inner, self.linear = heads * head_width, linear
        self.norm = nn.GroupNorm(32, width, eps=_NORM_EPS)
        self.proj_in = nn.Linear(width, inner) if linear else nn.Conv2d(width, inner, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_width, context_width) for _ in range(depth)
        )
        self.proj_out = nn.Linear(inner, width) if linear else nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: (N, width, h, w); context: (N, words, context_width)."""
        size, h = x.shape[2:], self.norm(x)
        h = self.proj_in(_tokens(h)) if self.linear else _tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            h = block(h, context)
        h = _image(self.proj_out(h), size) if self.linear else self.proj_out(_image(h, size))
        return x + h


def _tokens(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C)."""
    return x.flatten(2).transpose(1, 2)


def _image(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, h w, C) -> (N, C, h, w)."""
    return x.transpose(1, 2).unflatten(2, size)
