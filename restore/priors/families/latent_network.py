"""The parts of published latent diffusion as a latent prior calls them: first stage and U-Net, with what it is told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class StageCode(nn.Module):
    """The code that a first stage encodes to: the mean, or that before the codebook; in the image's precision."""

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, H, W) in the range of the training images."""
        z: Tensor = self.stage.encode(x.to(_precision(self.stage)))
        return z.to(x.dtype)


class StageImage(nn.Module):
    """The image that a first stage decodes a code to, through its codebook where it has one."""

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, C, h, w)."""
        x: Tensor = self.stage.decode(z.to(_precision(self.stage)))
        return x.to(z.dtype)


class ToldUNet(nn.Module):
    """The U-Net of codes with what it is told beside the time: a text's embedding (words, width), or a class."""

    def __init__(self, unet: nn.Module, prompt: Tensor | None, label: int | None) -> None:
        super().__init__()
        self.unet, self.label = unet, label
        self.register_buffer("prompt", prompt)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """z: (N, C, h, w), t: (N,)."""
        told: dict[str, Tensor] = {}
        if isinstance(self.prompt, Tensor):
            words = self.prompt.to(z).reshape(-1, self.prompt.shape[-1])
            told["context"] = words.expand(len(z), -1, -1)
        if self.label is not None:
            told["y"] = torch.full((len(z),), self.label, device=z.device)
        out: Tensor = self.unet(z, t, **told)
        return out


def _precision(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype
