"""Simulate a CT acquisition of a volume in HU by a fan, a cone or a helix.

May be called by the command line and tests; writes nothing. A scan is computed when it is read: of a fan slice by
slice, of a cone view by view, each with a generator of its own for the counts. Against an inverse crime the object is
resampled linearly to voxels of half the size along every axis, and the detector to bins of half the size; a measured
bin averages its parts in intensity, as in the parallel simulation (`ct`), which also says what a count is.
What lies beyond the first and last slice is air.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from restore.datasets.budget import check_result_size
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.simulate.ct import (
    BORDER,
    FINER,
    attenuation,
    check_settings,
    counted,
    remarks,
)
from restore.datasets.simulate.source import chosen_slices, volume_affine
from restore.datasets.stack import LazyStack
from restore.datasets.volume.identity import geometry_record
from restore.datasets.volume.padding import padding_of
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam
from restore.operators.ct.geometry import MU_WATER_PER_MM, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform

_COPIES = 3  # of the fine volume in single precision: itself, in double precision while it is made, padded

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """The scan to simulate; lengths in mm, angles in degrees.

    kind: "fan", "cone" or "helical". detector: ROWSxCOLUMNS@PITCH in words, of a fan COLUMNS@PITCH. pitch: how far a
    helix moves along z in a turn. photons: counts of a ray through air.
    """

    kind: str
    detector: str
    views: int = 60
    arc: float = 360.0
    source_detector: float = 1000.0
    source_object: float = 500.0
    pitch: float = 0.0
    photons: float = 1e5

    def beam(self) -> FanBeam | ConeBeam:
        """The rays. Raises ConfigError."""
        check_settings(self.arc, self.photons)
        size, bin_mm = self._detector()
        angles = equispaced(self.views, self.arc)
        if (self.kind == "helical") != bool(self.pitch):
            raise ConfigError(
                f"a scan of the kind {self.kind} with a pitch of {self.pitch:g} mm a turn: a helix needs one other "
                "than 0, the others have none"
            )
        if self.kind == "fan":
            return FanBeam(angles, size[0], bin_mm, self.source_object, self.source_detector)
        return ConeBeam(
            angles, (size[0], size[1]), (bin_mm, bin_mm), self.source_object, self.source_detector,
            pitch_mm=self.pitch,
        )  # fmt: skip

    def _detector(self) -> tuple[list[int], float]:
        words, at, pitch = self.detector.partition("@")
        parts = words.split("x")
        wanted = 1 if self.kind == "fan" else 2
        try:
            if not at or len(parts) != wanted:
                raise ValueError
            return [int(part) for part in parts], float(pitch)
        except ValueError:
            example = "512@1.0 (columns, mm)" if wanted == 1 else "256x256@1.0 (rows, columns, mm)"
            raise ConfigError(
                f"the detector of a {self.kind} scan is {self.detector!r}, expected such as {example}"
            ) from None


def simulate_beams(
    volume: Volume,
    scan: BeamSettings,
    *,
    slices: slice | None = None,
    seed: int = 7,
    mu_water: float = MU_WATER_PER_MM,
) -> BeamScan:
    """A simulated scan of the chosen slices (all by default), the axis of rotation through their middle.

    The reference is the source, in HU; values below -1000 HU and padding count as air. Raises ConfigError for settings
    that make no scan or one that does not see the volume, InputError for values that are not finite.
    """
    beam = scan.beam()
    indices = chosen_slices(volume, slices, seed)
    affine = volume_affine(volume, indices)
    across, down, along = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    height, width = volume.data.shape[1:]
    if beam.in_plane:
        grid, parts = VoxelGrid((height, width), (down, across)), len(indices)
    else:
        grid, parts = VoxelGrid((len(indices), height, width), (along, down, across)), scan.views
    fine = _finer_grid(grid)
    check_result_size(4 * _COPIES * math.prod(fine.shape), "the finer volume of the simulation")

    padding = padding_of(volume)

    def slice_of(position: int) -> Array:
        return attenuation(volume, padding, indices[position], mu_water)

    if isinstance(beam, FanBeam):
        transmitted = _slices(beam, fine, slice_of)
    else:
        transmitted = _views(beam, len(indices), fine, slice_of)

    def acquire(position: int) -> NDArray[Any]:
        stream = indices[position] if beam.in_plane else position
        return counted(transmitted(position), scan.photons, [seed, stream])

    made = BeamScan(
        path=Path("simulated"),
        projections=LazyStack((parts, *beam.shape[0 if beam.in_plane else 1 :]), acquire),
        geometry=beam,
        grid=grid,
        mu_water=mu_water,
        slice_indices=tuple(indices),
        photons=float(scan.photons),
        noise_std=float(scan.photons) ** -0.5,
        affine=affine,
        reference=LazyStack(
            (len(indices), height, width), lambda i: volume.data[indices[i]].astype(np.float32)
        ),
        source=geometry_record(volume),
        settings={**dataclasses.asdict(scan), "seed": seed},
        notes=[*volume.notes, *remarks(volume)],
    )
    made.check()
    return made


def _finer_grid(grid: VoxelGrid) -> VoxelGrid:
    """Voxels divided by `FINER` along every axis, and `BORDER` more around."""
    return VoxelGrid(
        [FINER * (n + 2 * BORDER) for n in grid.shape], [p / FINER for p in grid.voxel_mm], grid.centre_mm
    )  # fmt: skip


def _finer_object(mu: Array) -> torch.Tensor:
    """Attenuation of the finer voxels, which fades to the air around as the projector's interpolation does."""
    fine = zoom(np.pad(mu, BORDER), FINER, order=1, mode="nearest", grid_mode=True)
    return torch.from_numpy(fine.astype(np.float32))


def _slices(
    beam: FanBeam, fine: VoxelGrid, slice_of: Callable[[int], Array]
) -> Callable[[int], Array]:
    """Number of a slice -> transmitted fraction (views, columns) of its bins."""
    narrow = dataclasses.replace(
        beam, n_det=FINER * beam.n_det, det_spacing_mm=beam.det_spacing_mm / FINER
    )
    operator = XRayTransform(narrow, fine)

    def transmitted(position: int) -> Array:
        lines = operator(_finer_object(slice_of(position))).double().numpy()
        return np.exp(-lines).reshape(*beam.shape, FINER).mean(-1)

    return transmitted


def _views(
    beam: Beam, count: int, fine: VoxelGrid, slice_of: Callable[[int], Array]
) -> Callable[[int], Array]:
    """Number of a view -> transmitted fraction (rows, columns) of its bins."""
    views = beam.reduced().finer(FINER, FINER)
    vectors = views.vectors.tolist()

    @functools.cache
    def whole() -> torch.Tensor:
        return _finer_object(np.stack([slice_of(k) for k in range(count)]))

    def transmitted(position: int) -> Array:
        one = FreeBeam((tuple(vectors[position]),), (views.rows, views.columns))
        lines = XRayTransform(one, fine)(whole())[0].double().numpy()
        split = np.exp(-lines).reshape(views.rows // FINER, FINER, views.columns // FINER, FINER)
        return split.mean((1, 3))

    return transmitted
