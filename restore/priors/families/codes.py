"""A published autoencoder and a denoiser of its codes as one latent model. Used by the families that have both."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from restore.priors.base import Denoiser
from restore.priors.latent import LatentModel

Map = Callable[[Tensor], Tensor]


class CodedModel(LatentModel):
    """encode: images to mean codes; decode: codes to images, both in the autoencoder's own range and units.

    denoiser: of codes as the diffusion sees them: (code - shift) * scale. trained: range of the autoencoder's images,
    which samplers see in (0, 1). channels: of images; factor: of the sides of image and code.
    """

    def __init__(
        self, encode: Map, decode: Map, denoiser: Denoiser, *, channels: int, latent_channels: int, factor: int,
        trained: tuple[float, float], scale: float = 1.0, shift: float = 0.0, name: str = "",
    ) -> None:  # fmt: skip
        self.encoder, self.decoder, self.denoiser = encode, decode, denoiser
        self.channels, self.latent_channels, self.factor = channels, latent_channels, factor
        self.trained, self.scale, self.shift, self.name = trained, scale, shift, name
        self.sigma_min, self.sigma_max = denoiser.sigma_min, denoiser.sigma_max

    def encode(self, x: Tensor) -> Tensor:
        """The mean code as the diffusion sees it. x: (N, channels, H, W) in (0, 1)."""
        low, high = self.trained
        return (self.encoder(x * (high - low) + low) - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """The image of a code, in (0, 1)."""
        low, high = self.trained
        return (self.decoder(z / self.scale + self.shift) - low) / (high - low)

    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        """E[z0 | z]."""
        return self.denoiser(z, sigma)
