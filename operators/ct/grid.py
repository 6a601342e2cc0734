"""Where the voxels of an image or a volume lie: the volume half of a geometry, apart from that of the rays.

A value object, needed by readers as much as by the projectors, hence free of torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from restore.errors import ConfigError
from restore.operators.ct.values import count, floats, positive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OWNER = "VoxelGrid"


@dataclasses.dataclass(frozen=True, init=False)
class VoxelGrid:
    """An image (rows, columns) or a volume (slices, rows, columns) in mm.

    shape: two or three counts. voxel_mm: the pitches in the order of the shape, or one number for all. centre_mm: where
    the grid's middle lies, as (y, x) or (z, y, x); the rotation axis is x = y = 0. Row 0 lies at +y, column 0 at -x and
    slice 0 at -z: voxel (k, i, j) has its centre at x = cx + (j - (nx - 1)/2) dx, y = cy + ((ny - 1)/2 - i) dy,
    z = cz + (k - (nz - 1)/2) dz. An image lies in the plane z = 0.
    Raises ConfigError for values that describe no grid.
    """

    shape: tuple[int, ...]
    voxel_mm: tuple[float, ...]
    centre_mm: tuple[float, ...]

    def __init__(
        self,
        shape: Iterable[int],
        voxel_mm: float | Iterable[float] = 1.0,
        centre_mm: Iterable[float] | None = None,
    ) -> None:
        size = tuple(count(_OWNER, "shape", n) for n in shape)
        if len(size) not in (2, 3):
            raise ConfigError(
                f"VoxelGrid: shape is {size}, expected (rows, columns) or (slices, rows, columns)"
            )
        given = voxel_mm if isinstance(voxel_mm, Iterable) else (voxel_mm,) * len(size)
        pitch = tuple(positive(_OWNER, "voxel_mm", p) for p in given)
        middle = floats(_OWNER, "centre_mm", (0.0,) * len(size) if centre_mm is None else centre_mm)
        for name, values in (("voxel_mm", pitch), ("centre_mm", middle)):
            if len(values) != len(size):
                raise ConfigError(
                    f"VoxelGrid: {name} is {values}, expected {len(size)} numbers for the shape {size}"
                )
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "voxel_mm", pitch)
        object.__setattr__(self, "centre_mm", middle)

    @property
    def in_plane(self) -> bool:
        """Whether it is an image rather than a volume."""
        return len(self.shape) == 2

    @property
    def shape3(self) -> tuple[int, int, int]:
        """(slices, rows, columns), one slice for an image."""
        nz, ny, nx = (1, *self.shape) if self.in_plane else self.shape
        return nz, ny, nx

    @property
    def pitch3_mm(self) -> tuple[float, float, float]:
        """(dz, dy, dx); an image is as thick as its pixels are wide, which no line integral depends on."""
        dz, dy, dx = (self.voxel_mm[1], *self.voxel_mm) if self.in_plane else self.voxel_mm
        return dz, dy, dx

    @property
    def centre3_mm(self) -> tuple[float, float, float]:
        """(z, y, x)."""
        z, y, x = (0.0, *self.centre_mm) if self.in_plane else self.centre_mm
        return z, y, x

    @property
    def reach_mm(self) -> float:
        """Distance of the furthest corner from the rotation axis, in the plane."""
        (_, ny, nx), (_, dy, dx), (_, y, x) = self.shape3, self.pitch3_mm, self.centre3_mm
        return math.hypot(abs(x) + nx * dx / 2, abs(y) + ny * dy / 2)

    def to_index(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (..., 3) as (x, y, z) in mm to (slice, row, column), whole numbers at the voxels' centres."""
        middle = [(n - 1) / 2 for n in self.shape3]
        return self.directions_to_index(points_mm - self.centre3_mm[::-1]) + middle

    def directions_to_index(self, directions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Differences of points, (..., 3) as (x, y, z) in mm, to (slices, rows, columns)."""
        dz, dy, dx = self.pitch3_mm
        return directions_mm[..., ::-1] / (dz, -dy, dx)
