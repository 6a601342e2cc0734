"""Layers of the EDM networks under their official names.

Source: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
appendix F, and the layouts of the networks that it takes over. Used by `edm_unets.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.priors.nets.parts import attend


class ResampledConv(nn.Module):
    """A convolution (kernel 0: none) that halves or doubles the sides through a filter, which is a buffer.

    fused: convolution and filter exchange their paddings, as in the residual path of NCSN++.
    """

    resample_filter: Tensor

    def __init__(
        self, channels: int, out: int, kernel: int, *, up: bool = False, down: bool = False, taps: int = 2,
        fused: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.up, self.down, self.fused, self.out_channels = up, down, fused, out
        self.has_kernel = kernel > 0
        if kernel:
            self.weight = nn.Parameter(torch.empty(out, channels, kernel, kernel))
            self.bias = nn.Parameter(torch.empty(out))
        if up or down:
            self.register_buffer("resample_filter", torch.empty(1, 1, taps, taps))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        pad = self.weight.shape[-1] // 2 if self.has_kernel else 0
        reach = (self.resample_filter.shape[-1] - 1) // 2 if self.up or self.down else 0
        if self.fused and self.up:
            x = F.conv2d(
                self._doubled(x, max(reach - pad, 0)), self.weight, padding=max(pad - reach, 0)
            )
        elif self.fused and self.down:
            x = self._halved(F.conv2d(x, self.weight, padding=pad + reach), 0)
        else:
            x = self._doubled(x, reach) if self.up else x
            x = self._halved(x, reach) if self.down else x
            x = F.conv2d(x, self.weight, padding=pad) if self.has_kernel else x
        return x + self.bias[:, None, None] if self.has_kernel else x

    def _halved(self, x: Tensor, pad: int) -> Tensor:
        c = x.shape[1]
        f = self.resample_filter.to(x.dtype).expand(c, 1, -1, -1)
        return F.conv2d(x, f, groups=c, stride=2, padding=pad)

    def _doubled(self, x: Tensor, pad: int) -> Tensor:
        c = x.shape[1]
        f = 4 * self.resample_filter.to(x.dtype).expand(c, 1, -1, -1)
        return F.conv_transpose2d(x, f, groups=c, stride=2, padding=pad)


def normalised(channels: int, eps: float) -> nn.GroupNorm:
    """Over groups of four channels or more, at most 32 groups."""
    return nn.GroupNorm(max(1, min(32, channels // 4)), channels, eps=eps)


class UNetBlock(nn.Module):
    """Two normalised convolutions around the embedding, then self-attention with `heads` heads (0: none)."""

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, *, heads: int = 0, up: bool = False,
        down: bool = False, skip_scale: float = 1.0, eps: float = 1e-5, taps: int = 2, resample_proj: bool = False,
        adaptive_scale: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.out_channels, self.heads = in_channels, out_channels, heads
        self.skip_scale, self.adaptive_scale = skip_scale, adaptive_scale
        self.norm0 = normalised(in_channels, eps)
        self.conv0 = ResampledConv(in_channels, out_channels, 3, up=up, down=down, taps=taps)
        self.affine = nn.Linear(emb_channels, out_channels * (2 if adaptive_scale else 1))
        self.norm1 = normalised(out_channels, eps)
        self.conv1 = ResampledConv(out_channels, out_channels, 3)
        self.skip = None
        if out_channels != in_channels or up or down:
            kernel = 1 if resample_proj or out_channels != in_channels else 0
            self.skip = ResampledConv(
                in_channels, out_channels, kernel, up=up, down=down, taps=taps
            )
        if heads:
            self.norm2 = normalised(out_channels, eps)
            self.qkv = ResampledConv(out_channels, 3 * out_channels, 1)
            self.proj = ResampledConv(out_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: (N, in_channels, H, W), emb: (N, emb_channels)."""
        h = self.conv0(F.silu(self.norm0(x)))
        told = self.affine(emb)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = told.chunk(2, dim=1)
            h = F.silu(torch.addcmul(shift, self.norm1(h), scale + 1))
        else:
            h = F.silu(self.norm1(h + told))
        x = (self.conv1(h) + (x if self.skip is None else self.skip(x))) * self.skip_scale
        return (self._attended(x) + x) * self.skip_scale if self.heads else x

    def _attended(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        q, k, v = self.qkv(self.norm2(x)).reshape(n * self.heads, c // self.heads, 3, -1).unbind(2)
        return self.proj(attend(q, k, v).reshape(x.shape))


class FourierEmbedding(nn.Module):
    """Cosines, then sines at random frequencies, which are a buffer."""

    freqs: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.empty(width // 2))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N,). Returns (N, width)."""
        phase = x[:, None] * (2 * math.pi * self.freqs.to(x.dtype))[None]
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class PositionalEmbedding(nn.Module):
    """Cosines, then sines at frequencies from 1 to 1/10000, with that end or without."""

    def __init__(self, width: int, endpoint: bool = False) -> None:
        super().__init__()
        self.count, self.endpoint = width // 2, endpoint

    def forward(self, x: Tensor) -> Tensor:
        """x: (N,). Returns (N, width)."""
        steps = torch.arange(self.count, dtype=x.dtype, device=x.device)
        steps = steps / max(self.count - int(self.endpoint), 1)
        phase = x[:, None] * (1 / 10_000) ** steps[None]
        return torch.cat([phase.cos(), phase.sin()], dim=1)
