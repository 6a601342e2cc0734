"""Superres: thick slices made thin ones, small pixels of large ones, several views of one object fused.

A task of `restore volume`; the contract stands in `task.py`. The forward model is that of the slices: a profile along
their normal, sampled where they lie (`operators/volume`). What a slice averaged out is the prior's; how well the result
explains the slices stands in the record, and `--samples` says how far it is known.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.config import setting
from restore.datasets.volume.dicom_reslice import resliced
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.noise import Gaussian
from restore.operators.algebra import Stack
from restore.operators.base import LinearOperator
from restore.operators.volume.slice_profile import SliceProfile
from restore.operators.volume.slice_stacks import Grid, thick_slices
from restore.pipelines.volume.blocks import MARGIN, VOXELS, Block, blocks_of
from restore.pipelines.volume.intensities import Intensities, intensities_of
from restore.pipelines.volume.planes import STRETCHED
from restore.pipelines.volume.stacks import StackOfSlices, stacks_of
from restore.pipelines.volume.task import Prepared, VolumeTask, empty_like
from restore.problem import Problem
from restore.samplers.base import Planned

UPRIGHT = 1e-3
"""Cosine between axes up to which they count as perpendicular, as for DICOM."""

INVENTED = 6.0
"""Thin voxels a measured one from which a note says how much of the result is the prior's."""

PLANES = {1: (2, 1), 3: (2, 1, 0)}
"""Across which axes of (z, y, x) the planes lie that the prior sees by turns: those that hold z; all of fused views."""

LEAST_SLICES = 2

MOST_OF_ONE = 64
"""Thin slices made of one, at most: more is a distance in other units than mm."""

MARGIN_SLICES = 2
"""Thick slices that a block sees beyond its own on either side, at least."""


