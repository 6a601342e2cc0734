"""A ResShift U-Net joined with its autoencoder: the network of codes that the published models are."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from restore.bridges.base import Level
from restore.bridges.resshift import HEADS
from restore.errors import ConfigError
from restore.priors.coded_bridge import CodedConditional
from restore.priors.families.bridge_network import check_known, head_of, times_of
from restore.priors.families.bridge_schedules import bridge_levels
from restore.priors.families.first_stages import FirstStage, first_stage
from restore.priors.families.meaning import Meaning
from restore.priors.nets.swin_unet import SwinUNet, SwinUNetConfig

_SAME = 1e-6
"""Two ways of the same formula in double precision."""


@dataclasses.dataclass(frozen=True)
class UNetAlone(SwinUNetConfig):
    """A U-Net with what the released diffusion says of it; None where nothing is said.

    latent_flag: its states are codes. normalize_input: it sees states scaled to a variance of about one.
    """

    latent_flag: bool | None = None
    normalize_input: bool | None = None


@dataclasses.dataclass(frozen=True)
class Joined:
    """Both configurations."""

    unet: UNetAlone
    autoencoder: FirstStage

    @property
    def normalize_input(self) -> bool | None:
        """Whether the network's input is scaled to a variance of one; None where nothing is said."""
        return self.unet.normalize_input

    def __post_init__(self) -> None:
        channels, code = self.unet.in_channels, self.autoencoder.embed_dim
        if channels != code or self.unet.out_channels != code:
            raise ConfigError(
                f"the U-Net has states of {channels} channels and the autoencoder codes of {code}: they do not belong "
                "together"
            )
        if self.shrink < 1 or self.unet.image_size * self.autoencoder.dd.factor % self.unet.lq_size:
            raise ConfigError(
                f"lq_size {self.unet.lq_size} is no fraction of the picture, image_size {self.unet.image_size} times "
                f"{self.autoencoder.dd.factor}"
            )

    @property
    def shrink(self) -> int:
        """Sides of the picture over those of the degraded one that is shown."""
        return self.unet.image_size * self.autoencoder.dd.factor // self.unet.lq_size


class JoinedNetwork(nn.Module):
    """U-Net and autoencoder, `model` and `autoencoder` as in the published configurations."""

    def __init__(self, config: Joined) -> None:
        super().__init__()
        self.model = SwinUNet(config.unet)
        self.autoencoder = first_stage(config.autoencoder)


class ResShiftCodes(CodedConditional):
    """The network of a ResShift chain between codes; decodes through the codebook.

    Raises ConfigError for networks that are shown a mask.
    """

    bridge = "resshift"

    def __init__(self, network: nn.Module, config: Joined, meaning: Meaning, name: str) -> None:
        if config.unet.cond_mask:
            raise ConfigError(
                f"{name}: the network is shown a mask beside the degraded picture, which no sampler here has; such "
                "weights can be converted and checked only"
            )
        assert meaning.range is not None  # noqa: S101  (for the type checker: the family asks for it)
        self.network, self.name, self.intensity = network, name, meaning.range
        self.head, self.tasks = head_of(meaning.prediction, HEADS), meaning.tasks
        self.channels, self.factor = config.autoencoder.dd.in_channels, config.autoencoder.dd.factor
        self.multiple, self.shrink = self.factor * config.unet.multiple, config.shrink
        self.normalised = bool(config.normalize_input)
        self.known = bridge_levels(meaning.schedule) if meaning.schedule else None

    def encode(self, x: Tensor) -> Tensor:
        """The code before the codebook."""
        z: Tensor = self._parts.autoencoder.encode(x.to(self._dtype))
        return z.to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """The picture of the nearest codes of the book."""
        x: Tensor = self._parts.autoencoder.decode(z.to(self._dtype))
        return x.to(z.dtype)

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head in codes. Raises ConfigError at a level that is not its own."""
        check_known(self.known, level, self.name)
        state = (x * own_scale(level, self.normalised, self.name, codes=True)).to(self._dtype)
        out: Tensor = self._parts.model(state, times_of(state, level.t), degraded.to(self._dtype))
        return (out.to(x.dtype),)

    @property
    def _parts(self) -> Any:
        return self.network

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def own_scale(level: Level, normalised: bool, name: str, *, codes: bool) -> float:
    """The factor that a network was trained to see its state times: of codes 1/sqrt(c^2 + 1), of pixels 1/(3 c + 1).

    Raises ConfigError where the sampler asks for another one; 1 asks for none.
    """
    own = 1.0
    if normalised:
        own = (level.c**2 + 1) ** -0.5 if codes else 1 / (3 * level.c + 1)
    if abs(level.scale - 1) > _SAME and abs(level.scale - own) > _SAME:
        raise ConfigError(
            f"prior '{name}' sees its state times {own:.4f} at time {level.t:g}, and the sampler asks for "
            f"{level.scale:.4f}; set input_scaling=none, the network knows its own"
        )
    return own
