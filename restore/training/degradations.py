"""Degraded partners of training images: the tasks that a conditional model is trained on.

Used by `restore.training.conditional`. A task is written TASK[:VALUE][@NOISE]: superres:4, deblur:gaussian:1.6@0.01,
inpaint:0.3 (share of known pixels), denoise@0.1; noise is a standard deviation for images in [0, 1].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import parse_kernel
from restore.priors.operator_family import OperatorFamily
from restore.problem import Problem

BOUNDARIES: tuple[str, ...] = ("reflect",)
"""Of blur. Circular borders need no training: a periodic picture has no border once the network is shown it wrapped
(`ConditionalPrior`, `wrap`), and a crop that was blurred so and is shown as it is teaches an edge that is nowhere."""
SIDE = 128
"""Of the image whose operator says how strong a task is."""
TASKS = ("superres", "deblur", "inpaint", "denoise")
"""Tasks of operators (`Operator.task`) that can be trained on."""


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """One task with its fixed strength. value: factor, kernel or share of known pixels."""

    task: str
    value: str = ""
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(
                f"unknown training task '{self.task}'; choose one of {', '.join(TASKS)}"
            )
        if not 0 <= self.noise < 10:
            raise ConfigError(f"{self}: noise must be zero or more, got {self.noise}")
        self.operator((3, 16, 16), torch.Generator().manual_seed(0))

    def operator(self, shape: tuple[int, ...], generator: torch.Generator) -> LinearOperator:
        """The forward model for images of `shape`, with a random mask or one of the `BOUNDARIES` where there is one."""
        try:
            if self.task == "superres":
                return Downsample(shape, int(self.value or 4))
            if self.task == "inpaint":
                keep = torch.rand(shape[-2:], generator=generator) < float(self.value or 0.3)
                return Inpainting(keep.float(), shape)
        except ValueError as error:
            raise ConfigError(f"training task {self.task}: '{self.value}' is no number") from error
        if self.task == "deblur":
            boundary = BOUNDARIES[int(torch.randint(len(BOUNDARIES), (), generator=generator))]
            return Blur(parse_kernel(self.value or "gaussian:1.6"), shape, boundary=boundary)
        return Identity(shape)

    def family(self, channels: int) -> OperatorFamily:
        """What a model will be for that is trained on this task."""
        operator = self.operator((channels, SIDE, SIDE), torch.Generator().manual_seed(0))
        return OperatorFamily(operator.task, str(self), dict(operator.strength), self.noise)

    def degrade(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """The picture that a person would see of x0, at its size. x0: (channels, H, W)."""
        operator = self.operator(tuple(x0.shape), generator).to(x0.device)
        y = operator(x0)
        if self.noise:
            y = y + (self.noise * torch.randn(y.shape, generator=generator)).to(x0.device)
        return Problem(y, operator).observed

    def __str__(self) -> str:
        noise = f"@{self.noise:g}" if self.noise else ""
        return self.task + (f":{self.value}" if self.value else "") + noise


def parse_task(text: str) -> TrainingTask:
    """A task from TASK[:VALUE][@NOISE]. Raises ConfigError."""
    what, _, noise = text.partition("@")
    task, _, value = what.partition(":")
    try:
        return TrainingTask(task, value, float(noise or 0))
    except ValueError as error:
        raise ConfigError(f"training task '{text}': the noise '{noise}' is no number") from error
