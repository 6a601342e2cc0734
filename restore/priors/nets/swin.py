"""Swin layers of ResShift: attention within windows that shift from block to block, under their official names.

Liu and others, "Swin transformer", ICCV 2021, as Yue, Wang, Loy, "ResShift", NeurIPS 2023, use it: group norms,
convolutions over pixels as feed-forward. Built by `swin_unet`; pure torch, no files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.priors.nets.adm_blocks import group_norm

HIDDEN = -100.0
"""What is added to the affinity of pixels that are no neighbours but for the shift."""


class WindowAttention(nn.Module):
    """Attention within windows of `side` x `side` pixels, with a bias by relative position."""

    def __init__(self, width: int, side: int, heads: int) -> None:
        super().__init__()
        self.side, self.heads = side, heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_places(side))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (N windows, side^2, width), windows of an image together; mask: (windows, side^2, side^2)."""
        rows, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        affinity = q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[relative_places(self.side, x.device)]
        affinity = affinity + bias.movedim(-1, 0)
        if mask is not None:
            grouped = affinity.reshape(-1, len(mask), *affinity.shape[1:]) + mask[:, None]
            affinity = grouped.reshape(affinity.shape)
        out: Tensor = self.proj((affinity.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two convolutions over pixels alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinBlock(nn.Module):
    """Window attention and feed-forward, each beside the identity.

    resolution: side of the feature map in training; where it is no larger than the window there is one window, and
    no shift. `attn_mask` is in the file for that size; it is computed anew for the size at hand.
    """

    def __init__(
        self, width: int, resolution: int, heads: int, window: int, shift: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        whole = resolution <= window
        self.window, self.shift = (resolution, 0) if whole else (window, shift)
        self.norm1, self.norm2 = group_norm(width), group_norm(width)
        self.attn = WindowAttention(width, self.window, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        shape = (resolution, resolution)
        self.register_buffer("attn_mask", shift_mask(shape, self.window, shift) if self.shift else None)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w), sides multiples of the window."""
        n, width, height, length = x.shape
        h, side, mask = self.norm1(x), self.window, None
        if self.shift:
            h = h.roll((-self.shift, -self.shift), (2, 3))
            mask = shift_mask((height, length), side, self.shift).to(x)
        tiles = h.reshape(n, width, height // side, side, length // side, side)
        seen = self.attn(tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, side**2, width), mask)
        tiles = seen.reshape(n, height // side, length // side, side, side, width)
        h = tiles.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        if self.shift:
            h = h.roll((self.shift, self.shift), (2, 3))
        x = x + h
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Projection(nn.Module):
    """A convolution over pixels alone, with a group norm after it or without."""

    def __init__(self, width: int, out: int, normed: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, out, 1)
        self.norm = group_norm(out) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        out: Tensor = self.norm(self.proj(x))
        return out


class SwinLayer(nn.Module):
    """Swin blocks between two projections; every second one shifts by half a window."""

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        heads: int,
        window: int,
        depth: int,
        resolution: int,
        mlp_ratio: float,
        normed: bool,
    ) -> None:
        super().__init__()
        self.patch_embed = Projection(channels, width, normed)
        self.patch_unembed = Projection(width, channels, normed)
        self.blocks = nn.ModuleList(
            SwinBlock(width, resolution, heads, window, window // 2 if i % 2 else 0, mlp_ratio)
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, h, w)."""
        h = self.patch_embed(x)
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.patch_unembed(h)
        return out


def relative_places(side: int, device: torch.device | str | None = None) -> Tensor:
    """Row of the bias table for every pair of pixels of a window, (side^2, side^2) int64."""
    place = torch.arange(side, device=device)
    down = (place[:, None] - place + side - 1) * (2 * side - 1)
    across = place[:, None] - place + side - 1
    pairs = down[:, None, :, None] + across[None, :, None, :]
    return pairs.reshape(side**2, side**2)


def shift_mask(shape: tuple[int, int], window: int, shift: int) -> Tensor:
    """What hides pixels of a shifted window from each other, (windows, window^2, window^2).

    As released, and so as the published weights were trained: of the rows and columns that meet by the shift only one
    axis is told apart, and it is that of the columns within a window by the place of the window's row.
    """
    height, length = shape
    row = torch.arange(height)
    region = (row >= height - window).int() + (row >= height - shift).int()
    by_window = region.reshape(-1, 1, window).expand(-1, length // window, -1).reshape(-1, window)
    of_token = by_window.repeat(1, window)  # token (i, j) of a window has the region of row j
    apart = of_token[:, None, :] != of_token[:, :, None]
    return apart.float() * HIDDEN
