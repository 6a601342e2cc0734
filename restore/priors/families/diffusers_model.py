"""What becomes of the networks of diffusers here: pixel denoisers and latent models. Used by `diffusers.py`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.priors.families.base import check_label
from restore.priors.families.codes import CodedModel
from restore.priors.families.meaning import EDM, Meaning, alphas_cumprod, sigma_data
from restore.priors.nets.diffusers_unet import UNet2DConfig
from restore.priors.nets.diffusers_vae import VAEConfig
from restore.priors.wrappers import FromDenoiser, wrapper_of


class OfClass(nn.Module):
    """A network of image and time that is asked for one class, where it knows classes."""

    def __init__(self, network: nn.Module, label: int | None) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, C, H, W), t: (N,)."""
        if self.label is None:
            return self.network(x, t)
        return self.network(x, t, t.new_full(t.shape, self.label).long())


def denoiser(network: nn.Module, config: UNet2DConfig, meaning: Meaning, name: str) -> Denoiser:
    """A pixel denoiser."""
    check_label(meaning.label, config.num_class_embeds)
    return _wrapped(
        network, meaning, channels=config.in_channels, trained=meaning.range, multiple=config.multiple, name=name,
        complex_mode=meaning.complex_mode or "separate",
    )  # fmt: skip


def latent(
    network: nn.Module,
    config: UNet2DConfig,
    codes: nn.Module,
    vae: VAEConfig,
    meaning: Meaning,
    name: str,
) -> CodedModel:
    """A denoiser of codes with its autoencoder."""
    inner = _wrapped(
        network, meaning, channels=config.in_channels, multiple=config.multiple, name=name
    )
    assert meaning.range is not None  # noqa: S101  (for the type checker: see `unstated`)
    return CodedModel(
        MeanCode(codes), CodeImage(codes), inner, channels=vae.in_channels, latent_channels=vae.code_channels,
        factor=vae.factor, trained=meaning.range, scale=vae.scaling_factor, shift=vae.shift_factor or 0.0, name=name,
    )  # fmt: skip


class Preconditioned(nn.Module):
    """D(x, sigma) of EDM around a network that is told ln(sigma)/4 (Karras and others, 2022, table 1).

    sign: -1 for networks of velocity, whose answers have the other sign.
    """

    def __init__(self, network: nn.Module, data: float, sign: float) -> None:
        super().__init__()
        self.network, self.data, self.sign = network, data, sign

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x: (N, C, H, W), sigma: (N,)."""
        s = sigma[:, None, None, None]
        total = s**2 + self.data**2
        f = self.network(x / total.sqrt(), sigma.log() / 4)
        return self.data**2 / total * x + self.sign * s * self.data / total.sqrt() * f


def _wrapped(network: nn.Module, meaning: Meaning, **images: Any) -> Denoiser:
    if meaning.schedule.startswith(EDM):
        if meaning.prediction not in ("eps", "v"):
            raise ConfigError(
                f"prior '{images['name']}': predicts '{meaning.prediction}', which EDM's schedulers do not have"
            )
        inner = OfClass(network, meaning.label)
        sign = 1.0 if meaning.prediction == "eps" else -1.0
        made = Preconditioned(inner, sigma_data(meaning.schedule), sign)
        low, high = meaning.sigma_range or (0.002, 80.0)
        return FromDenoiser(made, sigma_min=low, sigma_max=high, sigma_as="vector", **images)
    a = alphas_cumprod(meaning.schedule)
    a = (
        a[:-1] if a[-1] <= 0 else a
    )  # where the last level is pure noise nothing can be told of the image
    wrapper = wrapper_of(meaning.prediction, images["name"])
    return wrapper(OfClass(network, meaning.label), a, **images)


class MeanCode(nn.Module):
    """The mean code of an image."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        dtype = next(self.autoencoder.parameters()).dtype
        return self.autoencoder.moments(x.to(dtype))[0].to(x.dtype)  # type: ignore[operator]


class CodeImage(nn.Module):
    """The image of a code."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, c, h, w)."""
        dtype = next(self.autoencoder.parameters()).dtype
        return self.autoencoder.decode(z.to(dtype)).to(z.dtype)  # type: ignore[operator]
