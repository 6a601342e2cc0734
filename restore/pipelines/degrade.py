"""The four image tasks as operators: inpaint, deblur, superres, denoise.

Used by the image pipeline and the benchmarks; touches no files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.image.blur import BOUNDARIES, Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import parse_kernel
from restore.registry import usual_sampler
from restore.unknown_noise import estimated_noise

Task = Literal["inpaint", "deblur", "superres", "denoise"]
TASKS: tuple[Task, ...] = ("inpaint", "deblur", "superres", "denoise")
SCATTERED = 2.0
"""Mean distance in pixels of a missing pixel to a known one, below which holes are single pixels rather than areas."""
FAR = 16
"""Pixels from the next known one beyond which what fills a hole rests on hardly anything that was seen."""
QUANTISATION_STD = 1 / 255 / 12**0.5  # rounding to 8 bits: the least noise a stored photograph has


@dataclasses.dataclass(frozen=True, eq=False)
class Degradation:
    """A task with its settings. mask: (H, W), 1 where the pixel is known. kernel: text such as "gaussian:1.6", or
    a kernel (h, w) of sum 1. boundary "valid": the measured picture is what no border touches, and the restored one is
    larger by the kernel."""

    task: Task
    mask: Tensor | None = None
    kernel: str | Tensor = ""
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
        if self.boundary not in BOUNDARIES:
            raise ConfigError(
                f"unknown boundary '{self.boundary}'; choose one of {', '.join(BOUNDARIES)}"
            )
        given = isinstance(self.kernel, Tensor) or bool(self.kernel)
        if self.task != "deblur" and given:
            raise ConfigError(f"a kernel is for task deblur, not for {self.task}; leave it out")
        if self.task == "deblur" and not given:
            raise ConfigError(
                "task deblur needs a kernel, such as gaussian:1.6, motion:15:30, defocus:5 or a file"
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
            return Blur(self._psf, shape, boundary=self.boundary)
        if self.task == "superres":
            return Downsample(shape, self.factor)
        return Identity(shape)

    @property
    def _psf(self) -> Tensor:
        return self.kernel if isinstance(self.kernel, Tensor) else parse_kernel(self.kernel)

    def clean_shape(self, measured: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the restored image of a measured one."""
        channels, height, width = measured
        grow = self.factor if self.task == "superres" else 1
        if self.task == "deblur" and self.boundary == "valid":
            rows, columns = self._psf.shape
            return channels, height + rows - 1, width + columns - 1
        return channels, height * grow, width * grow

    def difficulty(self, shape: tuple[int, ...]) -> dict[str, float | str]:
        """What decides how hard it is, numbers and words by name, as of scans. shape: (C, H, W) of the clean image."""
        told: dict[str, float | str] = {"channels": shape[0]}
        if self.task == "superres":
            told |= {"factor": self.factor}
        if self.task == "deblur":
            values = self._psf.double().contiguous().numpy().tobytes()
            named = hashlib.sha256(values).hexdigest()[:12]
            told |= {
                "kernel": self.kernel if isinstance(self.kernel, str) else named,
                "boundary": self.boundary,
            }
        if self.mask is not None:
            away = _distances(self.mask)
            far = float(away[away > 0].mean()) if (away > 0).any() else 0.0
            told |= {
                "kept": round(float((self.mask > 0).float().mean()), 4),
                "holes": "scattered" if far < SCATTERED else "areas",
            }
        return told

    @property
    def doubts(self) -> list[str]:
        """What has to be said of a result: a hole so large that its middle is a guess."""
        if self.mask is None or not (self.mask > 0).any():
            return []
        far = float(_distances(self.mask).max())
        if far <= FAR:
            return []
        return [
            f"pixels are missing up to {far:.0f} pixels from the next known one: what stands there is a guess that "
            "fits the surroundings, and was not seen"
        ]

    def fit(self, clean: Tensor) -> Tensor:
        """Crop a clean image so that it can be degraded: sides divisible by the factor. Raises ShapeError."""
        unit = self.factor if self.task == "superres" else 1
        if min(clean.shape[-2:]) < unit:
            raise ShapeError(
                f"the picture has {clean.shape[-1]} x {clean.shape[-2]} pixels, too few to be made {unit} times smaller"
            )
        return clean[..., : clean.shape[-2] // unit * unit, : clean.shape[-1] // unit * unit]


def _distances(mask: Tensor) -> NDArray[np.float64]:
    """Of every pixel the distance to the next known one, 0 where it is known itself."""
    return np.asarray(distance_transform_edt(mask.cpu().numpy() == 0))


def default_sampler(task: Task, settings: dict[str, Any], samples: int) -> str:
    """The sampler that serves a task best: one exact call for denoising without settings, else the usual one."""
    if task == "denoise" and samples == 1 and not settings:
        return "tweedie"
    return usual_sampler(samples)


def classical_baseline(task: Task) -> str:
    """The sampler that stands for classical practice in this task."""
    return "bicubic" if task == "superres" else "tv"


def noise_level(std: float) -> float:
    """The noise to reckon with: what was stated, but never less than the rounding of an 8-bit file."""
    if std < 0:
        raise ConfigError(f"noise must be zero or more, got {std}")
    return max(std, QUANTISATION_STD)


def reckoned_noise(
    noise: float | str | None, least: float, measured: Tensor, operator: LinearOperator
) -> tuple[float, str, list[str]]:
    """The level to reckon with, the word for what it is (`provenance["noise_is"]`), and notes.

    noise: stated, or None or "estimate" to estimate it from `measured` (C, H, W). least: deviation of what the file
    adds (its compression), independent of the noise. Raises ConfigError for stated noise below zero.
    """
    notes: list[str] = []
    if isinstance(noise, int | float):
        level, told = noise_level(noise), "known" if noise else "exact"
    else:
        found = estimated_noise(measured, operator)
        std = found.noise.std if isinstance(found.noise, Gaussian) else 0.0
        level, told = noise_level(float(torch.as_tensor(std).max())), "estimated"
        notes.append(found.note)
    if least > level / 10:
        level = math.hypot(level, least)
        notes.append(
            f"the picture was compressed (JPEG): its quantisation counts as noise of {least:.2g}, {level:.2g} in all"
        )
    return level, told, notes


def add_noise(clean: Tensor, std: float, seed: int) -> Tensor:
    """Clean + std n with its own generator; std 0 leaves it alone."""
    generator = torch.Generator().manual_seed(seed)
    return clean + std * torch.randn(clean.shape, generator=generator)
