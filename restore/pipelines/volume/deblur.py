"""Deblur: the blur of a known point spread function taken out, Gaussian in mm or from a file.

A task of `restore volume`; the contract stands in `task.py`. What lies beyond the volume's borders, and was blurred
into it, is unknown: it is restored with the rest, and cut off.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.config import setting
from restore.datasets.open import read
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.noise import Gaussian
from restore.operators.volume.volume_blur import VolumeBlur
from restore.pipelines.volume.blocks import Block, blocks_of
from restore.pipelines.volume.intensities import Intensities, intensities_of
from restore.pipelines.volume.noise_level import gaussian_levels
from restore.pipelines.volume.planes import planes_of
from restore.pipelines.volume.task import Prepared, VolumeTask, empty_like
from restore.problem import Problem
from restore.samplers.base import Planned

FWHM_TO_STD = 1 / (2 * math.sqrt(2 * math.log(2)))
"""Full width at half maximum of a Gaussian -> its deviation, 1 / 2.355."""

REACH = 3.5
"""Deviations up to which a Gaussian is followed: 0.05 % of it lie beyond."""

LARGEST = 63
"""Voxels along a side of a point spread function."""

SPACING_TOLERANCE = 0.01
"""How far, of a voxel, those of a point spread function in a file may differ from the volume's."""


