"""The weights of a small parallel-beam scan as one sparse matrix and its transpose: quicker for few images.

Called by the CT operator. Blocks of views that share weights (`projection`) hold a half to an eighth of the entries,
but take a dozen small operations a product; while both matrices stay in the processor's cache, a product with one image
is two to three times as quick. Pure functions; matrices are shared while in use.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import pad

from restore.operators.ct import projection
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.joseph import PAD
from restore.operators.ct.view_symmetry import Block, blocks, orient

MOST_ENTRIES = 5_000_000
"""Weights of thin rays, at most, up to which one matrix is quicker than blocks, for one image and for many: 60 views of
two rays a bin of a slice of 128 x 128 (benchmarks/PERFORMANCE.md)."""

_TAPS = 2  # pixels that a ray takes in a row or column
_INDEX_BYTES = 4
_ONE_BY_ONE = (
    2  # images up to which as many products with vectors are quicker than one with a matrix
)


class Whole:
    """A (views * bins, pixels) and its transpose in CSR: an object, since tuples cannot be referred to weakly."""

    def __init__(self, geometry: ParallelBeam, per_bin: int, dtype: torch.dtype) -> None:
        self.bins_first, self.pixels_first = both_ways(weights(geometry, per_bin, dtype))
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, ny, nx) in 1/mm. Returns (n, views, bins), without unit."""
        return _products(self.bins_first, x, self.geometry.sinogram_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """y: (n, views, bins). Returns (n, ny, nx)."""
        return _products(self.pixels_first, y, self.geometry.shape)


def most_bytes(geometry: ParallelBeam, per_bin: int, dtype: torch.dtype) -> int:
    """What both matrices take at most; arguments as `weights`.

    A row of pixels is met by as many rays of a view as fit into it, not by all where the detector is wider. Rays of a
    bin that lie less than a pixel apart share pixels: so many take one more each than those before.
    """
    rays, longest = thin(geometry, per_bin), max(geometry.shape) * max(geometry.pixel_mm)
    met = min(geometry.n_det, math.ceil(longest / geometry.det_spacing_mm) + 1)
    dense = rays.det_spacing_mm * math.sqrt(2) <= min(
        rays.pixel_mm
    )  # as they meet a row at 45 degrees
    pixels = _TAPS + per_bin - 1 if dense else _TAPS * per_bin
    entries = len(rays.angles) * met * pixels * max(rays.shape)
    return 2 * entries * (dtype.itemsize + _INDEX_BYTES)


def most_entries(geometry: ParallelBeam, per_bin: int) -> int:
    """Weights of thin rays, at most."""
    return math.prod(geometry.sinogram_shape) * per_bin * _TAPS * max(geometry.shape)


def weights(geometry: ParallelBeam, per_bin: int, dtype: torch.dtype) -> sparse.csr_matrix:
    """A (views * bins, pixels), each bin the mean of so many rays."""
    rays, like = thin(geometry, per_bin), torch.empty(0, dtype=dtype)
    counts, columns, values, bins = [], [], [], []
    for block in blocks(rays):
        made = projection.stored_rays(block, rays, like)
        for views, pixels in zip(block.views.T, _pixels(block, rays), strict=True):
            counts.append(made.crow_indices().diff())
            columns.append(pixels[made.col_indices().long()])
            values.append(made.values() / per_bin)
            ray = views[:, None] * rays.n_det + torch.arange(rays.n_det)
            bins.append(torch.div(ray.flatten(), per_bin, rounding_mode="floor"))
    row = torch.cat(bins).int().repeat_interleave(torch.cat(counts))
    size = math.prod(geometry.sinogram_shape), math.prod(geometry.shape)
    entries = torch.cat(values).numpy(), (row.numpy(), torch.cat(columns).numpy())
    return sparse.coo_matrix(entries, size).tocsr()  # adds up what neighbouring rays share


def thin(geometry: ParallelBeam, per_bin: int) -> ParallelBeam:
    """The scan with a detector bin for each of the rays whose mean a bin measures."""
    n, spacing = geometry.n_det * per_bin, geometry.det_spacing_mm / per_bin
    return dataclasses.replace(geometry, n_det=n, det_spacing_mm=spacing)


def _pixels(block: Block, rays: ParallelBeam) -> list[Tensor]:
    """For every orientation of a block, which pixel a column of its padded matrix is; -1 beside the image."""
    numbers = torch.arange(math.prod(rays.shape), dtype=torch.int32).view(rays.shape)
    return [pad(orient(numbers, o), (PAD, PAD), value=-1).flatten() for o in block.orientations]


def both_ways(matrix: sparse.csr_matrix) -> tuple[Tensor, Tensor]:
    """A matrix and its transpose as torch has them."""
    return _tensor(matrix), _tensor(matrix.T.tocsr())


def _tensor(matrix: sparse.csr_matrix) -> Tensor:
    starts, columns = (
        torch.from_numpy(a.astype(np.int32)) for a in (matrix.indptr, matrix.indices)
    )
    return projection.csr(starts, columns, torch.from_numpy(matrix.data), matrix.shape)


def _products(matrix: Tensor, arrays: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The matrix times every array of a batch: one after the other where they are few."""
    columns = arrays.flatten(1)
    if len(arrays) > _ONE_BY_ONE:
        return (matrix @ columns.T).T.reshape(-1, *shape)
    out = arrays.new_empty(len(arrays), *shape)
    for one, answer in zip(columns, out.flatten(1), strict=True):
        torch.mv(matrix, one, out=answer)
    return out
