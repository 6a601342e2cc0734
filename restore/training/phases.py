"""Smooth random phases for crops of real images: what real and imaginary parts of MR images look like to a network.

Used by `restore.training.corpus` and the validation. Phases of MR images come from coils, field and flow and vary
slowly; a few random numbers, smoothly interpolated, stand for them. Nothing is drawn from the global generator.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 4
"""Random numbers a side, between which the phase is cubic."""
ROUGHEST = 1.5
"""Highest standard deviation of the phase around its mean, in radians; every crop has its own, even from zero."""


def smooth_phase(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A phase in radians, (H, W) float32: any mean, and slow changes around it. generator: on the CPU."""
    mean = 2 * math.pi * torch.rand((), generator=generator)
    spread = ROUGHEST * torch.rand((), generator=generator)
    knots = torch.randn((1, 1, KNOTS, KNOTS), generator=generator)
    smooth = F.interpolate(knots, size=shape, mode="bicubic", align_corners=True)[0, 0]
    return mean + spread * smooth


def turned(image: Tensor, phase: Tensor) -> Tensor:
    """A complex image (2, H, W) times exp(i phase); a real one (1, H, W) becomes complex by it. phase: (H, W)."""
    cos, sin = phase.cos().to(image), phase.sin().to(image)
    if len(image) == 1:
        return torch.cat([image * cos, image * sin])
    re, im = image
    return torch.stack([re * cos - im * sin, re * sin + im * cos])


def real_part(image: Tensor, phase: Tensor) -> Tensor:
    """The real part of a real image (1, H, W) times exp(i phase)."""
    return image * phase.cos().to(image)
