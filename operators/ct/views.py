"""What every geometry reduces to: per view a source, the middle of the detector and the steps of its columns and rows.

Made by the geometries, used by the projectors. numpy alone; lengths in mm, points and steps as (x, y, z).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError
from restore.operators.ct.grid import VoxelGrid

Floats = NDArray[np.float64]
_LATTICE = 7  # points an axis at which it is asked whether a view sees the volume
_NAMED = 5  # views that a sentence names


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Rays of a scan: bin (i, j) of a view lies at centre + (j - (columns - 1)/2) u + (i - (rows - 1)/2) v.

    source, centre, u, v: (views, 3) float64. parallel: `source` holds the direction of the rays instead of a point.
    curved: the columns lie on an arc round the line through the source along v, an equiangular detector: bin j is
    turned by (j - (columns - 1)/2) |u| over the distance of the source.
    """

    source: Floats
    centre: Floats
    u: Floats
    v: Floats
    rows: int
    columns: int
    parallel: bool = False
    curved: bool = False

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(views, rows, columns)."""
        return len(self.source), self.rows, self.columns

    @property
    def vectors(self) -> Floats:
        """(views, 12) as ASTRA's cone_vec (parallel3d_vec where rays are parallel): source, centre, u, v."""
        return np.hstack([self.source, self.centre, self.u, self.v])

    def finer(self, high: int, wide: int) -> Views:
        """The same detector with high times wide bins for each one."""
        return dataclasses.replace(
            self,
            u=self.u / wide,
            v=self.v / high,
            rows=self.rows * high,
            columns=self.columns * wide,
        )

    def basis(self) -> tuple[Floats, Floats]:
        """(base, along), both (views, 3): a ray's direction is base + a_j along + b_j u + i v with `column_tables`.

        Of a flat detector `along` leads from the source to the detector's middle and base is zero; of a curved one base
        is the part along v, which is not turned. Parallel rays run along `along`.
        """
        if self.parallel:
            return np.zeros_like(self.source), self.source
        along = self.centre - self.source
        if not self.curved:
            return np.zeros_like(along), along
        unit = self.v / np.sqrt((self.v**2).sum(1, keepdims=True))
        base = (along * unit).sum(1, keepdims=True) * unit
        return base, along - base

    @property
    def bins_a_radian(self) -> float:
        """Columns of a curved detector that a radian holds; zero of a flat one."""
        if not self.curved:
            return 0.0
        _, along = self.basis()
        return float(np.linalg.norm(along[0]) / np.linalg.norm(self.u[0]))

    def column_tables(self) -> tuple[Floats, Floats]:
        """(a, b), both (columns,): see `basis`."""
        place = np.arange(self.columns, dtype=np.float64) - (self.columns - 1) / 2
        if not self.curved:
            return np.ones_like(place), place
        turn = place / self.bins_a_radian
        across = np.sin(turn) * self.bins_a_radian
        return np.cos(turn), across

    def locate(self, points_mm: Floats) -> tuple[Floats, Floats, Floats]:
        """Where the rays through points meet the detector: (column, row, depth), each (views, points).

        points_mm: (points, 3) as (x, y, z). depth: distance from the source over that of the detector's middle, along
        its normal; one for parallel rays. At depths of zero and below there is no ray and the place is NaN.
        """
        base, along = self.basis()
        origin = self.centre if self.parallel else self.source
        inverse = np.linalg.inv(np.stack([along, self.u, self.v], axis=-1))
        ahead, across, up = np.moveaxis(
            np.einsum("vab,vpb->vpa", inverse, points_mm - origin[:, None]), -1, 0
        )
        depth = np.ones_like(ahead) if self.parallel else ahead
        if self.curved:
            turn = np.arctan2(across / self.bins_a_radian, ahead)
            depth = np.hypot(across / self.bins_a_radian, ahead)
            across = turn * self.bins_a_radian * depth
            sunk = (inverse @ base[..., None])[:, 2]
            up = up - sunk * depth
        depth = np.where(depth > 0, depth, np.nan)
        return (
            across / depth + (self.columns - 1) / 2,
            up / depth + (self.rows - 1) / 2,
            depth,
        )


def check_sees(views: Views, grid: VoxelGrid, owner: str) -> None:
    """Refuse rays that meet nothing. Raises ConfigError: a source inside the volume, no view that sees it, idle views.

    A view is idle where none of 7 points an axis of the volume falls on its detector.
    """
    lattice = _lattice(grid)
    column, row, depth = views.locate(lattice)
    near = np.isnan(depth).any(1)
    if near.any():
        raise ConfigError(
            f"{owner}: in view {int(near.argmax())} the source lies inside the volume, or the volume reaches behind "
            f"it: its corners are {grid.reach_mm:.6g} mm from the axis; check source_object_mm, voxel_mm and centre_mm"
        )
    # Half a bin at the detector's edge, and half the pitch of the lattice, may still be met.
    reach = 0.5 + 0.5 * np.stack([np.ptp(column, axis=1), np.ptp(row, axis=1)]) / (_LATTICE - 1)
    inside = (column > -reach[0, :, None]) & (column < views.columns - 1 + reach[0, :, None])
    inside &= (row > -reach[1, :, None]) & (row < views.rows - 1 + reach[1, :, None])
    idle = np.flatnonzero(~inside.any(1))
    if len(idle) == len(views):
        raise ConfigError(
            f"{owner}: no ray meets the volume: in view 0 its middle falls on column {column[0].mean():.5g} of "
            f"{views.columns} and row {row[0].mean():.5g} of {views.rows}; check the offsets, centre_mm and the angles"
        )
    if len(idle):
        named = ", ".join(map(str, idle[:_NAMED])) + (", ..." if len(idle) > _NAMED else "")
        raise ConfigError(
            f"{owner}: {len(idle)} of {len(views)} views see nothing of the volume (views {named}); leave them out, or "
            "make the volume larger"
        )


def _lattice(grid: VoxelGrid) -> Floats:
    """Points (n, 3) as (x, y, z) in mm, from corner to corner of the volume."""
    sides = (np.array(grid.shape3) * grid.pitch3_mm)[::-1]
    part = np.linspace(-0.5, 0.5, _LATTICE)
    depth = part if not grid.in_plane else np.zeros(1)
    points = np.stack(np.meshgrid(part, part, depth, indexing="ij"), -1).reshape(-1, 3)
    return points * sides + np.array(grid.centre3_mm)[::-1]
