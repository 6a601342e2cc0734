"""The voxels that a person asks for in words, for files of scanners, which say where rays run and not what to make.

Called by the readers of such files; text in, numbers out.
"""

from __future__ import annotations

import re
from pathlib import Path

from restore.errors import ConfigError
from restore.operators.ct.beams import Beam
from restore.operators.ct.field_of_view import seen_grid
from restore.operators.ct.grid import VoxelGrid

_FORM = re.compile(r"(\d+(?:x\d+)+)@([0-9.eE+-]+)")


def grid_of_words(path: Path, text: str, ndim: int) -> VoxelGrid:
    """The grid of "64x256x256@0.5": voxels along (slices,) rows and columns, and their pitch in mm, round the axis.

    ndim: 2 of a slice, 3 of a volume. Raises ConfigError.
    """
    found = _FORM.fullmatch(text.strip())
    shape = tuple(map(int, found[1].split("x"))) if found else ()
    try:
        pitch = float(found[2]) if found else 0.0
    except ValueError:
        pitch = 0.0
    if len(shape) != ndim or pitch <= 0:
        slices = ("", "") if ndim == 2 else ("64x", "slices, ")
        example = f"{slices[0]}256x256@0.5 ({slices[1]}rows, columns, mm)"
        raise ConfigError(f"{path}: --grid {text}, expected a form such as {example}")
    return VoxelGrid(shape, pitch)


def grid_for(path: Path, text: str, beam: Beam, notes: list[str]) -> VoxelGrid:
    """The voxels that are asked for, else those that the views see, which a note tells. Raises ConfigError."""
    seen = seen_grid(beam.reduced())
    if beam.in_plane:
        seen = VoxelGrid(seen.shape[1:], seen.voxel_mm[1:])
    if text:
        asked = grid_of_words(path, text, len(seen.shape))
        return VoxelGrid(asked.shape, asked.voxel_mm, seen.centre_mm)
    size, pitch = "x".join(map(str, seen.shape)), " x ".join(f"{p:.4g}" for p in seen.voxel_mm)
    notes.append(
        f"the volume is what the views see: {size} voxels of {pitch} mm (--grid for others)"
    )
    return seen
