"""Denoisers that are told a noise level for every pixel: an ordinary one with low-rank factors, RAD's prior.

Kim, Suh, Lee, "RAD: region-aware diffusion models for image inpainting", CVPR 2025. Made by the store from a file of
factors and the prior that they adapt, and by `restore.training.region`; asked by the sampler `rad`. Touches no files.

Differs from the paper:
- a small U-Net whose FiLM embedding is a map, the mean over the pixels that a place of each level stands for. As its
  entrance joins 2 x 2 pixels, the map is also shown beside the image, pixel by pixel.
- EDM's preconditioning, by the level of each pixel, and no variances that are learnt.
- before the network sees it, a pixel of much noise is drawn to a weighted mean of its neighbourhood (`push_pull`), as a
  Gaussian of deviation `spread` about that mean would have it. A convolution mixes neighbours before anything can tell
  noise from image: of the first 256 steps of a training, an answer to 30 % of the pixels had 16.3 dB without; what is
  shown now has 23.6 dB before there is any training.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.pyramid import push_pull
from restore.priors.base import pad_sides, per_pixel
from restore.priors.edm import EDMDenoiser, new_unet
from restore.priors.low_rank import Adapter, adapted
from restore.priors.unet import UNet


@dataclasses.dataclass(frozen=True)
class Adapts:
    """The prior whose weights a file of factors changes: its name, and the sha256 of its file."""

    name: str
    sha256: str


class RegionDenoiser(EDMDenoiser):
    """D(x, s) = c_skip(v) u + c_out(v) F(c_in(v) u, ln(v)/4), s a level for every pixel.

    u = w x + (1 - w) m and v = s sqrt(w), w = spread^2/(s^2 + spread^2): mean and deviation of a pixel with noise of s
    that is N(m, spread^2) without, m from its neighbourhood. c_skip, c_out, c_in: of EDM. The network is a U-Net with
    one condition channel, ln(s)/4. adapter, adapts: the factors that its weights hold already, and of which prior; what
    is written of it. A pixel without noise is told `sigma_min`, at which its answer is nearly its value.
    """

    kind: ClassVar[str] = "region"
    spread: float = 0.15
    adapter: Adapter | None = None
    adapts: Adapts | None = None

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W); sigma: a number, (N,) or (N, 1, H, W), 0 where there is no noise.

        Levels out of the range are treated as in `EDMDenoiser`.
        """
        s = per_pixel(sigma, x).clamp(min=self.sigma_min)
        network_dtype = next(p.dtype for p in self.network.parameters())
        weight = self.spread**2 / (s**2 + self.spread**2)
        u, v = push_pull(x, weight), s * weight.sqrt()
        c_skip, c_out, c_in = self.preconditioning(v)
        told = s.clamp(max=self.sigma_max).log() / 4
        shown = torch.cat([u * c_in, told, v.log() / 4], dim=1)
        inner = pad_sides(shown, self.multiple).to(network_dtype)
        f = self.network(inner[:, :-1], inner[:, -1:])
        return c_skip * u + c_out * f[..., : x.shape[-2], : x.shape[-1]].to(x.dtype)

    def error_scale(self, s: Tensor) -> Tensor:
        """c_out(v), by which a training weighs errors. s: levels of at least `sigma_min`."""
        weight = self.spread**2 / (s**2 + self.spread**2)
        return self.preconditioning(s * weight.sqrt())[1]


def region_denoiser(base: EDMDenoiser, name: str = "") -> RegionDenoiser:
    """The region denoiser that a denoiser is before it has learnt: it does not look at the map beside the image.

    Raises ConfigError for a network that is not the package's own U-Net, and one of complex images.
    """
    if not isinstance(base.network, UNet) or base.complex_mode == "channels":
        raise ConfigError(
            f"the prior '{base.name}' cannot be told a level for every pixel: that takes the package's own U-Net, of "
            "real images; train one with `restore train denoiser`"
        )
    config = dataclasses.replace(base.network.config, condition=1)
    weights, network = dict(base.network.state_dict()), new_unet(config)
    entry = weights["enter.weight"]
    unseen = entry.new_zeros(len(entry), config.unshuffle**2, *entry.shape[2:])
    network.load_state_dict(weights | {"enter.weight": torch.cat([entry, unseen], dim=1)})
    network.eval().requires_grad_(False)
    made = RegionDenoiser(
        network, sigma_data=base.sigma_data, channels=base.channels, multiple=base.multiple,
        sigma_min=base.sigma_min, sigma_max=base.sigma_max, intensity=base.intensity, name=name or base.name,
    )  # fmt: skip
    made.turnable = base.turnable
    if base.scaling:
        made.scaling = dict(base.scaling)
    return made


def with_factors(model: RegionDenoiser, adapter: Adapter, adapts: Adapts) -> RegionDenoiser:
    """The model that has learnt. Raises WeightsError for factors of another network."""
    made = adapted(model, adapter)
    made.adapter, made.adapts = adapter, adapts
    return made
