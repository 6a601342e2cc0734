"""Stacks of thick slices of one thin volume: what their affines say, as operators.

Called by pipelines that make thick slices thin. Geometry in RAS millimetres; touches nothing but its arguments.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Diagonal
from restore.operators.volume.axis_sampling import AxisSampling
from restore.operators.volume.placement import Placement
from restore.operators.volume.slice_profile import COVERED, SliceProfile, sampling_matrix

Array = NDArray[np.float64]

PARALLEL_VOXELS = 0.01
"""How far a voxel may lie from where axes parallel to the grid's would put it, in voxels of the grid, at any corner:
what directions that are rounded to five digits make of 500 voxels. Beyond, the stack is resampled."""

_SAME = 1e-4  # of a voxel: sizes and places that differ by less are the same, and nothing is sampled along an axis
_WHOLE = 1e-6  # of a cell, when extents are counted


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A grid of voxels in the patient. affine: 4 x 4, index (x, y, z) to RAS mm. shape: (z, y, x)."""

    affine: Array
    shape: tuple[int, int, int]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along z, y and x."""
        dx, dy, dz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(dz), float(dy), float(dx)

    def refined(self, spacing_mm: float, in_plane: float = 1.0) -> Grid:
        """The field of view in thin cells: `spacing_mm` along z, pixels smaller by the factor `in_plane`.

        The field of view reaches half a slice distance beyond the outer slices' centres. Where the new distance does
        not divide it, the grid is longer by less than a cell, half of it at either end.
        """
        pitch = self.spacing_mm
        finer = (spacing_mm, pitch[1] / in_plane, pitch[2] / in_plane)
        lengths = [n * p for n, p in zip(self.shape, pitch, strict=True)]
        counts = [
            max(1, math.ceil(length / f - _WHOLE)) for length, f in zip(lengths, finer, strict=True)
        ]
        # Index of the first new centre in the old grid, and new steps in old voxels.
        steps = np.array([f / p for f, p in zip(finer, pitch, strict=True)])
        first = (np.array(self.shape) - 1) / 2 - (np.array(counts) - 1) / 2 * steps
        affine = self.affine.copy()
        affine[:3, 3] = (self.affine @ [*first[::-1], 1.0])[:3]
        affine[:3, :3] = self.affine[:3, :3] * steps[::-1]
        return Grid(affine, (counts[0], counts[1], counts[2]))

    def part(self, first: int, stop: int) -> Grid:
        """Slices first to stop - 1; beyond the ends it goes on."""
        affine = self.affine.copy()
        affine[:3, 3] += first * affine[:3, 2]
        return Grid(affine, (stop - first, *self.shape[1:]))

    def to_index_of(self, other: Grid) -> Array:
        """Three rows of four: from (z, y, x, 1) here to (z, y, x) there."""
        across = np.linalg.inv(other.affine) @ self.affine
        turned = across[:3][::-1]
        return np.column_stack([turned[:, 2::-1], turned[:, 3]])


def thick_slices(
    grid: Grid, stack: Grid, profile: SliceProfile, kind: str = "mri"
) -> LinearOperator:
    """What a stack of slices sees of a volume on a thin grid: `profile` along its normal, the mean over its pixels.

    Axes that are parallel to the grid's, exchanged or turned round, give an `AxisSampling` with its exact data step;
    others are resampled along the stack's axes first, trilinearly at the grid's finest pitch. Voxels of which the grid
    holds less than `COVERED` count as not measured. Raises ConfigError where the stack sees nothing of the grid.
    """
    order = _parallel(stack.to_index_of(grid), stack.shape)
    if order is not None:
        return _along_grid(grid, stack, _profiles(stack, profile), order, kind)
    return _oblique(grid, stack, _profiles(stack, profile), kind)


def _profiles(stack: Grid, profile: SliceProfile) -> tuple[SliceProfile, ...]:
    """Along the axes of a stack: that of its slices, and its pixels."""
    return profile, *(SliceProfile("rect", pitch) for pitch in stack.spacing_mm[1:])


def _parallel(to_grid: Array, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axis of the grid that each axis of a stack is parallel to; None where one is to none."""
    linear = to_grid[:, :3]
    order = tuple(int(axis) for axis in np.abs(linear).argmax(0))
    if sorted(order) != [0, 1, 2]:
        return None
    aside = linear.copy()
    aside[list(order), range(3)] = 0
    off = np.abs(aside) @ ((np.array(shape) - 1) / 2)
    return order if off.max() <= PARALLEL_VOXELS else None


