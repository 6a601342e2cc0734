"""A scan of a volume out of frames and rays: its voxels, its noise, what it says where a file is silent.

Called by the readers of scanners' files, which tell where rays run and not what is to be reconstructed.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.ct.attenuation import assumed_water
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.checks.plausibility import not_line_integrals
from restore.datasets.ct.detector.noise_estimation import completed_by_air
from restore.datasets.ct.files.asked_grid import grid_for
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import Beam
from restore.operators.ct.geometry import MU_WATER_PER_MM
from restore.operators.ct.grid import VoxelGrid

_LOOKED_AT = 16
"""Views that tell counts from line integrals."""


def volume_scan(
    path: Path,
    projections: LazyStack,
    beam: Beam,
    kind: str,
    notes: list[str],
    *,
    grid: str = "",
    stored_grid: VoxelGrid | None = None,
    mu_water: float | None = None,
    photons: float | None = None,
    noise_std: float | None = None,
    files: tuple[Path, ...] = (),
) -> BeamScan:
    """The scan of projections (views, rows, columns), of a fan (slices, views, columns).

    grid: "SHAPE@MM" as asked for; stored_grid: of the file; else the volume is what the views see, with a note.
    Raises InputError for rays that do not see it, ConfigError for a grid.
    """
    check_budget(4 * math.prod(projections.shape), path)
    if grid or stored_grid is None:
        stored_grid = grid_for(path, grid, beam, notes)
    check_budget(4 * math.prod(stored_grid.shape), path)
    if mu_water is None:
        mu_water = MU_WATER_PER_MM
        notes.append(assumed_water(mu_water))
    middle = len(projections) // 2
    photons, noise_std = completed_by_air(photons, noise_std, lambda: projections[middle], notes)
    slices = projections.shape[0] if beam.in_plane else stored_grid.shape[0]
    scan = BeamScan(
        path=path, projections=projections, geometry=beam, grid=stored_grid, mu_water=mu_water, photons=photons,
        noise_std=noise_std, slice_indices=tuple(range(slices)), affine=affine_of_grid(stored_grid),
        source={"kind": kind, "modality": "CT", "units": "HU"}, notes=notes, files=files,
    )  # fmt: skip
    try:
        scan.check()
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}", "see docs/scan-files.md") from error
    return scan


def refuse_counts(path: Path, lines: LazyStack, notes: list[str]) -> None:
    """Refuse what is said to be line integrals (views, rows, columns) and looks like counts; doubts are noted.

    Raises InputError.
    """
    some = np.unique(np.linspace(0, len(lines) - 1, _LOOKED_AT).astype(int))
    middle = np.array([lines[int(k)][lines.shape[1] // 2] for k in some], np.float64)
    found = not_line_integrals(middle)
    if found is None:
        return
    if found.cause in ("intensities", "sign"):
        raise InputError(path, found.sentence)
    notes.append(found.sentence)


def affine_of_grid(grid: VoxelGrid) -> NDArray[np.float64]:
    """Voxel (column, row, slice) to the scanner's (x, y, z): the orientation of the patient is not known."""
    (nz, ny, nx), (dz, dy, dx), (z, y, x) = grid.shape3, grid.pitch3_mm, grid.centre3_mm
    affine = np.diag([dx, -dy, dz, 1.0])
    affine[:3, 3] = x - (nx - 1) / 2 * dx, y + (ny - 1) / 2 * dy, z - (nz - 1) / 2 * dz
    return affine
