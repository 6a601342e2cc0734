"""NCSN++ (and DDPM++) of score_sde under its official names: all layers in one list, walked in order.

Source: Song and others, "Score-based generative modeling through stochastic differential equations", ICLR 2021,
appendix H. Where attention sits follows from the settings, not from the size of the image at hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets import ncsnpp_layers as layers

ACTS: dict[str, layers.Act] = {
    "swish": F.silu, "relu": F.relu, "elu": F.elu, "lrelu": partial(F.leaky_relu, negative_slope=0.2),
}  # fmt: skip
_WORDS = {
    "embedding_type": ("fourier", "positional"), "resblock_type": ("biggan", "ddpm"),
    "progressive": ("none", "output_skip", "residual"), "progressive_input": ("none", "input_skip", "residual"),
    "progressive_combine": ("sum", "cat"), "nonlinearity": tuple(ACTS), "sde": ("vesde", "vpsde"),
}  # fmt: skip
_LARGEST, _MOST_LEVELS = 65_536, 16


@dataclasses.dataclass(frozen=True)
class NCSNppConfig:
    """The official settings under their names; what the sections `model`, `data` and `training` say of the network.

    image_size: of training, which places the attention. centered: images come in [-1, 1], else in [0, 1].
    """

    num_channels: int
    image_size: int
    centered: bool
    nf: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]
    num_scales: int
    sde: str
    continuous: bool
    scale_by_sigma: bool
    embedding_type: str
    progressive: str
    progressive_input: str
    resblock_type: str
    skip_rescale: bool
    fir: bool
    fir_kernel: tuple[float, ...] = (1, 3, 3, 1)
    progressive_combine: str = "sum"
    nonlinearity: str = "swish"
    conditional: bool = True
    resamp_with_conv: bool = True
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ConfigError(
                    f"{name} is '{getattr(self, name)}', expected one of {', '.join(words)}"
                )
        sizes = (self.num_channels, self.image_size, self.nf, *self.ch_mult, self.num_scales)
        if not all(1 <= n <= _LARGEST for n in sizes) or not 0 <= self.num_res_blocks <= 64:
            raise ConfigError(
                f"num_channels, image_size, nf, ch_mult, num_scales {sizes}: expected 1..{_LARGEST}, and at most 64 "
                "blocks a level"
            )
        if not 1 <= len(self.ch_mult) <= _MOST_LEVELS or self.nf < 4:
            raise ConfigError(
                f"ch_mult {self.ch_mult}, nf {self.nf}: expected 1 to {_MOST_LEVELS} levels, nf of 4 or more"
            )
        low, high = self.sigma_min, self.sigma_max
        if low is not None and high is not None and not 0 < low < high < math.inf:
            raise ConfigError(
                f"sigma_min {self.sigma_min}, sigma_max {self.sigma_max}: expected two that rise, above 0"
            )
        if not 0 <= self.beta_min < self.beta_max < math.inf:
            raise ConfigError(
                f"beta_min {self.beta_min}, beta_max {self.beta_max}: expected two that rise, from 0"
            )
        if self.fir and not (len(self.fir_kernel) >= 2 and sum(self.fir_kernel) > 0):
            raise ConfigError(
                f"fir_kernel {self.fir_kernel}: expected two taps or more with a sum above 0"
            )

    @property
    def taps(self) -> tuple[float, ...]:
        """Of the resampling filter, none without one."""
        return self.fir_kernel if self.fir else ()

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return int(2 ** (len(self.ch_mult) - 1))

    def attends(self, level: int) -> bool:
        """Whether attention sits at a level."""
        return self.image_size // 2**level in self.attn_resolutions

    def sigmas(self) -> Tensor:
        """Noise levels of the discrete chain, highest first, float64."""
        if self.sigma_min is None or self.sigma_max is None:
            raise ConfigError(
                "the noise levels follow from sigma_min and sigma_max; say them by --set"
            )
        ends = (math.log(self.sigma_max), math.log(self.sigma_min))
        return torch.linspace(*ends, self.num_scales, dtype=torch.float64).exp()


class NCSNpp(nn.Module):
    """The network; `sigmas` is a buffer of the official state dict."""

    sigmas: Tensor

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("sigmas", torch.empty(config.num_scales, dtype=torch.float64))
        self.act = ACTS[config.nonlinearity]
        self.embedding = (
            4 * config.nf
        )  # blocks have its layer in networks that are told nothing too
        self.all_modules = nn.ModuleList(self._build())

    def _build(self) -> Iterator[nn.Module]:
        c, nf = self.config, self.config.nf
        if c.embedding_type == "fourier":
            yield layers.FourierProjection(nf)
        if c.conditional:
            yield nn.Linear(2 * nf if c.embedding_type == "fourier" else nf, 4 * nf)
            yield nn.Linear(4 * nf, 4 * nf)
        yield layers.conv3x3(c.num_channels, nf)
        widths = [nf]
        yield from self._build_encoder(widths)
        width = widths[-1]
        yield self._block(width, width)
        yield layers.Attention(width, c.skip_rescale)
        yield self._block(width, width)
        yield from self._build_decoder(widths)

    def _build_encoder(self, widths: list[int]) -> Iterator[nn.Module]:
        c, width, pyramid = self.config, widths[-1], self.config.num_channels
        for level, mult in enumerate(c.ch_mult):
            for _ in range(c.num_res_blocks):
                yield self._block(width, c.nf * mult)
                width = c.nf * mult
                if c.attends(level):
                    yield layers.Attention(width, c.skip_rescale)
                widths.append(width)
            if level == len(c.ch_mult) - 1:
                continue
            yield self._resample(width, up=False)
            if c.progressive_input == "input_skip":
                yield layers.Combine(pyramid, width, c.progressive_combine)
                width *= 2 if c.progressive_combine == "cat" else 1
            elif c.progressive_input == "residual":
                yield layers.Resample(pyramid, width, c.taps, up=False, with_conv=True)
                pyramid = width
            widths.append(width)

    def _build_decoder(self, widths: list[int]) -> Iterator[nn.Module]:
        c, width, pyramid = self.config, widths[-1], 0
        for level, mult in reversed(list(enumerate(c.ch_mult))):
            for _ in range(c.num_res_blocks + 1):
                yield self._block(width + widths.pop(), c.nf * mult)
                width = c.nf * mult
            if c.attends(level):
                yield layers.Attention(width, c.skip_rescale)
            if c.progressive == "output_skip" or (c.progressive == "residual" and not pyramid):
                yield layers.normalised(width)
                pyramid = c.num_channels if c.progressive == "output_skip" else width
                yield layers.conv3x3(width, pyramid)
            elif c.progressive == "residual":
                yield layers.Resample(pyramid, width, c.taps, up=True, with_conv=True)
                pyramid = width
            if level:
                yield self._resample(width, up=True)
        if c.progressive != "output_skip":
            yield layers.normalised(width)
            yield layers.conv3x3(width, c.num_channels)

    def _block(
        self, channels: int, out: int, *, up: bool = False, down: bool = False
    ) -> layers.ResnetBlock:
        c = self.config
        return layers.ResnetBlock(
            channels, out, self.embedding, act=self.act, skip_rescale=c.skip_rescale, kind=c.resblock_type,
            taps=c.taps, up=up, down=down,
        )  # fmt: skip

    def _resample(self, width: int, *, up: bool) -> nn.Module:
        c = self.config
        if c.resblock_type == "biggan":
            return self._block(width, width, up=up, down=not up)
        return layers.Resample(width, width, c.taps, up=up, with_conv=c.resamp_with_conv)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """x: (N, num_channels, H, W); label: (N,) noise sigma (fourier) or time index (positional).

        Returns the shape of x: divided by sigma where the settings say `scale_by_sigma`.
        """
        c, modules = self.config, iter(self.all_modules)
        if c.embedding_type == "fourier":
            sigma = label.to(x.dtype)
            told = next(modules)(sigma.log())
        else:
            sigma = self.sigmas[label.long()].to(x.dtype) if c.scale_by_sigma else label
            told = positions(label.to(x.dtype), c.nf)
        embedding = None
        if c.conditional:
            embedding = next(modules)(told)
            embedding = next(modules)(self.act(embedding))
        h = self._walk(x if c.centered else 2 * x - 1, embedding, modules)
        return h / sigma[:, None, None, None] if c.scale_by_sigma else h

    def _walk(self, x: Tensor, embedding: Tensor | None, modules: Iterator[nn.Module]) -> Tensor:
        skips = self._encode(x, embedding, modules)
        h = next(modules)(skips[-1], embedding)
        h = next(modules)(h)
        h = next(modules)(h, embedding)
        return self._decode(h, skips, embedding, modules)

    def _encode(
        self, x: Tensor, embedding: Tensor | None, modules: Iterator[nn.Module]
    ) -> list[Tensor]:
        c, pyramid = self.config, x
        skips = [next(modules)(x)]
        for level in range(len(c.ch_mult)):
            for _ in range(c.num_res_blocks):
                h = next(modules)(skips[-1], embedding)
                skips.append(next(modules)(h) if c.attends(level) else h)
            if level == len(c.ch_mult) - 1:
                continue
            h = self._told(next(modules), skips[-1], embedding)
            if c.progressive_input == "input_skip":
                pyramid = layers.resampled(pyramid, c.taps, up=False)
                h = next(modules)(pyramid, h)
            elif c.progressive_input == "residual":
                h = pyramid = layers.summed(next(modules)(pyramid), h, c.skip_rescale)
            skips.append(h)
        return skips

    def _decode(
        self, h: Tensor, skips: list[Tensor], embedding: Tensor | None, modules: Iterator[nn.Module]
    ) -> Tensor:
        c, pyramid = self.config, None
        for level in reversed(range(len(c.ch_mult))):
            for _ in range(c.num_res_blocks + 1):
                h = next(modules)(torch.cat([h, skips.pop()], dim=1), embedding)
            if c.attends(level):
                h = next(modules)(h)
            if c.progressive == "output_skip":
                found = self._leave(h, modules)
                pyramid = (
                    found if pyramid is None else layers.resampled(pyramid, c.taps, up=True) + found
                )
            elif c.progressive == "residual" and pyramid is None:
                pyramid = self._leave(h, modules)
            elif c.progressive == "residual":
                h = pyramid = layers.summed(next(modules)(pyramid), h, c.skip_rescale)
            if level:
                h = self._told(next(modules), h, embedding)
        return (
            self._leave(h, modules)
            if pyramid is None or c.progressive != "output_skip"
            else pyramid
        )

    def _told(self, module: nn.Module, h: Tensor, embedding: Tensor | None) -> Tensor:
        return module(h, embedding) if self.config.resblock_type == "biggan" else module(h)

    def _leave(self, h: Tensor, modules: Iterator[nn.Module]) -> Tensor:
        norm, conv = next(modules), next(modules)
        return conv(self.act(norm(h)))


def positions(t: Tensor, width: int) -> Tensor:
    """Sines, then cosines of t at width/2 frequencies from 1 down to 1/10000 inclusive: (N,) -> (N, width)."""
    half = width // 2
    steps = torch.arange(half, dtype=t.dtype, device=t.device) / max(half - 1, 1)
    phase = t[:, None] * torch.exp(-math.log(10_000) * steps)[None]
    return F.pad(torch.cat([phase.sin(), phase.cos()], dim=1), (0, width % 2))
