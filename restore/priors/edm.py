"""The EDM-preconditioned denoiser around a network, and the bundled U-Net in that form.

Source: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS
2022, table 1 and section 5. Used by the bundled priors and by training.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.base import ComplexMode, Denoiser, pad_sides, per_item
from restore.priors.encoder_reuse import EncoderReuse
from restore.priors.error_spectrum import ErrorSpectrum
from restore.priors.image_spectrum import ImageSpectrum
from restore.priors.unet import UNet, UNetConfig


class EDMDenoiser(Denoiser):
    """D(x, sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4).

    `network`: called as network(x, noise) with x (N, C, H, W), noise (N,). `sigma_data`: root mean square of the
    training images. `multiple`: sides are padded by reflection to a multiple of this and cropped back. Outside the
    network the denoiser keeps the precision of its input. `error_spectrum`: how far its answers are from the truth,
    where that was measured; `image_spectrum`: what its images are like, likewise. `scaling`: see `Denoiser`.
    """

    error_spectrum: ErrorSpectrum | None = None
    image_spectrum: ImageSpectrum | None = None

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma_data: float = 0.5,
        channels: int = 1,
        multiple: int = 1,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        intensity: tuple[float, float] = (0.0, 1.0),
        complex_mode: ComplexMode = "separate",
        name: str = "",
    ) -> None:
        self.network, self.sigma_data, self.channels, self.multiple = (
            network,
            sigma_data,
            channels,
            multiple,
        )
        self.sigma_min, self.sigma_max, self.intensity = sigma_min, sigma_max, intensity
        self.complex_mode, self.name, self.turnable = complex_mode, name, False
        self.foreign = not isinstance(network, UNet)
        self.halves = not self.foreign

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W).

        Noise below `sigma_min` is treated as `sigma_min`; above `sigma_max` the network is told `sigma_max`, where
        its answer is the mean image anyway.
        """
        s = per_item(sigma, x).clamp(min=self.sigma_min)
        network_dtype = next((p.dtype for p in self.network.parameters()), x.dtype)
        c_skip, c_out, c_in = self.preconditioning(s)
        inner = pad_sides(x * c_in, self.multiple).to(network_dtype)
        told = s.flatten().clamp(max=self.sigma_max)
        f = self.network(inner, (told.log() / 4).to(network_dtype))
        return c_skip * x + c_out * f[..., : x.shape[-2], : x.shape[-1]].to(x.dtype)

    @property
    def knows_error(self) -> bool:
        """Whether it was measured."""
        return self.error_spectrum is not None

    def error_power(self, sigma: float, shape: tuple[int, ...]) -> Tensor | None:
        """From the table `error_spectrum`, (H, W)."""
        return None if self.error_spectrum is None else self.error_spectrum.at(sigma, shape[-2:])

    @property
    def knows_images(self) -> bool:
        """Whether they were measured."""
        return self.image_spectrum is not None

    def image_law(self, shape: tuple[int, ...], *, centred: bool = True) -> tuple[Tensor, Tensor]:
        """From the table `image_spectrum`: a number and (H, W). Raises ConfigError without one."""
        if self.image_spectrum is None:
            return super().image_law(shape, centred=centred)
        mean = torch.tensor(self.image_spectrum.mean, dtype=torch.float64)
        return mean, self.image_spectrum.covariance(shape[-2:], centred=centred)

    def remarks(self) -> tuple[str, ...]:
        """How often the encoder's features were used again (`encoder_reuse`)."""
        return self.network.remarks() if isinstance(self.network, EncoderReuse) else ()

    def preconditioning(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in of EDM table 1 for noise levels s."""
        total = s**2 + self.sigma_data**2
        return self.sigma_data**2 / total, s * self.sigma_data / total.sqrt(), 1 / total.sqrt()


def build_unet_denoiser(
    config: UNetConfig, *, sigma_data: float = 0.5, name: str = "", seed: int = 0
) -> EDMDenoiser:
    """An untrained U-Net denoiser; seed: of its first weights."""
    return EDMDenoiser(
        new_unet(config, seed),
        sigma_data=sigma_data,
        channels=config.channels,
        multiple=config.multiple,
        name=name,
    )


def new_unet(config: UNetConfig, seed: int = 0) -> UNet:
    """An untrained U-Net in the memory layout that is fastest for convolutions; seed: of its first weights."""
    with torch.device("meta"):  # torch's layers would draw from the global generator
        network = UNet(config)
    network = network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def config_from_dict(record: dict[str, Any]) -> UNetConfig:
    """A U-Net configuration from a card. Raises ConfigError for unknown entries and for values out of range."""
    known = {f.name for f in dataclasses.fields(UNetConfig)}
    if unknown := record.keys() - known:
        raise ConfigError(
            f"unknown U-Net settings: {', '.join(sorted(map(str, unknown)))}; known: {sorted(known)}"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return UNetConfig(**values)
