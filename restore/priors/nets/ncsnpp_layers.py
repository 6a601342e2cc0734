"""Layers of NCSN++ under their official names.

Source: Song and others, "Score-based generative modeling through stochastic differential equations", ICLR 2021,
appendix H. Used by `ncsnpp.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.priors.nets import fir
from restore.priors.nets.parts import attend, doubled, halved

Act = Callable[[Tensor], Tensor]
EPS = 1e-6
_HALF = math.sqrt(0.5)


def normalised(channels: int) -> nn.GroupNorm:
    """Over groups of four channels or more, at most 32 groups."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=EPS)


def conv3x3(channels: int, out: int) -> nn.Conv2d:
    """3 x 3, same size."""
    return nn.Conv2d(channels, out, 3, padding=1)


class FourierProjection(nn.Module):
    """Sines, then cosines of 2 pi x W, W fixed at random when the network was made."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N,). Returns (N, 2 width)."""
        phase = x[:, None] * self.W[None] * (2 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class NIN(nn.Module):
    """A linear map of channels whose weights are stored as (in, out)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, out))
        self.b = nn.Parameter(torch.empty(out))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        return torch.einsum("nchw,cd->ndhw", x, self.W) + self.b[:, None, None]


class Combine(nn.Module):
    """The input pyramid beside ("cat") or added to ("sum") the features."""

    def __init__(self, channels: int, width: int, method: str) -> None:
        super().__init__()
        self.method = method
        self.Conv_0 = nn.Conv2d(channels, width, 1)

    def forward(self, pyramid: Tensor, h: Tensor) -> Tensor:
        """pyramid: (N, channels, H, W), h: (N, width, H, W)."""
        found = self.Conv_0(pyramid)
        return torch.cat([found, h], dim=1) if self.method == "cat" else found + h


class Attention(nn.Module):
    """Self-attention over positions with one head."""

    def __init__(self, channels: int, skip_rescale: bool) -> None:
        super().__init__()
        self.skip_rescale = skip_rescale
        self.GroupNorm_0 = normalised(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        h = self.GroupNorm_0(x)
        q, k, v = (to(h).flatten(2) for to in (self.NIN_0, self.NIN_1, self.NIN_2))
        return summed(x, self.NIN_3(attend(q, k, v).reshape(x.shape)), self.skip_rescale)


class FilteredConv(nn.Module):
    """A 3 x 3 convolution that halves or doubles the sides through the filter."""

    def __init__(self, channels: int, out: int, taps: tuple[float, ...], up: bool) -> None:
        super().__init__()
        self.taps, self.up = taps, up
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        change = fir.convolve_up if self.up else fir.convolve_down
        return change(x, self.weight, self.taps) + self.bias[:, None, None]


class Resample(nn.Module):
    """Half ("down") or twice ("up") the sides; taps: of the filter, none for means and repeated pixels.

    With `with_conv` a 3 x 3 convolution to `out` channels belongs to it.
    """

    def __init__(
        self, channels: int, out: int, taps: tuple[float, ...], *, up: bool, with_conv: bool
    ) -> None:
        super().__init__()
        self.taps, self.up, self.with_conv = taps, up, with_conv
        if with_conv and taps:
            self.Conv2d_0 = FilteredConv(channels, out, taps, up)
        elif with_conv:
            self.Conv_0 = nn.Conv2d(channels, out, 3, stride=1 if up else 2, padding=int(up))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        if not self.with_conv:
            return resampled(x, self.taps, up=self.up)
        if self.taps:
            return self.Conv2d_0(x)
        return self.Conv_0(doubled(x) if self.up else F.pad(x, (0, 1, 0, 1)))


class ResnetBlock(nn.Module):
    """Two normalised convolutions around the embedding: "biggan" blocks may resample, "ddpm" blocks do not."""

    def __init__(
        self, channels: int, out: int, embedding: int, *, act: Act, skip_rescale: bool, kind: str,
        taps: tuple[float, ...] = (), up: bool = False, down: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.act, self.skip_rescale, self.taps, self.up, self.down = (
            act,
            skip_rescale,
            taps,
            up,
            down,
        )
        self.GroupNorm_0 = normalised(channels)
        self.Conv_0 = conv3x3(channels, out)
        self.Dense_0 = nn.Linear(embedding, out)
        self.GroupNorm_1 = normalised(out)
        self.Conv_1 = conv3x3(out, out)
        self.shortcut = ""
        if channels != out or up or down:
            self.shortcut = "Conv_2" if kind == "biggan" else "NIN_0"
            short = nn.Conv2d(channels, out, 1) if kind == "biggan" else NIN(channels, out)
            setattr(self, self.shortcut, short)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """x: (N, channels, H, W), embedding: (N, E) where the network is told the noise."""
        h = self.act(self.GroupNorm_0(x))
        if self.up or self.down:
            h, x = (resampled(part, self.taps, up=self.up) for part in (h, x))
        h = self.Conv_0(h)
        if embedding is not None:
            h = h + self.Dense_0(self.act(embedding))[:, :, None, None]
        h = self.Conv_1(self.act(self.GroupNorm_1(h)))
        if self.shortcut:
            x = getattr(self, self.shortcut)(x)
        return summed(x, h, self.skip_rescale)


def summed(x: Tensor, h: Tensor, rescale: bool) -> Tensor:
    """The sum, or the sum over the root of two."""
    return (x + h) * _HALF if rescale else x + h


def resampled(x: Tensor, taps: tuple[float, ...], *, up: bool) -> Tensor:
    """Half or twice the sides without weights."""
    if not taps:
        return doubled(x) if up else halved(x)
    return fir.upsample(x, taps) if up else fir.downsample(x, taps)
