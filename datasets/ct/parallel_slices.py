"""A parallel scan of slices out of a file that measures rows of a detector: geometry, image and place of each.

Called by the readers of such files (`dxchange`, `projection_stack`); touches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.attenuation import assumed_water
from restore.datasets.ct.detector.noise_estimation import completed_by_air
from restore.datasets.ct.files.asked_grid import grid_of_words
from restore.datasets.ct.scan import CTScan
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.geometry import MU_WATER_PER_MM, ParallelBeam


def parallel_scan(
    path: Path,
    sinogram: LazyStack,
    angles_rad: Sequence[float] | NDArray[np.float64],
    pixel_mm: tuple[float, float],
    kind: str,
    notes: list[str],
    *,
    offset_mm: float = 0.0,
    grid: str = "",
    mu_water: float | None = None,
    photons: float | None = None,
    noise_std: float | None = None,
    files: tuple[Path, ...] = (),
) -> CTScan:
    """The scan of a detector whose row k measures slice k.

    sinogram: line integrals (slices, views, detectors). pixel_mm: (row pitch, column pitch) of the detector, at the
    object. offset_mm: of the detector's middle from the axis of rotation. grid: "SHAPE@MM", "" for as many pixels as
    bins. Row 0 of the detector is taken as the highest. Raises ConfigError for a grid, InputError for a geometry.
    """
    slices, _, bins = sinogram.shape
    dz, du = pixel_mm
    shape, pitch = (bins, bins), du
    if grid:
        asked = grid_of_words(path, grid, 2)
        shape, pitch = (asked.shape[0], asked.shape[1]), asked.voxel_mm[0]
    try:
        geometry = ParallelBeam(angles_rad, bins, du, shape, pitch, offset_mm)
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}") from error
    if mu_water is None:
        mu_water = MU_WATER_PER_MM
        notes.append(assumed_water(mu_water))
    photons, noise_std = completed_by_air(photons, noise_std, lambda: sinogram[slices // 2], notes)
    affine = np.diag([pitch, -pitch, -dz, 1.0])
    affine[:3, 3] = -(shape[1] - 1) / 2 * pitch, (shape[0] - 1) / 2 * pitch, (slices - 1) / 2 * dz
    return CTScan(
        path=path, sinogram=sinogram, geometry=geometry, mu_water=mu_water, photons=photons, noise_std=noise_std,
        slice_indices=tuple(range(slices)), affine=affine,
        source={"kind": kind, "modality": "CT", "units": "HU"}, notes=notes, files=files,
    )  # fmt: skip
