"""The four image tasks as operators: inpaint, deblur, superres, denoise.

Used by the image pipeline and the benchmarks; touches no files.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import parse_kernel

Task = Literal["inpaint", "deblur", "superres", "denoise"]
TASKS: tuple[Task, ...] = ("inpaint", "deblur", "superres", "denoise")
QUANTISATION_STD = 1 / 255 / 12**0.5  # rounding to 8 bits: the least noise a stored photograph has


@dataclasses.dataclass(frozen=True, eq=False)
class Degradation:
    """A task with its settings. mask: (H, W), 1 where the pixel is known. kernel: text such as "gaussian:1.6"."""

    task: Task
    mask: Tensor | None = None
    kernel: str = ""
    factor: int = 4
    boundary: str = "reflect"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"unknown task '{self.task}'; choose one of {', '.join(TASKS)}")
        if self.task == "inpaint" and self.mask is None:
            raise ConfigError(
                "task inpaint needs a mask: an image that is white where pixels are known"
            )
        if self.task != "inpaint" and self.mask is not None:
            raise ConfigError(f"a mask is for task inpaint, not for {self.task}; leave it out")
        if self.task != "deblur" and self.kernel:
            raise ConfigError(f"a kernel is for task deblur, not for {self.task}; leave it out")
        if self.task == "deblur" and not self.kernel:
            raise ConfigError(
                "task deblur needs a kernel, such as gaussian:1.6, motion:15:30 or defocus:5"
            )
        if self.task == "superres" and self.factor < 2:
            raise ConfigError(f"task superres needs a factor of 2 or more, got {self.factor}")

    def operator(self, shape: tuple[int, ...]) -> LinearOperator:
        """The forward operator for clean images of `shape` (C, H, W). Raises ShapeError for a mask of another size."""
        if self.task == "inpaint" and self.mask is not None:
            if tuple(self.mask.shape) != tuple(shape[-2:]):
                sizes = [f"{s[-1]} x {s[-2]}" for s in (self.mask.shape, shape)]
                raise ShapeError(
                    f"the mask is {sizes[0]} pixels, the image {sizes[1]}; they must be the same"
                )
            return Inpainting(self.mask, shape)
        if self.task == "deblur":
            return Blur(parse_kernel(self.kernel), shape, boundary=self.boundary)
        if self.task == "superres":
            return Downsample(shape, self.factor)
        return Identity(shape)

    def clean_shape(self, measured: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the restored image of a measured one."""
        channels, height, width = measured
        grow = self.factor if self.task == "superres" else 1
        return channels, height * grow, width * grow

    def fit(self, clean: Tensor) -> Tensor:
        """Crop a clean image so that it can be degraded: sides divisible by the factor."""
        unit = self.factor if self.task == "superres" else 1
        return clean[..., : clean.shape[-2] // unit * unit, : clean.shape[-1] // unit * unit]


def default_sampler(task: Task, settings: dict[str, Any], samples: int) -> str:
    """The sampler that serves a task best: one exact call for denoising, DDS for the rest.

    DDS denoises too where steps or several samples are asked for.
    """
    return "tweedie" if task == "denoise" and samples == 1 and not settings else "dds"


def classical_baseline(task: Task) -> str:
    """The sampler that stands for classical practice in this task."""
    return "bicubic" if task == "superres" else "tv"


def noise_level(std: float) -> float:
    """The noise to reckon with: what was stated, but never less than the rounding of an 8-bit file."""
    if std < 0:
        raise ConfigError(f"noise must be zero or more, got {std}")
    return max(std, QUANTISATION_STD)


def add_noise(clean: Tensor, std: float, seed: int) -> Tensor:
    """Clean + std n with its own generator; std 0 leaves it alone."""
    generator = torch.Generator().manual_seed(seed)
    return clean + std * torch.randn(clean.shape, generator=generator)
