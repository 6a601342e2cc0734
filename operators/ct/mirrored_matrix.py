"""The weights of a parallel-beam scan whose rays are mirror images of each other, as an eighth of one sparse matrix.

Mirroring the image in x, in y and across its diagonal turns views into each other (`view_symmetry`), and half a turn
turns a view into itself, its rays in reverse order. Of views that divide half a turn evenly an eighth of the rays needs
weights, applied to eight orientations of the image that lie side by side: each entry is read once for eight products.

Called by the CT operator; other scans have one whole matrix (`whole_matrix`), and small ones for many images, between
which an entry that is read once is shared anyway. Pure functions; matrices are shared while in use.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import weakref
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from restore.operators.ct import whole_matrix
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.view_symmetry import Orientation, canonical, orient

_WORTH = 3
"""Rays for one that has weights, from which this is quicker than blocks of views, and no slower than a whole matrix."""

MANY = 8
"""Images from which a whole matrix, where the scan is small enough for one, is quicker: from 30 views of 104 x 104
eight take half as long as seven (benchmarks/ct_projector.py --batch). Four take as long by either."""

_TOGETHER = 4
"""Images that go through together: of more columns MKL's products take up to three times as long a column."""


class Rays(NamedTuple):
    """Rays of which those of a scan are mirror images.

    geometry: of the rays, on a square. orientations: of the image, side by side. bins: (views * n_det,), the place of
    each bin of the scan among (view, ray, orientation).
    """

    geometry: ParallelBeam
    orientations: tuple[Orientation, ...]
    bins: Tensor


