"""The bundled latent prior: the small autoencoder, and an EDM denoiser of its codes.

Codes are shifted and scaled to mean 0 and deviation 1 per channel before the denoiser sees them; samplers see the
normalised codes only. Built by the store, trained by `restore train autoencoder` and `restore train latent`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.priors.autoencoder import Autoencoder
from restore.priors.edm import EDMDenoiser
from restore.priors.latent import LatentModel


class LatentEDM(LatentModel):
    """Autoencoder and denoiser. shift, scale: (latent_channels,), mean and deviation of the training images' codes."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: EDMDenoiser,
        shift: Tensor,
        scale: Tensor,
        *,
        name: str = "",
    ) -> None:
        self.autoencoder, self.denoiser, self.name = autoencoder, denoiser, name
        self.shift, self.scale = shift.reshape(-1, 1, 1), scale.reshape(-1, 1, 1)
        config = autoencoder.config
        self.channels, self.latent_channels = config.channels, config.latent_channels
        self.factor = config.factor
        self.sigma_min, self.sigma_max = denoiser.sigma_min, denoiser.sigma_max

    def encode(self, x: Tensor) -> Tensor:
        """The mean code, normalised. x: (N, channels, H, W) with sides divisible by `factor`."""
        mean = self.autoencoder.encode(x.to(self._dtype))[0].to(x.dtype)
        return (mean - self.shift.to(mean)) / self.scale.to(mean)

    def decode(self, z: Tensor) -> Tensor:
        """The image of a normalised code."""
        code = z * self.scale.to(z) + self.shift.to(z)
        return self.autoencoder.decode(code.to(self._dtype)).to(z.dtype)

    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        """E[z0 | z]."""
        return self.denoiser(z, sigma)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.autoencoder.parameters()).dtype
