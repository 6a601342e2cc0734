"""Ellipsoids cut into slabs in closed form: what a thick slice of one holds and where its middle lies.

An oracle for operators of slices; nothing of the package is used.

An ellipsoid {c + v: v' Q^-1 v <= 1}, Q = R diag(a^2) R', meets the plane n.(p - c) = h in an ellipse of area
pi det(Q)^(1/2) / s (1 - h^2 / s^2), s^2 = n' Q n, whose middle is c + Q n h / s^2.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Ellipsoid:
    """centre_mm: (x, y, z). semi_axes_mm: three lengths along the columns of `axes`, a rotation."""

    centre_mm: Array
    semi_axes_mm: Array
    axes: Array

    @property
    def q(self) -> Array:
        """Q."""
        return self.axes @ np.diag(self.semi_axes_mm**2) @ self.axes.T

    def slab(self, normal: Array, low_mm: float, high_mm: float) -> tuple[float, Array]:
        """Volume in mm^3 and middle in mm of what lies between n.p = low and n.p = high."""
        s = float(np.sqrt(normal @ self.q @ normal))
        ends = np.clip(np.array([low_mm, high_mm]) - normal @ self.centre_mm, -s, s)
        area = np.pi * np.prod(self.semi_axes_mm) / s
        volume = area * float(np.diff(ends - ends**3 / (3 * s**2))[0])
        moment = area * float(np.diff(ends**2 / 2 - ends**4 / (4 * s**2))[0])
        height = moment / volume if volume > 0 else 0.0
        return volume, self.centre_mm + self.q @ normal * (height / s**2)

    def on_grid(self, affine: Array, shape: tuple[int, int, int], parts: int = 3) -> Array:
        """The share of every voxel that lies inside, by `parts`^3 points in each. affine: RAS; shape: (z, y, x)."""
        steps = [(np.arange(n * parts) + 0.5) / parts - 0.5 for n in shape]
        z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
        inverse = np.linalg.inv(self.q)
        v = [
            row[0] * x + row[1] * y + row[2] * z + row[3] - c
            for row, c in zip(affine[:3], self.centre_mm, strict=True)
        ]
        inside = sum(inverse[i, j] * v[i] * v[j] for i in range(3) for j in range(3)) <= 1
        cut = [side for n in shape for side in (n, parts)]
        return inside.reshape(cut).mean((1, 3, 5))


def rotation(about_x: float, about_y: float, about_z: float) -> Array:
    """By three angles in radians, one after the other."""
    result = np.eye(3)
    for axis, angle in enumerate((about_x, about_y, about_z)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
        result = turn @ result
    return result