class Mirrored:
    """The matrix of few rays and its transpose in CSR: products with the orientations of one image after the other.

    pixels: (places * orientations,), the image's pixel at each place of the square, one more than there are beside it;
    places: (orientations * pixels,), the reverse.
    """

    def __init__(
        self, rays: Rays, geometry: ParallelBeam, per_bin: int, dtype: torch.dtype
    ) -> None:
        matrix = whole_matrix.weights(rays.geometry, per_bin, dtype)
        self.bins_first, self.pixels_first = whole_matrix.both_ways(matrix)
        self.geometry, self.bins, self.width = geometry, rays.bins, len(rays.orientations)
        (ny, nx), side, count = geometry.shape, rays.geometry.shape[0], math.prod(geometry.shape)
        top, left = (side - ny) // 2, (side - nx) // 2
        numbers = torch.arange(count).view(ny, nx)
        numbers = pad(numbers, (left, left, top, top), value=count)
        oriented = [orient(numbers, o).flatten() for o in rays.orientations]
        self.pixels = torch.stack(oriented, -1).flatten().int()
        order = torch.stack([o.argsort()[:count] for o in oriented])
        self.places = (order * self.width + torch.arange(self.width)[:, None]).flatten().int()

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, ny, nx) in 1/mm. Returns (n, views, bins), without unit."""
        return torch.cat([self._forward(part) for part in x.split(_TOGETHER)])

    def adjoint(self, y: Tensor) -> Tensor:
        """y: (n, views, bins). Returns (n, ny, nx)."""
        return torch.cat([self._adjoint(part) for part in y.split(_TOGETHER)])

    def _forward(self, x: Tensor) -> Tensor:
        n, places = len(x), self.bins_first.shape[1]
        columns = _taken(pad(x.flatten(1), (0, 1)).T, self.pixels)
        lines = self.bins_first @ columns.view(places, self.width * n)
        seen = _taken(lines.view(lines.shape[0] * self.width, n), self.bins)
        return seen.T.reshape(n, *self.geometry.sinogram_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        n, rays = len(y), self.bins_first.shape[0]
        lines = y.new_zeros(rays * self.width, n)
        lines[self.bins] = y.flatten(1).T
        columns = self.pixels_first @ lines.view(rays, self.width * n)
        parts = _taken(columns.view(columns.shape[0] * self.width, n), self.places)
        return parts.unflatten(0, (self.width, -1)).sum(0).T.reshape(n, *self.geometry.shape)


def _taken(table: Tensor, which: Tensor) -> Tensor:
    """Rows of (m, n), contiguous; of one number each quicker as numbers."""
    if table.shape[1] == 1:
        return table.reshape(-1).index_select(0, which)[:, None]
    return table.contiguous().index_select(0, which)


Matrix = whole_matrix.Whole | Mirrored

_STORED: weakref.WeakValueDictionary[tuple[ParallelBeam, int, torch.dtype, bool], Matrix] = (
    weakref.WeakValueDictionary()
)


def stored(geometry: ParallelBeam, per_bin: int, dtype: torch.dtype, images: int) -> Matrix:
    """The matrices of a scan for so many images; operators of one geometry share them as long as one holds them.

    per_bin: rays whose mean a bin measures. Neighbours share pixels, so that the mean has fewer weights than they have.
    """
    rays = mirrored_rays(geometry)
    if _takes_whole(geometry, per_bin, images):
        rays = None
    key = geometry, per_bin, dtype, rays is None
    found = _STORED.get(key)
    if found is None:
        with torch.inference_mode(False):  # others may use them in another mode
            if rays is None:
                found = whole_matrix.Whole(geometry, per_bin, dtype)
            else:
                found = Mirrored(rays, geometry, per_bin, dtype)
        _STORED[key] = found
    return found


def serves(geometry: ParallelBeam, per_bin: int, device: torch.device) -> bool:
    """Whether this is quicker than blocks of views, where torch has MKL: small scans, and mirrored ones."""
    if device.type != "cpu" or not torch.backends.mkl.is_available():
        return False
    return _small(geometry, per_bin) or mirrored_rays(geometry) is not None


def _small(geometry: ParallelBeam, per_bin: int) -> bool:
    return whole_matrix.most_entries(geometry, per_bin) <= whole_matrix.MOST_ENTRIES


def _takes_whole(geometry: ParallelBeam, per_bin: int, images: int) -> bool:
    """Whether a scan with mirrored rays has one matrix all the same."""
    return images >= MANY and _small(geometry, per_bin)


def most_bytes(geometry: ParallelBeam, per_bin: int, dtype: torch.dtype, images: int) -> int:
    """What the matrices of a scan take at most, with what tells their places.

    images: at once; those who have many ask about one of them now and then too, and hold both matrices.
    """
    rays = mirrored_rays(geometry)
    one = whole_matrix.most_bytes(geometry, per_bin, dtype)
    if rays is None:
        return one
    # Of a view's rays the halves meet as many pixels; the middle one is the longest.
    views = dataclasses.replace(rays.geometry, n_det=geometry.n_det)
    share = min(1.0, (rays.geometry.n_det + 1) / geometry.n_det)
    weights = math.ceil(whole_matrix.most_bytes(views, per_bin, dtype) * share)
    return (
        weights
        + sum(4 * math.prod(g.shape) * len(rays.orientations) for g in (geometry, views))
        + rays.bins.nbytes
        + (one if _takes_whole(geometry, per_bin, images) else 0)
    )


@functools.lru_cache(maxsize=32)
def mirrored_rays(geometry: ParallelBeam) -> Rays | None:
    """The rays that stand for all; None where too few are mirror images of others for that to be quicker.

    The image is laid into a square, with edges of the same width on opposite sides.
    """
    (ny, nx), (dy, dx) = geometry.shape, geometry.pixel_mm
    if dy != dx or (ny - nx) % 2:
        return None
    square = dataclasses.replace(geometry, shape=(max(ny, nx),) * 2)
    with torch.inference_mode(False):
        found = _numbered(square, halved=True) or _numbered(square, halved=False)
    if found is None:
        return None
    whole = math.prod(geometry.sinogram_shape) * (ny + nx) / 2
    few = math.prod(found.geometry.sinogram_shape) * max(ny, nx)
    return found if whole >= _WORTH * few else None


def _numbered(square: ParallelBeam, *, halved: bool) -> Rays | None:
    """The views that stand for all; halved: and half of their rays. None where one of those is measured twice."""
    n, spacing, ray = square.n_det, square.det_spacing_mm, torch.arange(square.n_det)
    if halved and square.det_offset_mm:
        return None
    kept = (n + 1) // 2 if halved else n
    views: dict[tuple[float, float], tuple[int, float]] = {}
    columns: dict[Orientation, int] = {}
    bins = []
    for theta in square.angles:
        key, cos, sin, (swap, rows, cols) = canonical(square, theta)
        view, _ = views.setdefault(key[2:], (len(views), math.atan2(sin, cos)))
        column = torch.full_like(ray, columns.setdefault((swap, rows, cols), len(columns)))
        line = ray
        if halved:  # the last rays are the first ones of the image turned by half a turn
            column[kept:] = columns.setdefault((swap, not rows, not cols), len(columns))
            line = torch.minimum(ray, n - 1 - ray)
        bins.append((view * kept + line, column))
    places = torch.cat([line * len(columns) + column for line, column in bins])
    if len(places.unique()) < len(places):
        return None
    first = dataclasses.replace(
        square, angles=tuple(angle for _, angle in views.values()), n_det=kept,
        det_offset_mm=square.det_offset_mm - (n - kept) / 2 * spacing,
    )  # fmt: skip
    return Rays(first, tuple(columns), places)
