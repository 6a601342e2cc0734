"""FFDNet: convolutions on the pixel-unshuffled image and a map of the noise level, under both official namings.

Zhang, Zuo, Zhang, "FFDNet: toward a fast and flexible solution for CNN-based image denoising", IEEE TIP 2018. Built by
the family `ffdnet`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.sizes import check_sizes

FORMS = ("kair", "deepinv")
NORMS = ("batch_norm", "instance_norm")
_MOST_CONVOLUTIONS = 1024
_NORM_EPS = {"kair": 1e-4, "deepinv": 1e-5}


@dataclasses.dataclass(frozen=True)
class FFDNetConfig:
    """Image channels, width, number of convolutions. form: "kair" names the layers `model.0` and sees the noise map
    once, "deepinv" names them `blocks.0.0` and sees it unshuffled, four times. norm: "" or one of `NORMS`, in every
    layer but the first and the last. residual: the answer is added to the image.
    """

    channels: int
    width: int
    convolutions: int
    form: str = "kair"
    norm: str = ""
    last_bias: bool = True
    residual: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "channels", "width")
        check_sizes(self, "convolutions", least=2, largest=_MOST_CONVOLUTIONS)
        if self.form not in FORMS or self.norm not in ("", *NORMS):
            raise ConfigError(f"{self}: form is one of {FORMS}, norm empty or one of {NORMS}")


class FFDNet(nn.Module):
    """The clean image of a noisy one.

    x: (N, channels, H, W) of any size: odd sides are grown by repeating the edge. sigma: (N,) in units of x.
    """

    def __init__(self, config: FFDNetConfig) -> None:
        super().__init__()
        self.config, wide = config, config.width
        seen = 4 * config.channels + (1 if config.form == "kair" else 4)
        first = nn.Sequential(nn.Conv2d(seen, wide, 3, padding=1), nn.ReLU())
        inner = [self._layer() for _ in range(config.convolutions - 2)]
        last = nn.Conv2d(wide, 4 * config.channels, 3, padding=1, bias=config.last_bias)
        if config.form == "deepinv":
            self.blocks = nn.Sequential(first, *inner, last)
        else:
            flat = [part for layer in (first, *inner) for part in layer]
            self.model = nn.Sequential(*flat, last)

    def _layer(self) -> nn.Sequential:
        config, wide = self.config, self.config.width
        eps = _NORM_EPS[config.form]
        norm: list[nn.Module] = [nn.Identity()] if config.form == "deepinv" else []
        if config.norm == "batch_norm":
            norm = [nn.BatchNorm2d(wide, eps=eps)]
        elif config.norm == "instance_norm":
            norm = [nn.InstanceNorm2d(wide, affine=config.form == "kair")]
        return nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), *norm, nn.ReLU())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean image, (N, channels, H, W)."""
        height, width = x.shape[2:]
        grown = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        h, level = F.pixel_unshuffle(grown, 2), sigma.to(x).reshape(-1, 1, 1, 1)
        copies = 1 if self.config.form == "kair" else 4
        level = level.expand(len(x), copies, *h.shape[2:])
        layers = self.blocks if self.config.form == "deepinv" else self.model
        out = F.pixel_shuffle(layers(torch.cat([h, level], dim=1)), 2)[..., :height, :width]
        return x + out if self.config.residual else out
