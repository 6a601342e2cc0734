"""Denoising at fixed noise levels: the figures of a model card, and pictures of it for people.

The protocol of the denoising literature: Gaussian noise of 15, 25 and 50 grey levels of 255 on clean photographs, PSNR
with peak 1, mean over the images; nothing is clipped or rounded. Complex images have that noise in re and in im.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.training.phases import smooth_phase, turned
from restore.training.slices import COMPLEX
from restore.training.sources import load_source

LEVELS_OF_255 = (15, 25, 50)


@torch.no_grad()
def denoising_psnr(prior: Denoiser, images: list[Tensor]) -> dict[str, float]:
    """PSNR in dB for each level. images: (C, H, W) in [0, 1], one noise seed an image."""
    figures = {}
    for level in LEVELS_OF_255:
        total = 0.0
        for seed, image in enumerate(images):
            _, denoised = _tried(prior, image, level / 255, seed)
            total -= 10 * math.log10(float((denoised - image).square().mean()))
        figures[str(level)] = round(total / max(1, len(images)), 3)
    return figures


@torch.no_grad()
def denoising_picture(prior: Denoiser, image: Tensor) -> Tensor:
    """One image noisy, denoised and clean from left to right, a row for each of the levels: (1 or 3, 3 H, 3 W), 0 to 1.

    image: (C, H, W); of complex images the magnitude is shown.
    """
    rows = []
    for level in LEVELS_OF_255:
        shown = [*_tried(prior, image, level / 255, seed=0), image]
        if len(image) == COMPLEX:
            shown = [part.norm(dim=0, keepdim=True) for part in shown]
        rows.append(torch.cat(shown, dim=-1))
    return torch.cat(rows, dim=-2).clamp(0, 1)


def _tried(prior: Denoiser, image: Tensor, sigma: float, seed: int) -> tuple[Tensor, Tensor]:
    """The image with noise, and what the prior makes of it, both (C, H, W) on the CPU."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    noisy = image + sigma * noise
    return noisy, prior(noisy[None].to(_device_of(prior)), sigma)[0].cpu()


def _device_of(prior: Denoiser) -> torch.device:
    network = getattr(prior, "network", None)
    return next(network.parameters()).device if network is not None else torch.device("cpu")


def validation_images(folder: Path, channels: int, count: int = 12) -> list[Tensor]:
    """The first `count` photographs by name, or as many slices spread over volumes, as (channels, H, W) in [0, 1].

    channels: 2 for complex images; real slices then get a smooth phase, the same at every call. Cropped to a multiple
    of 16. Raises ConfigError and what reading raises.
    """
    source = load_source(folder, 1.0, channels)
    every = 1 if source.photographs else max(1, len(source.images) // count)
    images = [torch.from_numpy(i) for i in source.images[::every][:count]]
    if not images or any(min(i.shape[1:]) < 16 for i in images):
        raise ConfigError(f"{folder}: validation needs images with sides of 16 pixels or more")
    images = [i.float() / 255 if i.dtype == torch.uint8 else i.float() for i in images]
    images = [i[:, : i.shape[1] // 16 * 16, : i.shape[2] // 16 * 16] for i in images]
    return [_complex(i, seed) for seed, i in enumerate(images)] if channels == COMPLEX else images


def _complex(image: Tensor, seed: int) -> Tensor:
    if len(image) == COMPLEX:
        return image
    generator = torch.Generator().manual_seed(seed)
    return turned(image, smooth_phase((image.shape[-2], image.shape[-1]), generator))
