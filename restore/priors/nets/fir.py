"""Resampling by two with a short separable filter, in pure torch: zeros between, filter, every second pixel.

Source: Karras and others, "Analyzing and improving the image quality of StyleGAN", CVPR 2020, as the score-based models
of Song and others, ICLR 2021, use it. Used by the NCSN++ networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Taps = Sequence[float]


def upfirdn(
    x: Tensor, taps: Taps, *, gain: float = 1.0, up: int = 1, down: int = 1, pad: tuple[int, int]
) -> Tensor:
    """Zeros between pixels (up), zeros around (pad: before and behind), convolution, every down-th pixel.

    x: (N, C, H, W). taps: of the filter along each side; their outer product is scaled to the sum `gain`.
    """
    row = torch.tensor(taps, dtype=x.dtype, device=x.device)
    kernel = torch.outer(row, row)
    kernel = (kernel * (gain / kernel.sum())).flip(0, 1)
    n, c, h, w = x.shape
    if up > 1:
        wide = x.new_zeros(n, c, h, up, w, up)
        wide[:, :, :, 0, :, 0] = x
        x = wide.reshape(n, c, h * up, w * up)
    x = F.pad(x, (*pad, *pad))
    return F.conv2d(x, kernel.expand(c, 1, -1, -1), stride=down, groups=c)


def upsample(x: Tensor, taps: Taps) -> Tensor:
    """Twice the sides, the mean kept."""
    p = len(taps) - 2
    return upfirdn(x, taps, gain=4.0, up=2, pad=((p + 1) // 2 + 1, p // 2))


def downsample(x: Tensor, taps: Taps) -> Tensor:
    """Half the sides, the mean kept."""
    p = len(taps) - 2
    return upfirdn(x, taps, down=2, pad=((p + 1) // 2, p // 2))


def convolve_down(x: Tensor, weight: Tensor, taps: Taps) -> Tensor:
    """Filter, then a convolution with every second pixel. weight: (out, in, k, k)."""
    p = len(taps) - 2 + weight.shape[-1] - 1
    return F.conv2d(upfirdn(x, taps, pad=((p + 1) // 2, p // 2)), weight, stride=2)


def convolve_up(x: Tensor, weight: Tensor, taps: Taps) -> Tensor:
    """A convolution with zeros between the pixels, then the filter. weight: (out, in, k, k)."""
    p = len(taps) - 2 - (weight.shape[-1] - 1)
    wide = F.conv_transpose2d(x, weight.transpose(0, 1).flip(-2, -1), stride=2)
    return upfirdn(wide, taps, gain=4.0, pad=((p + 1) // 2 + 1, p // 2 + 1))
