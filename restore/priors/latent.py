"""The contract of latent priors: an autoencoder and a denoiser of its codes, with gradients.

Samplers that run in latents (STSL) see a `LatentPrior`; a pixel denoiser passes as one whose autoencoder is the
identity. Touches no files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from restore.precision import autocast
from restore.priors.base import pad_sides
from restore.priors.image_prior import ImagePrior
from restore.priors.networks import copied_to

CODES = (-2.0, 2.0)
"""Range of codes as denoisers see them, two deviations: they are scaled to a deviation of about one."""


class LatentModel(ABC):
    """Codes z of images x, and the denoiser E[z0 | z0 + sigma n] of the codes. All three maps are differentiable.

    `channels`: of images. `latent_channels`: of codes. `factor`: a code has 1/factor of the image's height and width.
    `sigma_min`, `sigma_max`: noise range in units of the codes. `intensity`: range of its images. `halves`: as in
    `Denoiser`.
    """

    kind: ClassVar[str] = "latent"
    channels: int = 3
    latent_channels: int = 4
    factor: int = 4
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    intensity: tuple[float, float] = (0.0, 1.0)
    halves: bool = False
    name: str = ""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The mean code. x: (N, channels, H, W) with sides divisible by `factor`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The image of a code. z: (N, latent_channels, H/factor, W/factor)."""

    @abstractmethod
    def denoise(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        """E[z0 | z]. z: as for `decode`; sigma: a number or (N,)."""

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """The same model on another device or in another precision: a copy, or itself where nothing changes."""
        return copied_to(self, target)


class LatentPrior:
    """Codes of items of `item_shape`, (H, W) or (C, H, W), any number of them.

    model: a latent model, or the image prior of a pixel denoiser, whose codes are the images themselves. `code_ndim`:
    trailing dimensions of a code. precision: inside the networks. `evaluations` counts calls of the denoiser per item;
    encoder and decoder are not counted. Made by `choosing.fit` for a pair that `matching.check` has passed.
    """

    def __init__(
        self,
        model: LatentModel | ImagePrior,
        item_shape: tuple[int, ...],
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.item_shape, self.precision = model, item_shape, precision
        self._calls = 0
        self.pixels = model if isinstance(model, ImagePrior) else None
        self.code_ndim = len(item_shape) if self.pixels is not None else 3

    @property
    def evaluations(self) -> int:
        """Denoiser calls per item so far."""
        return self.pixels.evaluations if self.pixels is not None else self._calls

    def encode(self, x: Tensor) -> Tensor:
        """(*batch, *item_shape) -> (*batch, *code). Sides are grown by reflection to what the encoder divides."""
        if not isinstance(self.model, LatentModel):
            return x
        planes = x.reshape(-1, self._channels, *x.shape[-2:])
        if self._channels < self.model.channels:
            planes = planes.expand(-1, self.model.channels, -1, -1)
        with autocast(self.precision, x.device):
            z = self.model.encode(pad_sides(planes, self.model.factor))
        return z.reshape(*x.shape[: x.ndim - len(self.item_shape)], *z.shape[1:])

    def decode(self, z: Tensor) -> Tensor:
        """(*batch, *code) -> (*batch, *item_shape)."""
        if not isinstance(self.model, LatentModel):
            return z
        with autocast(self.precision, z.device):
            whole = self.model.decode(z.reshape(-1, *z.shape[-3:]))
        x = whole[..., : self.item_shape[-2], : self.item_shape[-1]]
        x = x.mean(1, keepdim=True) if self._channels < self.model.channels else x
        return x.reshape(*z.shape[:-3], *self.item_shape)

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """E[z0 | z0 + sigma n = z]. z: (*batch, *code). Below its noise range the model is asked at the lower end."""
        if self.pixels is not None:
            return self.pixels(z, sigma)
        assert isinstance(self.model, LatentModel)  # noqa: S101  (for the type checker)
        self._calls += 1
        sigma = max(sigma, self.model.sigma_min)
        with autocast(self.precision, z.device):
            return self.model.denoise(z.reshape(-1, *z.shape[-3:]), sigma).reshape(z.shape)

    @property
    def _channels(self) -> int:
        return self.item_shape[0] if len(self.item_shape) == 3 else 1
