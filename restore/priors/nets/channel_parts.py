"""What the U-Nets of RDDM and IR-SDE share: time embeddings, a norm over channels, linear and full attention.

Both descend from one public implementation of DDPM and keep its names in their state dicts. Called by the networks
of `rddm_unet`, `irsde_unet` and `irsde_nafnet`; pure torch, no files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HALF_PRECISION = (torch.float16, torch.bfloat16)
HEADS, HEAD_WIDTH = 4, 32
LEAST_WIDTH = 4
"""Of an embedding of time by sines and cosines: two frequencies."""


def floor_of(x: Tensor) -> float:
    """What is added to variances: 1e-5, and 1e-3 in half precision, as in the published codes."""
    return 1e-3 if x.dtype in HALF_PRECISION else 1e-5


class SinusoidalEmbedding(nn.Module):
    """Sines, then cosines of the time at frequencies from 1 down to 1/10000, both included: (N,) -> (N, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time: Tensor) -> Tensor:
        """time: (N,) of the network's precision."""
        half = self.width // 2
        place = torch.arange(half, device=time.device, dtype=time.dtype)
        phase = time[:, None] * torch.exp(place * (-math.log(10000) / (half - 1)))
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class LearnedEmbedding(nn.Module):
    """The time itself, then sines and cosines of it at frequencies that are in the file: (N,) -> (N, width + 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(width // 2))

    def forward(self, time: Tensor) -> Tensor:
        """time: (N,) of the network's precision."""
        phase = 2 * math.pi * time[:, None] * self.weights
        return torch.cat([time[:, None], phase.sin(), phase.cos()], dim=1)


class ChannelNorm(nn.Module):
    """Mean 0 and variance 1 over the channels of every pixel, times a gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) * (variance + floor_of(x)).rsqrt() * self.g


class Normed(nn.Module):
    """A module behind a norm over channels; `fn` and `norm` are the official names."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.fn, self.norm = inner, ChannelNorm(width)

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        """x: (N, width, h, w); context goes to the inner module."""
        out: Tensor = self.fn(self.norm(x), *context)
        return out


class Residual(nn.Module):
    """A module beside the identity; `fn` is the official name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fn = inner

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        """x: (N, width, h, w); context goes to the inner module."""
        out: Tensor = self.fn(x, *context)
        return out + x


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the pixels, with a softmax over features and one over pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(inner, width, 1), ChannelNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        q, k, v = _heads(self.to_qkv(x))
        q = q.softmax(dim=2) * HEAD_WIDTH**-0.5
        pixels = x.shape[2] * x.shape[3]
        summary = torch.einsum("nhdp,nhep->nhde", k.softmax(dim=3), v / pixels)
        out = torch.einsum("nhde,nhdp->nhep", summary, q)
        joined: Tensor = self.to_out(out.reshape(x.shape[0], -1, *x.shape[2:]))
        return joined


class Attention(nn.Module):
    """Full attention over the pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.to_out = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        q, k, v = _heads(self.to_qkv(x))
        weights = torch.einsum("nhdp,nhdq->nhpq", q * HEAD_WIDTH**-0.5, k).softmax(dim=3)
        out = torch.einsum("nhpq,nhdq->nhdp", weights, v)
        joined: Tensor = self.to_out(out.reshape(x.shape[0], -1, *x.shape[2:]))
        return joined


def upsample(width: int, out: int) -> nn.Module:
    """Twice the size: every pixel repeated, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(width, out, 3, padding=1))  # fmt: skip


def downsample(width: int, out: int) -> nn.Module:
    """Half the size."""
    return nn.Conv2d(width, out, 4, stride=2, padding=1)


def _heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of each head, (N, heads, width of a head, pixels)."""
    q, k, v = (part.reshape(len(part), HEADS, HEAD_WIDTH, -1) for part in qkv.chunk(3, dim=1))
    return q, k, v
