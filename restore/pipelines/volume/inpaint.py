"""Inpaint: voxels that were lost (metal, whole slices) made anew from the rest; the others stay as they are.

A task of `restore volume`; the contract stands in `task.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.config import setting
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.noise import Exact, Gaussian
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.volume.blocks import Block
from restore.pipelines.volume.grids import on_grid_of
from restore.pipelines.volume.intensities import Intensities, intensities_of
from restore.pipelines.volume.planes import planes_of
from restore.pipelines.volume.task import Prepared, VolumeTask, empty_like
from restore.problem import Problem
from restore.samplers.base import Planned


@dataclasses.dataclass(frozen=True)
class Inpaint(VolumeTask):
    """mask: a volume on the grid of IN, not zero where voxels are lost. noise_level: of the others."""

    name: ClassVar[str] = "inpaint"

    mask: Path | None = None
    noise_level: float | None = setting(
        None,
        "deviation of the known voxels, in the volume's units; none: they are exact",
        at_least=0,
    )

    def _check_together(self) -> None:
        if self.mask is None:
            raise ConfigError(
                "--task inpaint needs --mask, a volume that says where voxels are lost"
            )

    @property
    def traits(self) -> Planned:
        """Of inpainting."""
        return Planned("image", "inpaint", frozenset({"linear", "selects"}))

    def prepare(self, volumes: tuple[Volume, ...]) -> PreparedInpaint:
        """Read the mask. Raises InputError (another grid, nothing lost, everything lost)."""
        (volume,) = volumes
        lost, said = _lost(Path(str(self.mask)), volume)
        planes, notes = planes_of(volume)
        whole = [k for k, plane in enumerate(lost) if plane.all()]
        if whole and len(planes) == 1:
            raise InputError(
                volume.source or "volume", f"slice {whole[0]} is lost as a whole, and {notes[0]}",
                "resample it to voxels that are nearer to cubes first",
            )  # fmt: skip
        if whole:
            planes = (planes[-1], *planes[:-1])
        intensities = intensities_of(volume)
        intensities.check_noise(self.noise_level or 0.0, str(volume.source or "volume"))
        record = {
            "lost_voxels": int(lost.sum()), "lost_slices": whole, "planes": list(planes),
            "scaling": dataclasses.asdict(intensities.scaling), "noise_known": bool(self.noise_level),
        }  # fmt: skip
        return PreparedInpaint(
            result=empty_like(volume), level=(self.noise_level or 0.0) / intensities.scaling.scale,
            record=record, notes=(*volume.notes, *notes, *said), volume=volume, lost=lost, planes=planes,
            intensities=intensities, noise_level=self.noise_level or 0.0, step=_step_of(volume),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedInpaint(Prepared):
    """lost: (D, H, W), true where nothing is known. step: slope and intercept of the whole numbers that the source
    stores, None where it stores none: new voxels are such steps too, so that the known ones are stored as they were."""

    volume: Volume
    lost: NDArray[np.bool_]
    planes: tuple[int, ...]
    intensities: Intensities
    noise_level: float
    step: tuple[float, float] | None

    @property
    def made_anew(self) -> NDArray[np.bool_]:
        """What is lost, whatever stands there."""
        return self.lost

    def problem(self, block: Block, device: torch.device) -> Problem:
        """The known voxels of a block, the others zero."""
        at = slice(block.seen.start, block.seen.stop)
        known = torch.from_numpy(~self.lost[at]).to(device, torch.float32)
        y = torch.from_numpy(self.intensities.shifted(self.volume.data[at])).to(device) * known
        noise = Gaussian(self.noise_level) if self.noise_level else Exact()
        return Problem(
            y, Inpainting(known, tuple(y.shape)), noise, self.intensities.scaling, (block.name,), self.planes
        )  # fmt: skip

    def in_source_units(self, samples: Tensor, block: Block) -> NDArray[np.float32]:
        """The lost voxels from the samples, the known ones as they were."""
        at = slice(block.seen.start, block.seen.stop)
        found = self.intensities.source(samples.cpu().numpy().astype(np.float32))
        if self.step is not None:
            slope, intercept = self.step
            found = np.rint((found - intercept) / slope) * slope + intercept
        return np.where(self.lost[at], found, self.volume.data[at]).astype(np.float32)


def _step_of(volume: Volume) -> tuple[float, float] | None:
    if not isinstance(volume.header, DicomSeries):
        return None
    first = volume.header.slices[0]
    slope, intercept = (
        float(first.get(f"Rescale{n}") or d) for n, d in (("Slope", 1), ("Intercept", 0))
    )
    return (slope, intercept) if slope > 0 else None


def _lost(path: Path, volume: Volume) -> tuple[NDArray[np.bool_], list[str]]:
    """True where the mask says that nothing is known, on the volume's grid; a note on one that was interpolated."""
    values = on_grid_of(volume, path)
    mask = values != 0
    if not mask.any():
        raise InputError(path, "marks no voxel of the volume: nothing is lost")
    if mask.all():
        raise InputError(
            path, "marks every voxel: nothing is known", "mark what is lost, not what is known"
        )
    whole = values == np.rint(values)
    if whole.all():
        return mask, []
    share = 100 * float(1 - whole[mask].mean())
    return mask, [
        f"{share:.3g} % of what the mask marks are fractions, as of one that was interpolated: all was taken for lost"
    ]
