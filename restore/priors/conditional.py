"""The contract of conditional models: the clean image from a bridge's state and the degraded image.

ResShift, RDDM and MR-Sampler chains call a model through `ConditionalPrior`, which carries it from images as
operators see them to network planes. Touches no files.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.bridges.base import Head, Level
from restore.errors import ConfigError, ShapeError
from restore.precision import autocast
from restore.priors.foreign import what_is, what_is_wrong
from restore.priors.image_prior import PIXELS_PER_CALL, chunked
from restore.priors.networks import copied_to
from restore.priors.operator_family import OperatorFamily
from restore.priors.tiles import tiled


class ConditionalModel(ABC):
    """A network that was trained on pairs of clean and degraded images.

    `channels`: of both images. `head`: what it returns (`restore.bridges.base.Head`). `intensity`: range of
    its images, stated, never enforced. `bridge`: the chain that it was trained for ("resshift", "rddm", "mrs"), or ""
    for any. `tasks`: the tasks of operators (`Operator.task`) that it was trained on, empty for any; `families`:
    these with their strengths, where somebody wrote them down. `coded`: its states are codes (`priors.coded_bridge`).
    `halves`: as in `Denoiser`.
    """

    kind: ClassVar[str] = "conditional"
    coded: ClassVar[bool] = False
    channels: int = 3
    head: Head = "x0"
    intensity: tuple[float, float] = (0.0, 1.0)
    bridge: str = ""
    tasks: tuple[str, ...] = ()
    families: tuple[OperatorFamily, ...] = ()
    halves: bool = False
    name: str = ""

    @abstractmethod
    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head's one or two tensors. x: the state x_t, (N, channels, H, W); degraded: the same shape."""

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """The same model on another device or in another precision: a copy, or itself where nothing changes."""
        return copied_to(self, target)


class ConditionalPrior:
    """A conditional model for items of `item_shape`, real or complex (re and im one after the other), in any number.

    item_shape: (H, W) or (C, H, W). A one-channel model treats the channels of an item one by one; a colour model
    sees a grey item as three equal channels and answers with their mean. intensity: the range in which the chain
    runs; a model that predicts x0 may have been trained in another, other heads must have been trained in
    this one. precision: inside the network. wrap: pixels by which the network is shown state and degraded image beyond
    each border, taken from the opposite one; at most as many as there are. `evaluations` counts network calls per item.
    Made by `choosing.fit` for a pair that `matching.check` has passed.
    """

    def __init__(
        self,
        model: ConditionalModel,
        item_shape: tuple[int, ...],
        intensity: tuple[float, float] = (0.0, 1.0),
        precision: torch.dtype = torch.float32,
        wrap: int = 0,
    ) -> None:
        self.model, self.item_shape, self.intensity = model, item_shape, intensity
        self.precision = precision
        self._wrap = (min(wrap, item_shape[-2]), min(wrap, item_shape[-1]))
        self.evaluations, self._chunk = 0, PIXELS_PER_CALL
        channels = item_shape[0] if len(item_shape) == 3 else 1
        self._grow = model.channels if channels == 1 else 1
        self._gain = (model.intensity[1] - model.intensity[0]) / (intensity[1] - intensity[0])

    @property
    def head(self) -> Head:
        """What `__call__` returns."""
        return self.model.head

    def degraded(self, observed: Tensor, y: Tensor) -> Tensor:
        """The degraded image in the chain's range. observed: it in unit intensities; y: the measurement itself."""
        return self.in_range(observed)

    def in_range(self, x: Tensor) -> Tensor:
        """Unit intensities to the chain's range; re and im each."""
        low, high = self.intensity
        return x * (high - low) + (complex(low, low) if x.is_complex() else low)

    def to_unit(self, x: Tensor) -> Tensor:
        """The chain's range to unit intensities; re and im each."""
        low, high = self.intensity
        return (x - (complex(low, low) if x.is_complex() else low)) / (high - low)

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The head's tensors, each (*batch, *item_shape). x, degraded: (*batch, *item_shape), in the chain's range."""
        self.evaluations += 1
        told = dataclasses.replace(level, c=level.c * self._gain)
        planes = [self._wrapped(self._planes(x)), self._wrapped(self._planes(degraded))]
        out, self._chunk = chunked(
            tiled(lambda p, y: self._answers(p, told, y)), planes, self._chunk, self._where(x)
        )
        return tuple(self._images(self._unwrapped(o), x) for o in out)

    def _answers(self, p: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        with autocast(self.precision, p.device):
            return tuple(o.to(p.dtype) for o in self.model(p, level, y))

    def _planes(self, x: Tensor) -> Tensor:
        """Network planes (N, channels, H, W) in the model's range; re and im are extra items."""
        both = torch.stack([x.real, x.imag]) if x.is_complex() else x
        low, to = self.intensity[0], self.model.intensity[0]
        if (low, self._gain) != (to, 1.0):
            both = (both - low) * self._gain + to
        if self._grow > 1:
            return both.reshape(-1, 1, *x.shape[-2:]).expand(-1, self._grow, -1, -1)
        return both.reshape(-1, self.model.channels, *x.shape[-2:])

    def _wrapped(self, planes: Tensor) -> Tensor:
        """The planes of a periodic image with a margin on each side, as they go on there."""
        down, across = self._wrap
        if not (down or across):
            return planes
        return F.pad(planes, (across, across, down, down), mode="circular")

    def _unwrapped(self, planes: Tensor) -> Tensor:
        """Planes without that margin."""
        down, across = self._wrap
        height, width = planes.shape[-2:]
        return planes[..., down : height - down, across : width - across]

    def _images(self, planes: Tensor, like: Tensor) -> Tensor:
        if self._grow > 1:
            planes = planes.mean(1)
        low, to = self.intensity[0], self.model.intensity[0]
        if (low, self._gain) != (to, 1.0):
            planes = (planes - to) / self._gain + low
        if not like.is_complex():
            return planes.reshape(like.shape)
        both = planes.reshape(2, *like.shape)
        return torch.complex(both[0], both[1])

    def _where(self, x: Tensor) -> str:
        return f"one image of {tuple(x.shape[-2:])} on {x.device}"


ModelFunction = Callable[[Tensor, Level, Tensor], tuple[Tensor, ...]]


class FromFunction(ConditionalModel):
    """Any function as a conditional model: for published networks and for tests. Raises ConfigError for no function."""

    def __init__(
        self,
        function: ModelFunction,
        *,
        channels: int = 3,
        head: Head = "x0",
        intensity: tuple[float, float] = (0.0, 1.0),
        bridge: str = "",
        tasks: tuple[str, ...] = (),
        name: str = "function",
    ) -> None:
        if inspect.isclass(function) or not callable(function):
            raise ConfigError(f"FromFunction: the function is {what_is(function)}")
        self.function, self.channels, self.head, self.name = function, channels, head, name
        self.intensity, self.bridge, self.tasks = intensity, bridge, tasks

    def __call__(self, x: Tensor, level: Level, degraded: Tensor) -> tuple[Tensor, ...]:
        """The function's answer; one tensor alone will do where the head has one. Raises ShapeError."""
        out = self.function(x, level, degraded)
        answers = (out,) if isinstance(out, Tensor) else tuple(out)
        wrong = [what_is_wrong(a, x) for a in answers]
        if any(wrong) or not answers:
            raise ShapeError(
                f"prior '{self.name}' returned {', '.join(wrong) or 'nothing'}, expected tensors {tuple(x.shape)}"
            )
        return answers
