"""What becomes of the networks of diffusers here: pixel denoisers and latent models. Used by `diffusers.py`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from restore.priors.base import Denoiser
from restore.priors.families.codes import CodedModel
from restore.priors.families.meaning import Meaning, alphas_cumprod
from restore.priors.nets.diffusers_unet import UNet2DConfig
from restore.priors.nets.diffusers_vae import VAEConfig
from restore.priors.wrappers import wrapper_of


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


def _wrapped(network: nn.Module, meaning: Meaning, **images: Any) -> Denoiser:
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
