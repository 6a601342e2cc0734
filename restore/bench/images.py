"""images: photographs degraded in four ways (inpaint, deblur, superres, denoise) with and without noise.

Used by the runner and the command line; the tasks are those of `restore image`. Everything random is seeded by the
name of the photograph, so that a figure does not depend on which others are there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.bench.case import Case, Conditions, Figures, OnProgress, Outcome
from restore.bench.protocol import Protocol, Setting, item_seed, selected
from restore.bench.store import Place
from restore.datasets.open import read_image
from restore.datasets.picture.images import SUFFIXES, Picture
from restore.errors import ConfigError, InputError, NotFoundError
from restore.front_door import solve
from restore.metrics import SSIM_VARIANT, SSIM_WINDOW, nmse, psnr, ssim
from restore.operators.base import LinearOperator
from restore.operators.image.kernels import parse_kernel
from restore.pipelines.degrade import TASKS, Degradation, add_noise, noise_level
from restore.pipelines.factors import Circumstances
from restore.precision import Word
from restore.priors.traits import Model
from restore.problem import Problem, Step
from restore.samplers.base import Sampler
from restore.starts import DRAWN

RULES = 1
"""Counts up when figures come out otherwise for the same files, settings and methods."""

GREY_PRIORS = {"denoiser": "medical"}
"""Photographs of one channel have one bundled prior; those for photographs are for colour."""


@dataclasses.dataclass(frozen=True)
class ImageFolder(Protocol):
    """folder: of PNG, JPEG or TIFF photographs, grey or RGB.

    tasks: of `restore image`. noises: standard deviations of white Gaussian noise, intensities being in [0, 1];
    denoising without noise is left out. crop: side of the centre that is used, 0 for the whole photograph; sides are
    cut to multiples of `factor` in all tasks. keep: share of the pixels that inpainting is shown. kernel: of the
    blur, reflected at the borders. factor: of super-resolution. limit, exclude: as in `CTSparseView`. seed: of masks
    and noise, with the photograph's name. Raises ConfigError.
    """

    name: ClassVar[str] = "images"
    default_samplers: ClassVar[str] = "bicubic,tv,tweedie,dds"
    default_prior: ClassVar[dict[str, str]] = {
        "denoiser": "natural",
        "conditional": "natural-restore",
        "latent": "natural-latent",
        "distilled": "natural-inpaint",
    }

    folder: Path
    tasks: tuple[str, ...] = TASKS
    noises: tuple[float, ...] = (0.0, 0.05)
    crop: int = 256
    keep: float = 0.3
    kernel: str = "gaussian:1.6"
    factor: int = 4
    limit: int | None = None
    exclude: Collection[str] = ()
    seed: int = 7

    def __post_init__(self) -> None:
        unknown = [t for t in self.tasks if t not in TASKS]
        if unknown or not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"tasks must be some of {', '.join(TASKS)}, once each, got {self.tasks}")  # fmt: skip
        good = [math.isfinite(s) and s >= 0 for s in self.noises]
        if not all(good) or len(set(self.noises)) < len(self.noises):
            raise ConfigError(f"noises must be different numbers, zero or more, got {self.noises}")
        if max(self.noises, default=0) > 1:
            raise ConfigError(
                f"noises are shares of white, 1 at most, got {self.noises}; 25 grey levels of 0..255 are 0.098"
            )
        if self.crop and self.crop < max(SSIM_WINDOW, self.factor):
            raise ConfigError(f"a crop of {self.crop} pixels is too small; 0 is the whole photograph")  # fmt: skip
        if not 0 < self.keep <= 1:
            raise ConfigError(f"keep must lie above 0 and at most 1, got {self.keep}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"the number of photographs must be at least 1, got {self.limit}")
        if self.factor < 2:
            raise ConfigError(f"the factor must be 2 or more, got {self.factor}")
        if self.seed < 0:
            raise ConfigError(f"the seed must not be negative, got {self.seed}")
        parse_kernel(self.kernel)
        if not self.settings():
            raise ConfigError("denoising without noise is no task; give a noise above 0")

    def volumes(self) -> dict[str, Path]:
        """By file name, sorted."""
        return selected(self._found, self.exclude, self.limit)

    def settings(self) -> tuple[Setting, ...]:
        """TASK-NOISE for every pair."""
        pairs = [(t, s) for t in self.tasks for s in self.noises if t != "denoise" or s > 0]
        return tuple(Setting(f"{t}-{s:g}", {"task": t, "noise": float(s)}) for t, s in pairs)

    def describe(self) -> dict[str, Any]:
        """Everything but the choice of photographs, tasks and noises."""
        return {
            "crop": self.crop, "keep": self.keep, "kernel": self.kernel, "factor": self.factor, "seed": self.seed,
            "rules": RULES,
        }  # fmt: skip

    def open(self, volume: str, setting: Setting, run: Path) -> PhotoCase:
        """Read, crop and degrade a photograph. Raises InputError for one that is too small or black."""
        task, noise = setting.values["task"], setting.values["noise"]
        if volume not in self._found:
            raise NotFoundError(f"{self.folder}: no photograph {volume}")
        seed = item_seed(self.seed, volume)
        picture = read_image(self._found[volume])
        truth = self._cropped(picture)
        shape = tuple(truth.shape)
        mask = self._mask(shape, seed) if task == "inpaint" else None
        kernel = self.kernel if task == "deblur" else ""
        degradation = Degradation(task, mask=mask, kernel=kernel, factor=self.factor)
        forward = degradation.operator(shape)
        measured = add_noise(forward(truth), noise, seed)
        return PhotoCase(
            name=volume, measured=measured if mask is None else measured * mask, forward=forward,
            difficulty=degradation.difficulty(shape),
            level=noise_level(noise), conditions=self._conditions(degradation, noise, seed, picture, shape),
            place=Place("photograph"), reference=truth.numpy(),
            prior_names=self._priors(shape[0], task),
        )  # fmt: skip

    def _priors(self, channels: int, task: str) -> dict[str, str] | None:
        """Bundled priors by their kind, where they are not the protocol's: distilled ones are for one task each."""
        if channels == 1:
            return GREY_PRIORS
        return {**self.default_prior, "distilled": "natural-x4"} if task == "superres" else None

    @cached_property
    def _found(self) -> dict[str, Path]:
        if not self.folder.exists():
            raise NotFoundError(f"{self.folder}: no such file or folder")
        files = sorted(self.folder.iterdir()) if self.folder.is_dir() else [self.folder]
        found = {p.name: p for p in files if p.is_file() and p.suffix.lower() in SUFFIXES}
        if not found:
            raise InputError(
                self.folder, "holds no photographs", f"expected {', '.join(SUFFIXES)} files"
            )
        return found

    def _cropped(self, picture: Picture) -> Tensor:
        data = picture.data
        sides = [min(n, self.crop or n) // self.factor * self.factor for n in data.shape[1:]]
        if min(sides) < SSIM_WINDOW:
            size = f"{data.shape[2]} x {data.shape[1]} pixels"
            raise InputError(picture.source, size, f"SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW}")
        top, left = ((n - m) // 2 for n, m in zip(data.shape[1:], sides, strict=True))
        truth = data[:, top : top + sides[0], left : left + sides[1]]
        if not truth.any():
            raise InputError(
                picture.source, "black everywhere: no error is relative to it", "leave it out"
            )
        return torch.from_numpy(np.ascontiguousarray(truth))

    def _mask(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """1 where a pixel is kept: each by itself, with probability `keep`."""
        kept = np.random.default_rng(seed).random(shape[-2:]) < self.keep
        return torch.from_numpy(kept.astype(np.float32))

    def _conditions(
        self, degradation: Degradation, noise: float, seed: int, picture: Picture, shape: tuple[int, ...]
    ) -> Conditions:  # fmt: skip
        task = degradation.task
        told = {
            "inpaint": f"{self.keep:g} of the pixels kept, each by itself",
            "deblur": f"blurred by {self.kernel}, reflected at the borders",
            "superres": f"{self.factor} times smaller, bicubic with antialiasing",
            "denoise": "every pixel seen",
        }
        return Conditions(
            target=f"the photograph, its centre of {shape[2]} x {shape[1]} pixels", mask=told[task],
            mask_seed=str(seed) if task == "inpaint" else "", noise_std=noise,
            noise_rule="white Gaussian noise that was added, intensities in [0, 1]",
            details={"task": task, "noise_seed": seed, "bits": picture.bits, "notes": _notes(picture)},
        )  # fmt: skip


def _notes(picture: Picture) -> list[str]:
    clear = "partly transparent: its colours are degraded and restored as if nothing were clear"
    return [*picture.notes, *[clear] * (picture.alpha is not None)]


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoCase(Case):
    """A degraded photograph. name seeds the samplers' noise; level: the noise to reckon with, at least the rounding of
    an 8-bit file; difficulty: the degradation's; reference: (C, H, W) in [0, 1]."""

    name: str
    measured: Tensor
    forward: LinearOperator
    level: float
    difficulty: dict[str, float | str]
    conditions: Conditions
    place: Place
    reference: NDArray[Any]
    prior_names: dict[str, str] | None = None

    @property
    def operator(self) -> LinearOperator:  # type: ignore[override]
        """The forward operator."""
        return self.forward

    def first_look(self) -> NDArray[Any]:
        """The degraded photograph at the image's size: low resolution is enlarged by bicubic interpolation."""
        return Problem(self.measured, self.forward).observed.numpy()

    def run(
        self,
        sampler: Sampler,
        prior: Model | None,
        *,
        samples: int,
        seed: int,
        device: torch.device,
        precision: Word = "auto",
        on_progress: OnProgress | None = None,
        start: str = DRAWN,
    ) -> Outcome:
        """Restore the photograph."""
        done = 0.0

        def on_step(step: Step) -> None:
            nonlocal done
            done += 1 / step.n
            if on_progress is not None:
                on_progress(min(1.0, done / samples))

        result = solve(
            self.measured.to(device), self.forward.to(device), noise=self.level, prior=prior, sampler=sampler,
            samples=samples, seed=seed, ids=(self.name,), on_step=on_step, trace=True,
            precision=precision, chosen_start=start,
        )  # fmt: skip
        misfit = np.mean([float(end["misfit"]) ** 2 for end in result.ends]) ** 0.5
        drawn = None if result.samples is None else result.samples.float().cpu().numpy()
        return Outcome(
            image=result.image.float().cpu().numpy(), samples=drawn, misfit=float(misfit),
            misfit_rule=f"||Ax-y|| / (std sqrt(m)), std {self.level:.3g}",
            evaluations=int(result.log[-1]["evaluations"]), curve=result.curve(),
            precision=result.provenance["precision"] or "",
            circumstances=Circumstances("image", self.forward.task, self.difficulty, self.level),
        )  # fmt: skip

    def score(self, image: NDArray[Any]) -> Figures:
        """Figures of what a file would hold: values clipped to [0, 1]."""
        shown = np.clip(image, 0, 1)
        return Figures(
            psnr=psnr(shown, self.reference, data_range=1.0), ssim=ssim(shown, self.reference, data_range=1.0),
            nmse=nmse(shown, self.reference), data_range=1.0,
            data_range_rule="full scale of a photograph; the image is clipped to [0, 1] before it is compared",
            ssim_variant=f"{SSIM_VARIANT}, mean over channels",
        )  # fmt: skip