@dataclasses.dataclass(frozen=True)
class Deblur(VolumeTask):
    """psf: widths at half maximum in mm, "X,Y,Z" or one for all axes, of a Gaussian; or a file."""

    name: ClassVar[str] = "deblur"

    psf: str = ""
    noise_level: float | None = setting(
        None, "deviation of the noise, in the volume's units; none: estimated", above=0
    )

    def _check_together(self) -> None:
        if not self.psf:
            raise ConfigError(
                "--task deblur needs --psf: the full width at half maximum in mm, such as 2.5 or 2,2,4 along x, y and "
                "z, or a file of the point spread function"
            )
        _ = self.widths  # what is no width is a file

    @property
    def widths(self) -> tuple[float, float, float] | None:
        """Along x, y and z in mm; None where `psf` names a file. Raises ConfigError for widths that cannot be."""
        try:
            numbers = [float(word) for word in self.psf.split(",")]
        except ValueError:
            return None
        x, y, z = numbers * 3 if len(numbers) == 1 else (*numbers, math.nan, math.nan)[:3]
        if (
            len(numbers) not in (1, 3)
            or not all(0 <= w < math.inf for w in (x, y, z))
            or not max(x, y, z)
        ):
            raise ConfigError(
                f"--psf is '{self.psf}', expected one width in mm, or three along x, y and z"
            )
        return x, y, z

    @property
    def files(self) -> dict[str, Path]:
        """The file of the point spread function."""
        return {} if self.widths else {"psf": Path(self.psf)}

    @property
    def told(self) -> dict[str, Any]:
        """Without the name of that file."""
        return {"psf": self.psf if self.widths else "", "noise_level": self.noise_level}

    @property
    def traits(self) -> Planned:
        """Of deblurring."""
        return Planned("image", "deblur", frozenset({"linear"}))

    def usual(self, samples: int) -> tuple[str, str]:
        """Eight levels of half-quadratic splitting; several samples as everywhere."""
        return ("diffpir", "volume") if samples == 1 else super().usual(samples)

    def prepare(self, volumes: tuple[Volume, ...]) -> PreparedDeblur:
        """The point spread function on the volume's voxels. Raises InputError."""
        (volume,) = volumes
        where = str(volume.source or "volume")
        widths = self.widths
        kernel, said = _gaussian(widths, volume) if widths else _from_file(Path(self.psf), volume)
        if any(k // 2 >= n for k, n in zip(kernel.shape, volume.data.shape, strict=True)):
            raise InputError(
                where, f"a point spread function of {' x '.join(map(str, kernel.shape))} voxels (z, y, x) is too large "
                f"for {' x '.join(map(str, volume.data.shape))}", "give a narrower one",
            )  # fmt: skip
        planes, notes = planes_of(volume)
        intensities = intensities_of(volume)
        if self.noise_level is None:
            found = gaussian_levels(volume.data, where)
            level = float(np.median(found.of))
            if not level > 0:
                raise InputError(
                    where, "no noise was found: its finest details are zero", "give --noise-level"
                )
            notes.append(
                f"the noise was estimated as {level:.3g}; give --noise-level where it is known"
            )
            if found.doubt:
                notes.append(found.doubt)
        else:
            level = self.noise_level
        intensities.check_noise(level, where)
        record = {
            "psf_voxels": list(kernel.shape), "planes": list(planes), "noise_std": level, "noise_known": True,
            "scaling": dataclasses.asdict(intensities.scaling),
        }  # fmt: skip
        return PreparedDeblur(
            result=empty_like(volume), level=level / intensities.scaling.scale, record=record,
            notes=(*volume.notes, *said, *notes), volume=volume, kernel=kernel, planes=planes,
            intensities=intensities, std=level,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedDeblur(Prepared):
    """kernel: (d, h, w), odd sides, sum 1. std: of the noise, in the volume's units."""

    volume: Volume
    kernel: NDArray[np.float32]
    planes: tuple[int, ...]
    intensities: Intensities
    std: float

    def blocks(self) -> list[Block]:
        """Slabs that see as far as the kernel reaches besides."""
        return blocks_of(self.result.data.shape, margin=8 + self.kernel.shape[0] // 2)

    def problem(self, block: Block, device: torch.device) -> Problem:
        """y = k * x + n on the block, x larger than y by the kernel's reach on all sides."""
        data = self.volume.data[block.seen.start : block.seen.stop]
        y = torch.from_numpy(self.intensities.shifted(data)).to(device)
        operator = self._operator(block).to(device)
        return Problem(
            y, operator, Gaussian(self.std), self.intensities.scaling, (block.name,), self.planes
        )

    def in_source_units(self, samples: Tensor, block: Block) -> NDArray[np.float32]:
        """Without what lies beyond the borders."""
        found = self._operator(block).inside(samples).cpu().numpy().astype(np.float32)
        return self.intensities.source(found)

    def _operator(self, block: Block) -> VolumeBlur:
        seen = (len(block.seen), *self.result.data.shape[1:])
        shape = tuple(n + k - 1 for n, k in zip(seen, self.kernel.shape, strict=True))
        return VolumeBlur(torch.from_numpy(self.kernel), shape)

    @property
    def difficulty(self) -> dict[str, float | str]:
        """How many voxels the blur spreads over."""
        return {"spread": round(float(1 / np.square(self.kernel).sum()), 1)}


def _gaussian(
    widths: tuple[float, float, float], volume: Volume
) -> tuple[NDArray[np.float32], list[str]]:
    """The product of three Gaussians, each integrated over voxels."""
    total = np.ones((1, 1, 1))
    for axis, (width, spacing) in enumerate(
        zip(reversed(widths), volume.spacing_mm[::-1], strict=True)
    ):
        std = width * FWHM_TO_STD / spacing
        reach = math.ceil(REACH * std)
        if 2 * reach + 1 > LARGEST:
            most = LARGEST / (2 * REACH * FWHM_TO_STD)
            raise ConfigError(
                f"--psf {width:g} mm is {width / spacing:.3g} voxels wide; at most {most:.0f} can be taken out"
            )
        edges = np.arange(-reach - 0.5, reach + 1)
        below = (
            np.array([0.5 * (1 + math.erf(e / std / math.sqrt(2))) for e in edges])
            if std
            else np.array([0.0, 1])
        )
        shape = [1, 1, 1]
        shape[axis] = -1
        total = total * np.diff(below).reshape(shape)
    return (total / total.sum()).astype(np.float32), []


def _from_file(path: Path, volume: Volume) -> tuple[NDArray[np.float32], list[str]]:
    """A point spread function in a volume file: odd sides, voxels as those of the volume. Raises InputError."""
    found = read(path)
    data = np.asarray(found.data, np.float64)
    if np.iscomplexobj(found.data) or not np.isfinite(data).all() or not data.sum() > 0:
        raise InputError(
            path, "is no point spread function: real values with a sum above zero were expected"
        )
    if not all(k % 2 for k in data.shape) or max(data.shape) > LARGEST:
        raise InputError(
            path, f"a point spread function of {' x '.join(map(str, data.shape))} voxels",
            f"odd sides of {LARGEST} at most, its centre in the middle",
        )  # fmt: skip
    theirs, ours = found.spacing_mm, volume.spacing_mm
    if any(
        abs(a / b - 1) > SPACING_TOLERANCE
        for a, b, k in zip(theirs, ours, data.shape[::-1], strict=True)
        if k > 1
    ):
        raise InputError(
            path, f"its voxels are {' x '.join(f'{a:.4g}' for a in theirs)} mm, those of the volume "
            f"{' x '.join(f'{b:.4g}' for b in ours)} mm", "sample it on the volume's voxels",
        )  # fmt: skip
    total = float(data.sum())
    notes = (
        [f"the point spread function sums to {total:.4g}: divided by it"]
        if abs(total - 1) > 1e-3
        else []
    )
    return (data / total).astype(np.float32), notes
