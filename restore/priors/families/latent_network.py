"""Published latent diffusion as a latent prior: first stage, factor, and the denoiser of codes in one model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from restore.priors.base import Denoiser
from restore.priors.families.meaning import Meaning
from restore.priors.latent import LatentModel
from restore.priors.nets.first_stage import DDConfig
from restore.priors.wrappers import wrapper_of


class LatentNetwork(LatentModel):
    """Codes are those of the U-Net, the first stage's times `scale`; a VQ first stage snaps to its book as it decodes.

    Images are in 0..1 outside, in the range that the meaning states inside.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        dd: DDConfig,
        code: int,
        scale: float,
        meaning: Meaning,
        multiple: int,
        alphas: Tensor,
        prompt: Tensor | None,
        name: str,
    ) -> None:
        assert meaning.range is not None  # noqa: S101  (for the type checker: the family asks for it)
        self.network, self.scale, self.name, self._range = network, scale, name, meaning.range
        self.channels, self.latent_channels, self.factor = dd.in_channels, code, dd.factor
        self.denoiser: Denoiser = wrapper_of(meaning.prediction, name)(
            ToldUNet(network, prompt, meaning.label), alphas, channels=code, multiple=multiple, name=name
        )  # fmt: skip
        self.sigma_min, self.sigma_max = self.denoiser.sigma_min, self.denoiser.sigma_max

    def encode(self, x: Tensor) -> Tensor:
        """The mean code. x: (N, channels, H, W) with sides divisible by `factor`."""
        low, high = self._range
        z: Tensor = self._stage.encode((x * (high - low) + low).to(self._dtype))
        return z.to(x.dtype) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code."""
        low, high = self._range
        x: Tensor = self._stage.decode((z / self.scale).to(self._dtype))
        return (x.to(z.dtype) - low) / (high - low)

    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        """E[z0 | z]."""
        return self.denoiser(z, sigma)

    @property
    def _stage(self) -> Any:
        return self.network.first_stage_model

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


class ToldUNet(nn.Module):
    """The U-Net of codes with what it is told beside the time: a text's embedding (words, width), or a class."""

    def __init__(self, network: nn.Module, prompt: Tensor | None, label: int | None) -> None:
        super().__init__()
        self.network, self.label = network, label
        self.register_buffer("prompt", prompt)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """z: (N, C, h, w), t: (N,)."""
        told: dict[str, Tensor] = {}
        if isinstance(self.prompt, Tensor):
            words = self.prompt.to(z).reshape(-1, self.prompt.shape[-1])
            told["context"] = words.expand(len(z), -1, -1)
        if self.label is not None:
            told["y"] = torch.full((len(z),), self.label, device=z.device)
        unet: Any = self.network
        out: Tensor = unet.unet(z, t, **told)
        return out
