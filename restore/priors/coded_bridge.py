"""Bridges between the codes of pictures: a conditional model behind an autoencoder, and the prior that samplers see.

ResShift's published networks walk from the code of the degraded picture to that of the clean one, while they are shown
the degraded picture itself. Yue, Wang, Loy, "ResShift", NeurIPS 2023. Touches no files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from restore.bridges.base import Level
from restore.errors import ConfigError
from restore.precision import autocast
from restore.priors.base import pad_sides
from restore.priors.conditional import ConditionalModel, ConditionalPrior
from restore.priors.image_prior import PIXELS_PER_CALL, chunked


class CodedConditional(ConditionalModel):
    """A conditional model whose state is a code. `intensity`: range of its pictures.

    `factor`: a code has 1/factor of the picture's sides. `multiple`: sides of pictures are grown to a multiple of this.
    `shrink`: the degraded picture is shown at 1/shrink of the sides (super-resolution: the small picture itself).
    """

    coded: ClassVar[bool] = True
    factor: int = 4
    multiple: int = 4
    shrink: int = 1

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The code of pictures (N, channels, H, W) in `intensity`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The picture of codes (N, C, H/factor, W/factor)."""

    @abstractmethod
    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head's tensors in codes. x: the state, (N, C, h, w); degraded: the picture that is shown."""


class CodedConditionalPrior(ConditionalPrior):
    """What samplers see of such a model: codes are the chain's own images.

    `in_range` encodes and `to_unit` decodes pictures of `item_shape` (channels, H, W); states have the shape of codes.
    """

    model: CodedConditional

    def __init__(
        self,
        model: CodedConditional,
        item_shape: tuple[int, ...],
        intensity: tuple[float, float] = (-1.0, 1.0),
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(model, item_shape, intensity, precision)
        self._shown: Tensor | None = None

    def degraded(self, observed: Tensor, y: Tensor) -> Tensor:
        """The code of the observed picture, (*batch, *code); what the network is shown is kept for the run.

        Raises ConfigError where the network is shown a small picture and the measurement is none.
        """
        self._shown = self._picture(observed, y)
        return self.in_range(observed)

    def in_range(self, x: Tensor) -> Tensor:
        """The codes of pictures in unit intensities: (*batch, *item_shape) -> (*batch, *code)."""
        planes = pad_sides(self._of_range(x), self.model.multiple)
        z = self._run(lambda p: (self.model.encode(p),), planes)
        return z.reshape(*x.shape[:-3], *z.shape[1:])

    def to_unit(self, x: Tensor) -> Tensor:
        """The pictures of codes in unit intensities: (*batch, *code) -> (*batch, *item_shape)."""
        found = self._run(lambda p: (self.model.decode(p),), x.reshape(-1, *x.shape[-3:]))
        height, width = self.item_shape[-2:]
        low, high = self.model.intensity
        return ((found[..., :height, :width] - low) / (high - low)).reshape(
            *x.shape[:-3], *self.item_shape
        )

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head's tensors, each of the state's shape (*batch, *code). degraded: unused, the picture is known."""
        assert self._shown is not None  # noqa: S101  (samplers begin with `degraded`)
        self.evaluations += 1
        planes, shown = x.reshape(-1, *x.shape[-3:]), self._shown.reshape(-1, *self._shown.shape[-3:])  # fmt: skip
        out, self._chunk = chunked(
            lambda p, y: self._answers(p, level, y), [planes, shown], self._chunk, self._where(x)
        )
        return tuple(o.reshape(x.shape) for o in out)

    def _picture(self, observed: Tensor, y: Tensor) -> Tensor:
        shrink, sides = self.model.shrink, self.item_shape[-2:]
        if shrink == 1:
            return pad_sides(self._of_range(observed), self.model.multiple)
        small = (self.item_shape[0], *(n // shrink for n in sides))
        if tuple(y.shape[-3:]) != small or any(n % shrink for n in sides):
            raise ConfigError(
                f"prior '{self.model.name}' was trained for super-resolution by {shrink} and is shown the small "
                f"picture {small} beside the large one {self.item_shape}; this measurement is {tuple(y.shape[-3:])}"
            )
        return pad_sides(self._of_range(y), self.model.multiple // shrink)

    def _of_range(self, x: Tensor) -> Tensor:
        """Pictures (N, channels, H, W) in the model's range."""
        low, high = self.model.intensity
        return x.reshape(-1, *x.shape[-3:]) * (high - low) + low

    def _run(self, network: Callable[[Tensor], tuple[Tensor, ...]], planes: Tensor) -> Tensor:
        with autocast(self.precision, planes.device):
            found, _ = chunked(network, [planes], PIXELS_PER_CALL, self._where(planes))
        return found[0].to(planes.dtype)
