"""Filtered backprojection of helices: rays of the cone rebinned to one fan a slice, which is then reconstructed.

Called by the operator `x_ray_transform` as its pseudo-inverse of helices, by their scans for what they can tell of it.
Pure functions. Single-slice rebinning: Noo, Defrise, Clackdoyle, "Single-slice rebinning method for helical cone-beam
CT", Phys. Med. Biol. 44, 1999. A ray of the slice's fan is replaced by the measured one above or below it that crosses
the slice where the fan's ray passes the axis, shortened by the cosine of its slope. What does not change along z comes
out exactly; what does is smeared over the height that such rays have at the object's edge, so that the error grows with
the pitch and with the distance from the axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam
from restore.operators.ct.feldkamp import fdk, resampled
from restore.operators.ct.grid import VoxelGrid

Floats = NDArray[np.float64]


class _Columns(NamedTuple):
    """Per column: the length of a ray in the plane up to the panel, and up to where it passes the axis."""

    plane_mm: Floats
    reach_mm: Floats


def is_rebinnable(beam: Beam) -> bool:
    """Whether it is a helix whose panel sees every slice over an arc that shows all of its lines."""
    return isinstance(beam, ConeBeam) and 0 < abs(beam.pitch_mm) <= largest_pitch_mm(beam)


def largest_pitch_mm(beam: ConeBeam) -> float:
    """The pitch, in mm a turn, up to which the panel holds what a slice needs: half a turn and the fan's angle.

    Of an even helix; zero where an offset keeps the panel from seeing the plane of the source.
    """
    straight = _straight(beam)
    columns = _columns(straight)
    return _farthest_mm(straight, columns) * 4 * math.pi / _arc(straight, columns)


def incomplete_slices(beam: ConeBeam, grid: VoxelGrid) -> list[int]:
    """Slices near the ends of a helix whose lines the views do not all show."""
    straight = _straight(beam)
    enough = (
        _arc(straight, _columns(straight)) / _step(beam) - 2.5
    )  # less the views of `_arc`'s margin
    seen = _views_of_slices(straight, _columns(straight), grid)
    return [k for k, near in enumerate(seen) if len(near) < enough]


def helical_fbp(y: Tensor, beam: ConeBeam, grid: VoxelGrid, filter: str = "ramp") -> Tensor:
    """Reconstruct volumes from the line integrals of a helix, slice by slice.

    y: real (n, views, rows, columns), without unit. filter: as `fdk`. Returns (n, slices, rows, columns) in 1/mm.
    Of the slices in `incomplete_slices` lines are missing and count as zero, as with a limited arc.
    Raises ConfigError for a pitch above `largest_pitch_mm` and an unknown filter.
    """
    if not is_rebinnable(beam):
        raise ConfigError(too_steep(beam))
    straight = _straight(beam)
    if straight != beam:
        y = resampled(y, beam.reduced(), straight.reduced())
    columns = _columns(straight)
    angles = np.asarray(beam.angles)
    (_, *size), (_, *pitch), (_, *centre) = grid.shape3, grid.pitch3_mm, grid.centre3_mm
    plane = VoxelGrid(size, pitch, centre)
    out = y.new_zeros(len(y), *grid.shape3)
    for k, near in enumerate(_views_of_slices(straight, columns, grid)):
        if len(near):
            sinogram = _rebinned(y, straight, columns, near, _heights(grid)[k])
            out[:, k] = fdk(sinogram, _fan(straight, angles[near]), plane, filter)[:, 0]
    return out


def too_steep(beam: ConeBeam) -> str:
    """Why a helix has no filtered backprojection."""
    return (
        f"a pitch of {abs(beam.pitch_mm):.5g} mm a turn is too large for rebinning: {beam.detector[0]} detector rows "
        f"hold the rays of a slice up to {largest_pitch_mm(beam):.4g} mm; use an iterative sampler: sirt, cgls, tv"
    )


def remarks(beam: Beam, grid: VoxelGrid) -> list[str]:
    """Sentences on what filtered backprojection cannot do of a helix; none of other scans."""
    if not isinstance(beam, ConeBeam) or not beam.pitch_mm:
        return []
    if not is_rebinnable(beam):
        return [f"fdk and fbp are not there: {too_steep(beam)}"]
    few = incomplete_slices(beam, grid)
    ends = f"{len(few)} of {grid.shape3[0]} slices, from {few[0]} to {few[-1]}," if few else ""
    return [
        f"{ends} lie near the ends of the helix, where less than half a turn of views shows them: fdk and fbp leave "
        "streaks in them"
    ] if few else []  # fmt: skip


def _rebinned(
    y: Tensor, beam: ConeBeam, columns: _Columns, near: NDArray[np.intp], z_mm: float
) -> Tensor:
    """The fan of one slice, (n, views, 1, columns): linear between detector rows."""
    views = beam.reduced()
    source, panel = views.source[near, 2], views.centre[near, 2]
    slope = columns.plane_mm / columns.reach_mm
    rise = (z_mm - source)[:, None] * slope  # of the ray, up to the panel
    middle = (beam.detector[0] - 1) / 2
    row = middle + (rise - (panel - source)[:, None]) / beam.det_spacing_mm[0]
    row = np.clip(row, 0, beam.detector[0] - 1)
    first = np.minimum(np.floor(row).astype(np.int64), max(beam.detector[0] - 2, 0))
    share = torch.from_numpy(row - first).to(y)[None, :, None]
    level = torch.from_numpy(columns.plane_mm / np.hypot(columns.plane_mm, rise)).to(y)
    chosen = y[:, torch.from_numpy(near).to(y.device)]
    at = torch.from_numpy(first).to(y.device)[None, :, None].expand(len(y), -1, 1, -1)
    below = chosen.gather(2, at)
    above = chosen.gather(2, (at + 1).clamp(max=beam.detector[0] - 1))
    return (below + share * (above - below)) * level[None, :, None]


def _views_of_slices(beam: ConeBeam, columns: _Columns, grid: VoxelGrid) -> list[NDArray[np.intp]]:
    """Numbers of the views that each slice takes: the arc about its own height, moved inwards at the helix's ends.

    Of those the ones whose panel holds the slice's rays at every column.
    """
    angles, half = np.asarray(beam.angles), _arc(beam, columns) / 2
    first, last = angles.min() + half, angles.max() + _step(beam) - half
    inwards = (first, last) if first < last else ((first + last) / 2,) * 2
    farthest = _farthest_mm(beam, columns) * (1 + 1e-9)  # a pitch that just fits
    source = beam.reduced().source[:, 2]
    found = []
    for middle, z_mm in zip(_angles_of_slices(beam, grid), _heights(grid), strict=True):
        start = np.clip(middle, *inwards) - half
        taken = (angles >= start) & (angles < start + 2 * half)
        found.append(np.flatnonzero(taken & (np.abs(source - z_mm) <= farthest)))
    return found


def _farthest_mm(beam: ConeBeam, columns: _Columns) -> float:
    """How far above or below the source a slice may lie for the panel to hold all of its rays; zero where none may."""
    sunk = abs(beam.det_offset_mm[0] - beam.source_offset_mm[0])
    high = beam.detector[0] / 2 * beam.det_spacing_mm[0] - sunk
    return max(0.0, high / float((columns.plane_mm / columns.reach_mm).max()))


def _columns(beam: ConeBeam) -> _Columns:
    """Of the first view; all are alike."""
    views = beam.reduced()
    _, along = views.basis()
    _, place = views.column_tables()
    way = (along[0] + place[:, None] * views.u[0])[:, :2]
    length = np.hypot(*way.T)
    return _Columns(length, -(way / length[:, None]) @ views.source[0, :2])


def _arc(beam: ConeBeam, columns: _Columns) -> float:
    """Radians of views that a slice takes: half a turn and twice the widest angle of a ray, a turn at most."""
    radius = math.hypot(beam.source_object_mm, beam.source_offset_mm[1])
    widest = float(np.arccos(np.clip(columns.reach_mm / radius, -1, 1)).max())
    return min(math.pi + 2 * widest + 2 * _step(beam), 2 * math.pi)


def _step(beam: ConeBeam) -> float:
    """Radians between neighbouring views."""
    gaps = np.diff(np.unique(np.asarray(beam.angles)))
    return float(np.median(gaps)) if len(gaps) else 2 * math.pi


def _angles_of_slices(beam: ConeBeam, grid: VoxelGrid) -> Floats:
    """At which angle the source stands at the height of each slice."""
    angles = np.asarray(beam.angles)
    turns = (_heights(grid) - beam.source_offset_mm[0]) / beam.pitch_mm
    return (angles.min() + angles.max()) / 2 + 2 * math.pi * turns


def _heights(grid: VoxelGrid) -> Floats:
    """z of the slices in mm."""
    count = grid.shape3[0]
    place = np.arange(count, dtype=np.float64) - (count - 1) / 2
    return np.asarray(place * grid.pitch3_mm[0] + grid.centre3_mm[0], dtype=np.float64)


def _straight(beam: ConeBeam) -> ConeBeam:
    """With a panel that is not turned."""
    return dataclasses.replace(beam, tilt_deg=0.0, slant_deg=0.0, skew_deg=0.0)


def _fan(beam: ConeBeam, angles: Floats) -> FanBeam:
    """The cone's own rays in the plane of a slice."""
    return FanBeam(
        tuple(np.mod(angles, 2 * math.pi).tolist()),
        beam.detector[1],
        beam.det_spacing_mm[1],
        beam.source_object_mm,
        beam.source_detector_mm,
        beam.det_offset_mm[1],
        beam.source_offset_mm[1],
    )