def _along_grid(
    grid: Grid, stack: Grid, profiles: tuple[SliceProfile, ...], order: tuple[int, ...], kind: str
) -> AxisSampling:
    """The places along each axis are those of the stack's middle line."""
    to_grid = stack.to_index_of(grid)
    middle = (np.array(stack.shape) - 1) / 2
    matrices: list[torch.Tensor | None] = [None, None, None]
    for a, g in enumerate(order):
        step = to_grid[g, a]
        places = to_grid[g] @ [*middle, 1.0] + step * (np.arange(stack.shape[a]) - middle[a])
        matrices[g] = _matrix(places, profiles[a], grid.shape[g], grid.spacing_mm[g])
    z, y, x = matrices
    i, j, k = order
    return AxisSampling(grid.shape, (z, y, x), (i, j, k), kind)


def _oblique(
    grid: Grid, stack: Grid, profiles: tuple[SliceProfile, ...], kind: str
) -> LinearOperator:
    """Resampled on a grid along the stack's axes, as fine as the thin one, then sampled along them."""
    finest = min(grid.spacing_mm)
    parts, beyond = [], []
    for pitch, profile in zip(stack.spacing_mm, profiles, strict=True):
        part = max(1, math.ceil(pitch / finest - _WHOLE))
        parts.append(part)
        more = (profile.reach_mm - pitch / 2) / (pitch / part)
        beyond.append(max(0, math.ceil(more - _WHOLE)))
    counts = [n * part + 2 * more for n, part, more in zip(stack.shape, parts, beyond, strict=True)]
    first = [-0.5 + (0.5 - more) / part for part, more in zip(parts, beyond, strict=True)]
    affine = stack.affine.copy()
    affine[:3, 3] = (stack.affine @ [*first[::-1], 1.0])[:3]
    affine[:3, :3] = stack.affine[:3, :3] / parts[::-1]
    fine = Grid(affine, (counts[0], counts[1], counts[2]))
    z, y, x = (
        _matrix((np.arange(n) + 0.5) * part - 0.5 + more, profile, count, pitch)
        for n, part, more, profile, count, pitch in zip(
            stack.shape, parts, beyond, profiles, fine.shape, fine.spacing_mm, strict=True
        )
    )
    rows = tuple(tuple(map(float, row)) for row in fine.to_index_of(grid))
    seen = AxisSampling(fine.shape, (z, y, x), kind=kind) @ Placement(
        grid.shape, fine.shape, rows, kind
    )
    share = seen(torch.ones(grid.shape))  # of every slice's profile and pixel that lies on the grid
    covered = share >= COVERED
    if not bool(covered.any()):
        raise ConfigError(
            "thick_slices: the stack sees nothing of the grid: they do not lie in the same place"
        )
    return Diagonal(covered / share.clamp(min=COVERED), stack.shape) @ seen


def _matrix(
    places: Array, profile: SliceProfile, cells: int, pitch_mm: float
) -> torch.Tensor | None:
    """Of samples at `places`, in cells; None where every cell is a sample, in its place."""
    whole = profile.shape == "rect" and abs(profile.width_mm - pitch_mm) <= _SAME * pitch_mm
    if whole and len(places) == cells and np.abs(places - np.arange(cells)).max() <= _SAME:
        return None
    return torch.from_numpy(sampling_matrix(places * pitch_mm, profile, cells, pitch_mm)).float()
