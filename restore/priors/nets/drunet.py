"""DRUNet: a U-Net of residual blocks without biases that is shown a map of the noise level, under its official names.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte, "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 2022.
Built by the family `drunet`; pure torch, no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.sizes import MOST, check_sizes

_ACTIVATIONS = {"R": nn.ReLU, "L": nn.LeakyReLU, "E": nn.ELU, "s": nn.Softplus}
_LEAK = 0.2
LEVELS = 4
_FITTING, _LEAST, _GROWN, _QUARTERED = 8, 32, 16, 64


@dataclasses.dataclass(frozen=True)
class DRUNetConfig:
    """Arguments of the published network; channels are those of the image, without the noise map.

    act_mode: "R" ReLU, "L" leaky ReLU, "E" ELU, "s" softplus. downsample_mode: "strideconv", "avgpool", "maxpool";
    upsample_mode: "convtranspose", "pixelshuffle", "upconv".
    """

    in_channels: int = 3
    out_channels: int = 3
    nc: tuple[int, ...] = (64, 128, 256, 512)
    nb: int = 4
    act_mode: str = "R"
    downsample_mode: str = "strideconv"
    upsample_mode: str = "convtranspose"
    bias: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "in_channels", "out_channels", "nc")
        check_sizes(self, "nb", largest=MOST)
        if len(self.nc) != LEVELS:
            raise ConfigError(f"nc has one width for each of {LEVELS} levels, got {self.nc}")
        for name, known in (
            ("act_mode", tuple(_ACTIVATIONS)), ("downsample_mode", tuple(_DOWN)), ("upsample_mode", tuple(_UP)),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is '{getattr(self, name)}'; there are {', '.join(known)}"
                )


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, config: DRUNetConfig) -> None:
        super().__init__()
        kind = _ACTIVATIONS[config.act_mode]
        between = kind(_LEAK) if config.act_mode == "L" else kind()
        convs = [nn.Conv2d(width, width, 3, padding=1, bias=config.bias) for _ in range(2)]
        self.res = nn.Sequential(convs[0], between, convs[1])

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, width, h, w)."""
        out: Tensor = x + self.res(x)
        return out


class DRUNet(nn.Module):
    """The clean image of a noisy one.

    x: (N, in_channels, H, W) of any size. As in the published codes, images with sides that are no multiples of 8, or
    below 32, are grown to multiples of 16 by repeating the edge where a side is below 64, and else seen in four
    overlapping quarters. sigma: (N,), or a map (N, 1, H, W), in units of x.
    """

    def __init__(self, config: DRUNetConfig) -> None:
        super().__init__()
        self.config, bias = config, config.bias
        one, two, three, four = config.nc
        self.m_head = nn.Conv2d(config.in_channels + 1, one, 3, padding=1, bias=bias)
        self.m_down1 = self._down(one, two)
        self.m_down2 = self._down(two, three)
        self.m_down3 = self._down(three, four)
        self.m_body = self._blocks([], four)
        self.m_up3 = self._up(four, three)
        self.m_up2 = self._up(three, two)
        self.m_up1 = self._up(two, one)
        self.m_tail = nn.Conv2d(one, config.out_channels, 3, padding=1, bias=bias)

    def _blocks(self, before: list[nn.Module], width: int, after: tuple[nn.Module, ...] = ()) -> nn.Module:  # fmt: skip
        blocks = [Block(width, self.config) for _ in range(self.config.nb)]
        layers = [*before, *blocks, *after]
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def _down(self, width: int, out: int) -> nn.Module:
        return self._blocks([], width, _DOWN[self.config.downsample_mode](width, out, self.config.bias))  # fmt: skip

    def _up(self, width: int, out: int) -> nn.Module:
        return self._blocks([*_UP[self.config.upsample_mode](width, out, self.config.bias)], out)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean image, (N, out_channels, H, W)."""
        level = sigma.to(x).reshape(len(sigma), 1, *(sigma.shape[2:] or (1, 1)))
        height, width = x.shape[2:]
        given = torch.cat([x, level.expand(len(x), 1, height, width)], dim=1)
        if all(side % _FITTING == 0 and side >= _LEAST for side in (height, width)):
            return self._whole(given)
        if min(height, width) >= _QUARTERED:
            return _in_quarters(self._whole, given)
        grown = (0, -width % _GROWN, 0, -height % _GROWN)
        return self._whole(F.pad(given, grown, mode="replicate"))[..., :height, :width]

    def _whole(self, given: Tensor) -> Tensor:
        """The U-Net. given: image and noise map, sides multiples of 8."""
        first = self.m_head(given)
        half = self.m_down1(first)
        quarter = self.m_down2(half)
        eighth = self.m_down3(quarter)
        h = self.m_up3(self.m_body(eighth) + eighth)
        h = self.m_up1(self.m_up2(h + quarter) + half)
        out: Tensor = self.m_tail(h + first)
        return out


def _in_quarters(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The network's answer put together from those to four corners, multiples of 64 that reach beyond the middle."""
    rows, columns = (_halves(side) for side in x.shape[2:])
    bands = [
        torch.cat([network(x[..., band, part])[..., top, left] for part, left in columns], dim=3)
        for band, top in rows
    ]
    return torch.cat(bands, dim=2)


def _halves(side: int) -> list[tuple[slice, slice]]:
    """What is seen of an axis for each of its halves, and which part of the answer is that half."""
    middle = side // 2
    reach = (middle // _QUARTERED + 1) * _QUARTERED
    return [
        (slice(0, reach), slice(0, middle)),
        (slice(side - reach, side), slice(middle - side, None)),
    ]


def _conv(width: int, out: int, bias: bool) -> nn.Module:
    return nn.Conv2d(width, out, 3, padding=1, bias=bias)


_DOWN = {
    "strideconv": lambda a, b, bias: (nn.Conv2d(a, b, 2, stride=2, bias=bias),),
    "avgpool": lambda a, b, bias: (nn.AvgPool2d(2), _conv(a, b, bias)),
    "maxpool": lambda a, b, bias: (nn.MaxPool2d(2), _conv(a, b, bias)),
}
_UP = {
    "convtranspose": lambda a, b, bias: (nn.ConvTranspose2d(a, b, 2, stride=2, bias=bias),),
    "pixelshuffle": lambda a, b, bias: (_conv(a, 4 * b, bias), nn.PixelShuffle(2)),
    "upconv": lambda a, b, bias: (nn.Upsample(scale_factor=2, mode="nearest"), _conv(a, b, bias)),
}