@dataclasses.dataclass(frozen=True)
class Superres(VolumeTask):
    """Thick slices to thin ones."""

    name: ClassVar[str] = "superres"
    inputs: ClassVar[tuple[int, int]] = (1, 3)

    spacing: float | None = setting(
        None, "distance of the new slices in mm; none: the size of the pixels", above=0
    )
    in_plane: float = setting(1.0, "factor by which pixels become smaller", between=(1, 16))
    profile: str = setting("rect", "of a slice: rect, gauss, or gauss:FWHM in mm")
    thickness: float | None = setting(
        None, "of a slice in mm; none: the DICOM header's, else the slices' distance", above=0
    )
    gap: str = setting("auto", "mm between slices, in the place of a thickness")
    register: Literal["rigid", "none"] = setting(
        "rigid", "whether further volumes are laid on the first"
    )
    noise_level: float | None = setting(
        None, "deviation of the noise, in the volume's units; none: estimated", above=0
    )

    def _check_together(self) -> None:
        SliceProfile.parse(self.profile, 1.0)

    @property
    def traits(self) -> Planned:
        """Of super-resolution."""
        return Planned("image", "superres", frozenset({"linear", "interpolates"}))

    def prepare(self, volumes: tuple[Volume, ...]) -> PreparedSuperres:
        """Geometry, thickness, noise, and the place of further volumes. Raises InputError, ConfigError."""
        first = volumes[0]
        for volume in volumes:
            _check_upright(volume)
        grid = self._thin_grid(first)
        stacks = stacks_of(volumes, self)
        intensities = intensities_of(first)
        for volume, stack in zip(volumes, stacks, strict=True):
            intensities.check_noise(stack.noise_std, str(volume.source or "volume"))
        ratio = math.prod(grid.shape) / sum(stack.data.size for stack in stacks)
        notes = [note for volume in volumes for note in volume.notes]
        notes += [note for stack in stacks for note in stack.notes]
        if ratio > INVENTED:
            notes.append(
                f"{ratio:.3g} voxels were made of every measured one: what is finer than the slices comes from "
                "the prior (--samples says how sure it is)"
            )
        notes += _stretched(grid)
        record = {
            "spacing_mm": list(grid.spacing_mm), "voxels_a_measured_one": round(ratio, 3),
            "stacks": [stack.record for stack in stacks], "planes": list(PLANES[1 if len(stacks) == 1 else 3]),
            "scaling": dataclasses.asdict(intensities.scaling), "noise_known": self.noise_level is not None,
        }  # fmt: skip
        return PreparedSuperres(
            result=_result(first, grid), level=stacks[0].noise_std / intensities.scaling.scale, record=record,
            notes=tuple(dict.fromkeys(notes)), grid=grid, stacks=stacks, intensities=intensities,
        )  # fmt: skip

    def _thin_grid(self, volume: Volume) -> Grid:
        """The first volume's field of view in thin slices. Raises ConfigError."""
        across, along, distance = volume.spacing_mm
        spacing = self.spacing if self.spacing is not None else max(across, along) / self.in_plane
        if spacing > distance * (1 + 1e-6):
            raise ConfigError(
                f"--spacing {spacing:.6g}: coarser than the slices of {volume.source or 'the volume'}, which lie "
                f"{distance:.6g} mm apart; give a smaller one"
            )
        if spacing > distance * (1 - 1e-6) and self.in_plane == 1:
            raise ConfigError(
                f"--spacing {spacing:.6g}: the slices of {volume.source or 'the volume'} lie so far apart already; "
                "give a smaller one, or --in-plane"
            )
        if spacing * MOST_OF_ONE < distance:
            raise ConfigError(
                f"--spacing {spacing:.6g}: {distance / spacing:.3g} slices of one of {volume.source or 'the volume'}, "
                f"which lie {distance:.6g} mm apart; at most {MOST_OF_ONE} are made (is it in mm?)"
            )
        nz, ny, nx = volume.data.shape
        return Grid(volume.affine, (nz, ny, nx)).refined(spacing, self.in_plane)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PreparedSuperres(Prepared):
    """grid: of the result. stacks: what was measured, in its place."""

    first_look: ClassVar[str] = "bicubic"
    direct_explains: ClassVar[bool] = False
    suspects: ClassVar[str] = (
        "another slice thickness or profile (--thickness, --profile), views that do not lie on each other, or a noise "
        "level that is too small"
    )

    grid: Grid
    stacks: tuple[StackOfSlices, ...]
    intensities: Intensities

    def blocks(self) -> list[Block]:
        """Slabs that see `MARGIN_SLICES` thick slices beyond their own."""
        thickest = max(stack.grid.spacing_mm[0] for stack in self.stacks)
        margin = max(MARGIN, math.ceil(MARGIN_SLICES * thickest / self.grid.spacing_mm[0]))
        return blocks_of(self.grid.shape, VOXELS, margin)

    def problem(self, block: Block, device: torch.device) -> Problem:
        """The slices as far as the block holds them."""
        part, _ = self._seen(block)
        operators: list[LinearOperator] = []
        measured, levels = [], []
        for stack in self.stacks:
            seen = stack.within(part)
            if seen is None:
                continue
            operators.append(thick_slices(part, seen.grid, seen.profile, self.kind).to(device))
            measured.append(torch.from_numpy(self.intensities.shifted(seen.data)).to(device))
            levels.append(seen.noise_std)
        planes = tuple(self.record["planes"])
        if len(operators) == 1:
            noise = Gaussian(levels[0])
            return Problem(
                measured[0], operators[0], noise, self.intensities.scaling, (block.name,), planes
            )
        operator = Stack(tuple(operators))
        y = torch.cat([m.flatten() for m in measured]).reshape(operator.out_shape)
        each = [
            torch.full_like(m.flatten(), level) for m, level in zip(measured, levels, strict=True)
        ]
        noise = Gaussian(torch.cat(each).reshape(operator.out_shape))
        return Problem(y, operator, noise, self.intensities.scaling, (block.name,), planes)

    def in_source_units(self, samples: Tensor, block: Block) -> NDArray[np.float32]:
        """Without the slices beyond the field of view that profiles reach into."""
        _, before = self._seen(block)
        own = samples[:, before : before + len(block.seen)].cpu().numpy().astype(np.float32)
        return self.intensities.source(own)

    @property
    def kind(self) -> str:
        """Of the operators."""
        return "ct" if self.result.modality == "CT" else "mri"

    @property
    def difficulty(self) -> dict[str, float | str]:
        """How many voxels are made of one, and of how many views."""
        return {
            "voxels_a_measured_one": self.record["voxels_a_measured_one"],
            "views": len(self.stacks),
        }

    def _seen(self, block: Block) -> tuple[Grid, int]:
        """The grid of a block, and how many of its slices lie before the first that the block sees.

        At the ends of the volume it is as much longer as the profiles of the outer slices reach beyond.
        """
        reach = max(stack.profile.reach_mm for stack in self.stacks[:1])
        beyond = reach - self.stacks[0].grid.spacing_mm[0] / 2
        more = max(0, math.ceil(beyond / self.grid.spacing_mm[0] - 1e-6))
        before = more if block.seen.start == 0 else 0
        after = more if block.seen.stop == self.grid.shape[0] else 0
        return self.grid.part(block.seen.start - before, block.seen.stop + after), before


def _result(volume: Volume, grid: Grid) -> Volume:
    """An empty volume on the thin grid, with the header of the first one."""
    result = dataclasses.replace(
        empty_like(volume, grid.shape), affine=grid.affine, notes=(), padding=None
    )
    if isinstance(volume.header, DicomSeries):
        header = resliced(volume.header, grid.affine, grid.shape, grid.spacing_mm[0])
        result = dataclasses.replace(result, header=header)
    return result


def _stretched(grid: Grid) -> list[str]:
    """A note where planes that hold z have pixels that are far from squares."""
    z, y, x = grid.spacing_mm
    ratio = max(z, y, x) / min(z, y, x)
    if ratio <= STRETCHED:
        return []
    return [
        f"the prior is shown planes with pixels of {z:.3g} x {min(y, x):.3g} mm: pictures that it learnt from are not "
        f"stretched by {ratio:.2g}; a --spacing nearer to the pixels' {min(y, x):.3g} mm suits it better"
    ]


def _check_upright(volume: Volume) -> None:
    """Refuse slices that are not stacked along their normal, and a single one (InputError)."""
    if volume.n_slices < LEAST_SLICES:
        raise InputError(
            volume.source or "volume", "one slice holds nothing of what lies beside it",
            "give a stack of slices, or `restore image` for a picture",
        )  # fmt: skip
    directions = volume.affine[:3, :3] / np.array(volume.spacing_mm)
    skew = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if skew > UPRIGHT:
        tilt = math.degrees(math.asin(min(1.0, skew)))
        raise InputError(
            volume.source or "volume",
            f"its slices are not stacked along their normal: axes are {tilt:.3g} degrees off a right angle",
            "resample it to upright voxels first",
        )  # fmt: skip
