"""Denoising PSNR at fixed noise levels: the figures of a model card.

The protocol of the denoising literature: Gaussian noise of 15, 25 and 50 grey levels of 255 on clean photographs, PSNR
with peak 1, mean over the images; nothing is clipped or rounded.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from restore.priors.base import Denoiser
from restore.training.sources import load_source

LEVELS_OF_255 = (15, 25, 50)


@torch.no_grad()
def denoising_psnr(prior: Denoiser, images: list[Tensor]) -> dict[str, float]:
    """PSNR in dB for each level. images: (C, H, W) in [0, 1], one noise seed an image."""
    figures = {}
    for level in LEVELS_OF_255:
        sigma, total = level / 255, 0.0
        for seed, image in enumerate(images):
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
            noisy = (image + sigma * noise)[None]
            device = _device_of(prior)
            error = prior(noisy.to(device), sigma).cpu() - image
            total -= 10 * math.log10(float(error.square().mean()))
        figures[str(level)] = round(total / max(1, len(images)), 3)
    return figures


def _device_of(prior: Denoiser) -> torch.device:
    network = getattr(prior, "network", None)
    return next(network.parameters()).device if network is not None else torch.device("cpu")


def validation_images(folder: Path, channels: int, count: int = 12) -> list[Tensor]:
    """The first `count` photographs by name, as (channels, H, W) in [0, 1], cropped to a multiple of 16."""
    images = [
        torch.from_numpy(i).float() / 255 for i in load_source(folder, 1.0, channels).images[:count]
    ]
    return [i[:, : i.shape[1] // 16 * 16, : i.shape[2] // 16 * 16] for i in images]
