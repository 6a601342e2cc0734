"""Denoising PSNR at fixed noise levels: the figures of a model card.

The protocol of the denoising literature: Gaussian noise of 15, 25 and 50 grey levels of 255 on clean photographs, PSNR
with peak 1, mean over the images; nothing is clipped or rounded.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from restore.errors import ConfigError
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
    """The first `count` photographs by name, or as many slices spread over volumes, as (channels, H, W) in [0, 1].

    Cropped to a multiple of 16. Raises ConfigError and what reading raises.
    """
    source = load_source(folder, 1.0, channels)
    every = 1 if source.photographs else max(1, len(source.images) // count)
    images = [torch.from_numpy(i) for i in source.images[::every][:count]]
    if not images or any(min(i.shape[1:]) < 16 for i in images):
        raise ConfigError(f"{folder}: validation needs images with sides of 16 pixels or more")
    images = [i.float() / 255 if i.dtype == torch.uint8 else i.float() for i in images]
    return [i[:, : i.shape[1] // 16 * 16, : i.shape[2] // 16 * 16] for i in images]
