"""A head made by rule: an MR or a CT volume for demonstrations and tests, where no patient's may be.

May be called by the demonstration, benchmarks and tests; touches no files. Everything random comes
from the seed. Lengths are in mm; x grows to the left, y to the back and z to the head, as in DICOM,
with the origin in the middle of the brain.

Anatomy is a list of layers, each painted over the earlier ones with the share of every voxel that
it covers. Shares come from approximate distances f / |grad f| to surfaces f = 0: ellipsoids for
scalp, skull, ventricles and deep nuclei, and for the sulci the zero set of a band-passed random
field, whose sheets fold the cortex much as real ones do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError

Field = NDArray[np.floating[Any]]

SHAPE = (32, 160, 160)
EXTENT_MM = (112.0, 208.0, 208.0)
"""What the volume covers along z, y and x, whatever its number of voxels."""

LOWEST_MM = -14.0
"""Height of the lowest slice: skull base, cerebellum and face are left out."""

TISSUES: dict[str, tuple[float, float, float]] = {
    "air": (8.0, -1000.0, 0.0),
    "skin": (420.0, 60.0, 0.10),
    "fat": (860.0, -80.0, 0.08),
    "bone": (60.0, 1100.0, 0.15),
    "marrow": (430.0, 450.0, 0.25),
    "fluid": (150.0, 12.0, 0.05),
    "grey": (470.0, 38.0, 0.05),
    "white": (690.0, 30.0, 0.035),
    "nucleus": (530.0, 40.0, 0.04),
    "vessel": (760.0, 60.0, 0.05),
}
"""MR intensity (T1-weighted, arbitrary units), CT value in HU, and how much the MR one varies."""


def head_phantom(shape: Sequence[int] = SHAPE, seed: int = 0) -> Volume:
    """A T1-weighted head, float32 (z, y, x), non-negative, white matter near 700.

    shape: voxels along z, y, x over one and the same field of view. Raises ConfigError.
    """
    grid = _Grid(shape, seed)
    image = np.zeros(grid.shape, np.float32)
    varied = {}
    for tissue, share in _anatomy(grid):
        signal, _, spread = TISSUES[tissue]
        if spread not in varied:
            coarse, fine = grid.random(14.0), grid.random(4.0)
            varied[spread] = 1 + spread * (0.6 * coarse + 0.8 * fine)
        image += share * (signal * varied[spread] - image)
    bias = 1 + 0.08 * grid.random(150.0) - 0.0006 * np.hypot(grid.x, grid.y)
    return Volume(np.maximum(image * bias, 0).astype(np.float32), grid.affine, "MR", "arbitrary")


def ct_phantom(shape: Sequence[int] = SHAPE, seed: int = 0) -> Volume:
    """The same head in HU: air -1000, brain 30 to 40, dense bone about 1100. Raises ConfigError."""
    grid = _Grid(shape, seed)
    image = np.full(grid.shape, TISSUES["air"][1], np.float32)
    for tissue, share in _anatomy(grid):
        _, hu, spread = TISSUES[tissue]
        grain = 0.4 * spread * grid.random(5.0) if hu > 100 else 0.006 * grid.random(6.0)
        image += share * (hu + (hu + 1000) * grain - image)
    return Volume(np.maximum(image, -1000).astype(np.float32), grid.affine, "CT", "HU")


class _Grid:
    """Coordinates of the voxels in mm and random fields on them."""

    def __init__(self, shape: Sequence[int], seed: int) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f"phantom: shape is {tuple(shape)}, expected (z, y, x) of 1 or more")
        self.shape = tuple(int(n) for n in shape)
        self.step = tuple(e / n for e, n in zip(EXTENT_MM, self.shape, strict=True))
        self._rng = np.random.default_rng(seed)
        z, y, x = (np.arange(n, dtype=np.float32) for n in self.shape)
        dz, dy, dx = self.step
        self.z = (LOWEST_MM + dz * z)[:, None, None]
        self.y = (dy * (y - (self.shape[1] - 1) / 2))[:, None]
        self.x = dx * (x - (self.shape[2] - 1) / 2)
        self.affine = np.diag([-dx, -dy, dz, 1.0])
        self.affine[:3, 3] = -self.x[0], -self.y[0, 0], LOWEST_MM

    def random(self, wavelength: float) -> Field:
        """A smooth random field of mean 0 and deviation 1 around one wavelength in mm."""
        spectrum = fft.rfftn(self._rng.standard_normal(self.shape, dtype=np.float32))
        parts = [fft.fftfreq(n, d) for n, d in zip(self.shape[:2], self.step, strict=False)]
        last = fft.rfftfreq(self.shape[2], self.step[2])
        radius = np.sqrt(
            parts[0][:, None, None] ** 2 + parts[1][:, None] ** 2 + last**2, dtype=np.float32
        )
        octaves = np.log2(np.maximum(radius, 1e-6) * wavelength)
        field = fft.irfftn(spectrum * np.exp(-4 * octaves**2), s=self.shape).astype(np.float32)
        deviation = float(field.std())
        return field / deviation if deviation > 0 else field


Layer = tuple[str, Field]


def _anatomy(grid: _Grid) -> Iterator[Layer]:
    """Tissues with the share of each voxel that they paint over what came before."""
    width = 1 + 0.06 * grid.y / 96
    head = _ellipsoid(grid, (0, 4, 0), (75 * width, 94, 92)) + 0.8 * grid.random(90.0)
    scalp = 5.5 + 0.8 * grid.random(70.0) + 1.5 * _ramp(grid.y - 40, 60)
    skull = 6.5 + 0.9 * grid.random(60.0)
    yield "skin", _share(grid, head)
    yield "fat", _share(grid, head - 1.8)
    temple = _ellipsoid(grid, (66, -22, -4), (10, 30, 34))
    yield "skin", _share(grid, np.minimum(temple, head - 3.5))
    yield "vessel", _share(grid, np.minimum(head - 2.5, 3 * (grid.random(9.0) - 2.6)))
    yield "bone", _share(grid, head - scalp)
    marrow = np.minimum(head - scalp - 1.9, scalp + skull - 1.8 - head)
    yield "marrow", _share(grid, marrow)
    yield "fluid", _share(grid, head - scalp - skull)
    yield from _brain(grid, head - scalp - skull - 2.2 - 0.5 * grid.random(30.0))
    yield from _deep_structures(grid)


def _brain(grid: _Grid, depth: Field) -> Iterator[Layer]:
    """Folded cortex on white matter. depth: mm below the surface of the brain."""
    field = grid.random(20.0)
    gradient = [np.gradient(field, grid.step[a], axis=a) for a in range(3) if grid.shape[a] > 1]
    slope = np.sqrt(sum(g**2 for g in gradient))
    beyond = np.maximum(depth - 18 - 6 * grid.random(45.0), 0)
    opening = 0.4 + 0.8 * np.exp(-np.maximum(depth, 0) / 4) + 0.25 * grid.random(40.0)
    sulci = np.hypot(np.abs(field) / np.maximum(slope, 1e-4), beyond) - np.maximum(opening, 0.2)
    callosum = _ellipsoid(grid, (0, 2, 6), (40, 43, 24))
    midline = np.abs(grid.x + 1.2 * grid.random(60.0))
    fissure = np.hypot(midline, np.maximum(callosum, 0)) - 0.9
    cleft = np.abs(grid.y + 4 - 0.5 * grid.z + 0.08 * (np.abs(grid.x) - 40) + 2 * grid.random(40.0))
    sylvian = np.hypot(cleft, np.maximum(depth - 22, np.abs(grid.z - 2) - 18).clip(0)) - 1.1
    cortex = np.minimum.reduce([depth, sulci, fissure, sylvian])
    yield "grey", _share(grid, cortex)
    yield "white", _share(grid, cortex - 2.8 - 0.4 * grid.random(12.0), 1.4)


def _deep_structures(grid: _Grid) -> Iterator[Layer]:
    """Nuclei and ventricles, alike but not equal on both sides."""
    uneven = 0.5 * grid.random(20.0)
    for centre, radii, turn in (
        ((12, 10, 4), (8.5, 13, 9), 25),
        ((13, -19, 8), (5, 9, 11), -12),
        ((26, -5, 3), (4.5, 16, 11), 10),
        ((34, 0, 4), (1.0, 15, 12), 4),
    ):
        yield "nucleus", _share(grid, _ellipsoid(grid, centre, radii, turn) + uneven)
    for centre, radii, turn in (
        ((7, -24, 10), (3.6, 12, 9), -22),
        ((9, 2, 21), (5, 26, 7), 8),
        ((21, 33, 10), (5, 16, 8), -14),
        ((0, 8, 2), (1.7, 13, 10), 0),
    ):
        yield "fluid", _share(grid, _ellipsoid(grid, centre, radii, turn) + 1.5 * uneven)
    yield "grey", _share(grid, _ellipsoid(grid, (19, 27, 10), (2, 5, 5), -14) + uneven)
    perforators = np.minimum(1.6 * (grid.random(5.0) - 3.1), 40 - np.hypot(grid.x, grid.y))
    yield "fluid", 0.6 * _share(grid, perforators)


def _ellipsoid(
    grid: _Grid, centre: Sequence[float], radii: Sequence[float | Field], turn: float = 0
) -> Field:
    """Approximate depth in mm inside an ellipsoid at `centre` and its mirror image in x.

    radii: along x, y, z; turn: degrees about z, mirrored too; negative depth is outside.
    """
    x, y, z = np.abs(grid.x) - centre[0], grid.y - centre[1], grid.z - centre[2]
    if centre[0] == 0:
        x = grid.x
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    scaled = ((c * x + s * y) / radii[0], (c * y - s * x) / radii[1], z / radii[2])
    rho = np.sqrt(sum(u**2 for u in scaled))
    slope = np.sqrt(sum((u / r) ** 2 for u, r in zip(scaled, radii, strict=True)))
    return ((1 - rho) * rho / np.maximum(slope, 1e-6)).astype(np.float32)


def _share(grid: _Grid, depth: Field, softness: float = 1.0) -> Field:
    """Share of a voxel inside a surface that lies `depth` mm outside of its centre."""
    return _ramp(depth, softness * grid.step[2])


def _ramp(value: Field, width: float) -> Field:
    return np.clip(0.5 + value / width, 0, 1).astype(np.float32)
