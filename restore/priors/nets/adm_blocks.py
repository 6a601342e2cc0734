"""Blocks of the U-Nets that descend from improved and guided diffusion, under their official names.

Source: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021, section 3. Shared by the
networks of guided-diffusion, latent-diffusion and ResShift.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from restore.priors.nets.parts import attend, doubled, halved

GROUPS = 32


def group_norm(channels: int) -> nn.GroupNorm:
    """Over 32 groups, always."""
    return nn.GroupNorm(GROUPS, channels)


class Downsample(nn.Module):
    """Half the sides: by a strided convolution (`op`), or by means over 2 x 2 pixels."""

    def __init__(self, channels: int, use_conv: bool, out_channels: int | None = None) -> None:
        super().__init__()
        out = out_channels or channels
        self.op = nn.Conv2d(channels, out, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        return self.op(x)


class Upsample(nn.Module):
    """Twice the sides: every pixel repeated, with a convolution (`conv`) after it or without."""

    def __init__(self, channels: int, use_conv: bool, out_channels: int | None = None) -> None:
        super().__init__()
        self.use_conv = use_conv
        if use_conv:
            self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        x = doubled(x)
        return self.conv(x) if self.use_conv else x


class ResBlock(nn.Module):
    """Two normalised convolutions around the embedding of time, at the same, half ("down") or twice ("up") the size.

    The embedding is added after the first convolution, or, with `use_scale_shift_norm`, scales and shifts the second
    normalisation.
    """

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        out_channels: int | None = None,
        *,
        use_scale_shift_norm: bool = False,
        resample: str = "",
    ) -> None:
        super().__init__()
        out = out_channels or channels
        self.scale_shift, self.resample = use_scale_shift_norm, resample
        self.in_layers = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        wide = 2 * out if use_scale_shift_norm else out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, wide))
        self.out_layers = nn.Sequential(
            group_norm(out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if out == channels else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: (N, channels, H, W), emb: (N, emb_channels)."""
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resample:
            change = halved if self.resample == "down" else doubled
            h, x = change(h), change(x)
        h = self.in_layers[2](h)
        told = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](F.silu(h))
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over all positions, added to what comes in.

    new_order: channels of `qkv` are q, k, v outermost and heads inside; in the legacy order heads are outermost. The
    weights have the same shape in both.
    """

    def __init__(self, channels: int, num_heads: int, new_order: bool = False) -> None:
        super().__init__()
        self.num_heads, self.new_order = num_heads, new_order
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W)."""
        n, c, *sides = x.shape
        flat = x.reshape(n, c, -1)
        qkv = self.qkv(self.norm(flat))
        heads, width = n * self.num_heads, c // self.num_heads
        if self.new_order:
            q, k, v = (part.reshape(heads, width, -1) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(heads, 3 * width, -1).split(width, dim=1)
        h = self.proj_out(attend(q, k, v).reshape(n, c, -1))
        return (flat + h).reshape(n, c, *sides)


class EmbeddedSequential(nn.Sequential):
    """Layers one after the other; residual blocks are told the embedding, those that want it a context."""

    def forward(  # type: ignore[override]
        self, x: Tensor, emb: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """x: (N, C, H, W), emb: (N, E), context: for layers whose class sets `wants_context`."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif getattr(layer, "wants_context", False):
                x = layer(x, context)
            else:
                x = layer(x)
        return x
