"""The networks of EDM under their official names: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM).

Source: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
table 1 and appendix F. They are told c_noise; the preconditioning is in `edm_precond.py`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.nets.edm_layers import (
    FourierEmbedding,
    PositionalEmbedding,
    ResampledConv,
    UNetBlock,
    normalised,
)

_WORDS = {
    "model_type": ("SongUNet", "DhariwalUNet"), "embedding_type": ("positional", "fourier"),
    "encoder_type": ("standard", "skip", "residual"), "decoder_type": ("standard", "skip"),
}  # fmt: skip
_LARGEST = 65_536
_HEAD = 64  # channels a head in DhariwalUNet; a narrower block has no attention
_SONG_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class EDMNetConfig:
    """Constructor arguments of both networks, under their official names.

    attn_resolutions: in pixels of the training images, whose side is img_resolution. resample_filter: taps; their
    values are a buffer of the file. The last five belong to SongUNet.
    """

    img_resolution: int
    img_channels: int
    model_type: str
    model_channels: int
    channel_mult: tuple[int, ...]
    num_blocks: int
    attn_resolutions: tuple[int, ...]
    channel_mult_emb: int = 4
    label_dim: int = 0
    augment_dim: int = 0
    embedding_type: str = "positional"
    channel_mult_noise: int = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: tuple[float, ...] = (1, 1)

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ConfigError(
                    f"{name} is '{getattr(self, name)}', expected one of {', '.join(words)}"
                )
        sizes = (
            self.img_resolution, self.img_channels, self.model_channels, self.channel_mult_emb,
            self.channel_mult_noise, *self.channel_mult,
        )  # fmt: skip
        if not all(1 <= n <= _LARGEST for n in sizes) or not 1 <= len(self.channel_mult) <= 16:
            raise ConfigError(
                f"img_resolution, img_channels, model_channels and multiples {sizes}: expected 1..{_LARGEST} and 1 to "
                "16 levels"
            )
        if not 0 <= self.num_blocks <= 64 or self.label_dim < 0 or self.augment_dim < 0:
            raise ConfigError(
                f"num_blocks {self.num_blocks}, label_dim {self.label_dim}, augment_dim {self.augment_dim}: expected "
                "at most 64 blocks, labels not below 0"
            )
        if self.img_resolution >> (len(self.channel_mult) - 1) < 1 or not self.resample_filter:
            raise ConfigError(
                f"img_resolution {self.img_resolution} cannot be halved for channel_mult {self.channel_mult}, or "
                f"resample_filter {self.resample_filter} has no taps"
            )

    @property
    def multiple(self) -> int:
        """Image sides must be a multiple of this."""
        return int(2 ** (len(self.channel_mult) - 1))


class _EDMNet(nn.Module, ABC):
    """Abstract: encoder and decoder as named blocks, and the embedding of noise, class and augmentation."""

    eps = 1e-5

    def __init__(self, config: EDMNetConfig, out_channels: int) -> None:
        super().__init__()
        self.config, self.out_channels = config, out_channels
        self.emb_channels = config.model_channels * config.channel_mult_emb
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()

    @abstractmethod
    def _block(
        self, channels: int, out: int, *, attention: bool = False, up: bool = False, down: bool = False
    ) -> UNetBlock:  # fmt: skip
        """One block of this architecture."""

    def _decoder(self, cout: int, skips: list[int]) -> int:
        """All blocks of the decoder; returns the width of what leaves the last."""
        c, last = self.config, len(self.config.channel_mult) - 1
        for level, mult in reversed(list(enumerate(c.channel_mult))):
            side = c.img_resolution >> level
            name = f"{side}x{side}"
            if level == last:
                self.dec[f"{name}_in0"] = self._block(cout, cout, attention=True)
                self.dec[f"{name}_in1"] = self._block(cout, cout)
            else:
                self.dec[f"{name}_up"] = self._block(cout, cout, up=True)
            for k in range(c.num_blocks + 1):
                cin, cout = cout + skips.pop(), c.model_channels * mult
                here = side in c.attn_resolutions and self._attends_at(k)
                self.dec[f"{name}_block{k}"] = self._block(cin, cout, attention=here)
            self._end_level(level, name, cout)
        return cout

    def _attends_at(self, k: int) -> bool:
        return True

    def _end_level(self, level: int, name: str, cout: int) -> None:
        """What a level of the decoder has after its blocks."""


class SongUNet(_EDMNet):
    """DDPM++ (positional, standard) and NCSN++ (fourier, residual)."""

    def __init__(self, config: EDMNetConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        noise = config.model_channels * config.channel_mult_noise
        self.map_noise = (
            PositionalEmbedding(noise, endpoint=True)
            if config.embedding_type == "positional"
            else FourierEmbedding(noise)
        )
        self.map_label = nn.Linear(config.label_dim, noise) if config.label_dim else None
        self.map_augment = (
            nn.Linear(config.augment_dim, noise, bias=False) if config.augment_dim else None
        )
        self.map_layer0 = nn.Linear(noise, self.emb_channels)
        self.map_layer1 = nn.Linear(self.emb_channels, self.emb_channels)
        cout, skips = self._encoder()
        self._decoder(cout, skips)

    def _block(
        self, channels: int, out: int, *, attention: bool = False, up: bool = False, down: bool = False
    ) -> UNetBlock:  # fmt: skip
        return UNetBlock(
            channels, out, self.emb_channels, heads=int(attention), up=up, down=down, skip_scale=math.sqrt(0.5),
            eps=_SONG_EPS, taps=len(self.config.resample_filter), resample_proj=True, adaptive_scale=False,
        )  # fmt: skip

    def _encoder(self) -> tuple[int, list[int]]:
        c, taps = self.config, len(self.config.resample_filter)
        cout, aux, skips = c.model_channels, c.img_channels, [c.model_channels]
        for level, mult in enumerate(c.channel_mult):
            side = c.img_resolution >> level
            name = f"{side}x{side}"
            if not level:
                self.enc[f"{name}_conv"] = ResampledConv(c.img_channels, cout, 3)
            else:
                self.enc[f"{name}_down"] = self._block(cout, cout, down=True)
                skips.append(cout)
                if c.encoder_type == "skip":
                    self.enc[f"{name}_aux_down"] = ResampledConv(aux, aux, 0, down=True, taps=taps)
                    self.enc[f"{name}_aux_skip"] = ResampledConv(aux, cout, 1)
                elif c.encoder_type == "residual":
                    self.enc[f"{name}_aux_residual"] = ResampledConv(
                        aux, cout, 3, down=True, taps=taps, fused=True
                    )
                    aux = cout
            for k in range(c.num_blocks):
                cin, cout = cout, c.model_channels * mult
                here = side in c.attn_resolutions
                self.enc[f"{name}_block{k}"] = self._block(cin, cout, attention=here)
                skips.append(cout)
        return cout, skips

    def _attends_at(self, k: int) -> bool:
        return k == self.config.num_blocks

    def _end_level(self, level: int, name: str, cout: int) -> None:
        c, out = self.config, self.out_channels
        if c.decoder_type != "skip" and level:
            return
        if c.decoder_type == "skip" and level < len(c.channel_mult) - 1:
            taps = len(c.resample_filter)
            self.dec[f"{name}_aux_up"] = ResampledConv(out, out, 0, up=True, taps=taps)
        self.dec[f"{name}_aux_norm"] = normalised(cout, _SONG_EPS)
        self.dec[f"{name}_aux_conv"] = ResampledConv(cout, out, 3)

    def _embedding(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        emb = self.map_noise(noise)
        emb = emb.reshape(len(emb), 2, -1).flip(1).reshape(emb.shape)  # sines first
        if self.map_label is not None and labels is not None:
            emb = emb + self.map_label(labels * math.sqrt(self.map_label.in_features))
        if self.map_augment is not None and augment is not None:
            emb = emb + self.map_augment(augment)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """x: (N, C, H, W); noise: (N,) c_noise; labels: (N, label_dim); augment: (N, augment_dim)."""
        emb = self._embedding(noise, labels, augment)
        skips: list[Tensor] = []
        aux = x
        for name, block in self.enc.items():
            if "aux_down" in name:
                aux = block(aux)
            elif "aux_skip" in name:
                x = skips[-1] = x + block(aux)
            elif "aux_residual" in name:
                x = skips[-1] = aux = (x + block(aux)) * math.sqrt(0.5)
            else:
                x = block(x, emb) if isinstance(block, UNetBlock) else block(x)
                skips.append(x)
        return self._decoded(x, emb, skips)

    def _decoded(self, x: Tensor, emb: Tensor, skips: list[Tensor]) -> Tensor:
        pyramid, found = None, x
        for name, block in self.dec.items():
            if "aux_up" in name:
                pyramid = block(pyramid)
            elif "aux_norm" in name:
                found = block(x)
            elif "aux_conv" in name:
                found = block(F.silu(found))
                pyramid = found if pyramid is None else pyramid + found
            else:
                x = block(_joined(x, block, skips), emb)
        assert pyramid is not None  # noqa: S101  (level 0 always ends in aux_conv)
        return pyramid


class DhariwalUNet(_EDMNet):
    """The U-Net of guided diffusion as EDM rebuilt it."""

    def __init__(self, config: EDMNetConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        c, width = config, config.model_channels
        self.map_noise = PositionalEmbedding(width)
        self.map_augment = nn.Linear(c.augment_dim, width, bias=False) if c.augment_dim else None
        self.map_layer0 = nn.Linear(width, self.emb_channels)
        self.map_layer1 = nn.Linear(self.emb_channels, self.emb_channels)
        self.map_label = (
            nn.Linear(c.label_dim, self.emb_channels, bias=False) if c.label_dim else None
        )
        cout = width * c.channel_mult[0]
        skips = [cout]
        for level, mult in enumerate(c.channel_mult):
            side = c.img_resolution >> level
            name = f"{side}x{side}"
            if not level:
                self.enc[f"{name}_conv"] = ResampledConv(c.img_channels, cout, 3)
            else:
                self.enc[f"{name}_down"] = self._block(cout, cout, down=True)
                skips.append(cout)
            for k in range(c.num_blocks):
                cin, cout = cout, width * mult
                here = side in c.attn_resolutions
                self.enc[f"{name}_block{k}"] = self._block(cin, cout, attention=here)
                skips.append(cout)
        cout = self._decoder(cout, skips)
        self.out_norm = normalised(cout, self.eps)
        self.out_conv = ResampledConv(cout, out_channels, 3)

    def _block(
        self, channels: int, out: int, *, attention: bool = False, up: bool = False, down: bool = False
    ) -> UNetBlock:  # fmt: skip
        heads = out // _HEAD if attention else 0
        return UNetBlock(channels, out, self.emb_channels, heads=heads, up=up, down=down)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """x: (N, C, H, W); noise: (N,) c_noise; labels: (N, label_dim); augment: (N, augment_dim)."""
        emb = self.map_noise(noise)
        if self.map_augment is not None and augment is not None:
            emb = emb + self.map_augment(augment)
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if self.map_label is not None and labels is not None:
            emb = emb + self.map_label(labels)
        emb = F.silu(emb)
        skips: list[Tensor] = []
        for block in self.enc.values():
            x = block(x, emb) if isinstance(block, UNetBlock) else block(x)
            skips.append(x)
        for block in self.dec.values():
            x = block(_joined(x, block, skips), emb)
        return self.out_conv(F.silu(self.out_norm(x)))


def _joined(x: Tensor, block: nn.Module, skips: list[Tensor]) -> Tensor:
    """x with the next skip beside it, where the block expects one."""
    if x.shape[1] == block.in_channels:
        return x
    return torch.cat([x, skips.pop()], dim=1)
