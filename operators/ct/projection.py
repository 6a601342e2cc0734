"""Line integrals of parallel-beam scans and their transpose, as products with Joseph's weights.

Every product works block by block over views that share weights (see `view_symmetry`), either
with stored sparse matrices (`matrices`) or with weights made view by view (`matrices=None`): the
same numbers, memory against time.

Called by the CT operator and by filtered backprojection. Pure functions; matrices are shared while in use.
"""

from __future__ import annotations

import functools
import math
import warnings
import weakref
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.joseph import (
    PAD,
    Triangle,
    footprint,
    interpolation,
    pixel_taps,
    ray_taps,
)
from restore.operators.ct.view_symmetry import Block, blocks, orient, unorient

_CHUNK = 1 << 17  # weights made at once: few enough to stay in the processor's cache
_IMAGES = 16  # images that go through together; more gain no speed and cost memory


class Matrices(list[tuple[Tensor, Tensor]]):
    """(A, A^T) in CSR for every block of views: a list, since tuples cannot be referred to weakly."""


_STORED: weakref.WeakValueDictionary[tuple[ParallelBeam, torch.dtype, torch.device], Matrices] = (
    weakref.WeakValueDictionary()
)


def forward(x: Tensor, geometry: ParallelBeam, matrices: Matrices | None = None) -> Tensor:
    """Line integrals of images.

    x: (n, ny, nx), float32 or float64, in 1/mm. Returns (n, views, detectors), without unit.
    """
    out = x.new_empty(len(x), *geometry.sinogram_shape)
    for start in range(0, len(x), _IMAGES):
        part = slice(start, start + _IMAGES)
        for number, block in enumerate(blocks(geometry)):
            matrix = None if matrices is None else matrices[number][0]
            out[part, block.views.flatten()] = _forward(x[part], geometry, block, matrix)
    return out


def _forward(x: Tensor, geometry: ParallelBeam, block: Block, matrix: Tensor | None) -> Tensor:
    rows, cols = block.shape
    stack = torch.stack([orient(x, o) for o in block.orientations])
    columns = x.new_zeros(rows, cols + 2 * PAD, len(block.orientations), len(x))
    columns[:, PAD : PAD + cols] = stack.permute(2, 3, 0, 1)
    columns = columns.view(rows * (cols + 2 * PAD), -1)
    if matrix is not None:
        seen = matrix @ columns
    else:
        seen = torch.cat([m @ columns for m in _ray_matrices(block, geometry, x)])
    seen = seen.view(len(block.cos), geometry.n_det, -1, len(x)).permute(3, 0, 2, 1)
    return seen.reshape(len(x), -1, geometry.n_det)


def adjoint(y: Tensor, geometry: ParallelBeam, matrices: Matrices | None = None) -> Tensor:
    """The transpose of `forward`.

    y: (n, views, detectors), float32 or float64. Returns (n, ny, nx).
    """
    return _sum_views(y, geometry, footprint, matrices)


def backproject(y: Tensor, geometry: ParallelBeam) -> Tensor:
    """The sum over views of y, interpolated linearly at each pixel's centre, zero off the detector.

    y: (n, views, detectors), float32 or float64. Returns (n, ny, nx). Filtered backprojection
    needs this rather than `adjoint`, whose triangles do not add up to a constant.
    """
    return _sum_views(y, geometry, interpolation, None)


def _sum_views(
    y: Tensor,
    geometry: ParallelBeam,
    triangle_of: Callable[[Block, ParallelBeam], Triangle],
    matrices: Matrices | None,
) -> Tensor:
    out = y.new_zeros(len(y), *geometry.shape)
    for start in range(0, len(y), _IMAGES):
        part = slice(start, start + _IMAGES)
        for number, block in enumerate(blocks(geometry)):
            matrix = None if matrices is None else matrices[number][1]
            views = y[part, block.views.flatten()]
            images = _adjoint(views, geometry, block, triangle_of(block, geometry), matrix)
            for image, orientation in zip(images, block.orientations, strict=True):
                out[part] += unorient(image, orientation)
    return out


def _adjoint(
    y: Tensor, geometry: ParallelBeam, block: Block, triangle: Triangle, matrix: Tensor | None
) -> Tensor:
    """Images (orientation, n, rows, cols) of the views y (n, R * orientations, detectors)."""
    taps, pixels = triangle.taps, math.prod(block.shape)
    ours = y.view(len(y), *block.views.shape, -1).permute(1, 3, 2, 0)
    columns = y.new_zeros(len(ours), geometry.n_det + 2 * taps, ours.shape[2], len(y))
    columns[:, taps : taps + geometry.n_det] = ours
    if matrix is not None:
        image = matrix @ columns.flatten(0, 1).flatten(1)
    else:
        image = y.new_zeros(pixels, ours.shape[2] * len(y))
        for views in _chunks(len(ours), pixels, few=False):
            made = _pixel_matrix(block, geometry, triangle, views, y)
            image += made @ columns[views].flatten(0, 1).flatten(1)
    return image.view(*block.shape, -1, len(y)).permute(2, 3, 0, 1)


def matrix_bytes(geometry: ParallelBeam, dtype: torch.dtype) -> int:
    """Memory that the entries of `sparse_matrices` take, at most."""
    return 2 * sum(_entries(geometry)) * (4 + dtype.itemsize)


def largest_matrix(geometry: ParallelBeam) -> int:
    """Entries of the largest single matrix of `sparse_matrices`, at most; indices have 32 bits."""
    return max(_entries(geometry))


@functools.lru_cache(maxsize=32)
def _entries(geometry: ParallelBeam) -> tuple[int, ...]:
    """For every block, what its stored transpose holds, which is no less than its matrix does."""
    return tuple(
        math.prod(b.shape) * len(b.cos) * footprint(b, geometry).taps for b in blocks(geometry)
    )


def sparse_matrices(geometry: ParallelBeam, dtype: torch.dtype, device: torch.device) -> Matrices:
    """(A, A^T) in CSR for every block, in the padded layouts of `forward` and `adjoint`.

    Operators of one geometry share them, and they live as long as somebody holds them; nobody may change them.
    """
    key = (geometry, dtype, device)
    found = _STORED.get(key)
    if found is None:
        like = torch.empty(0, dtype=dtype, device=device)
        with torch.inference_mode(False):  # others may use them in another mode
            found = Matrices(
                (stored_rays(b, geometry, like), _stored_pixels(b, geometry, like))
                for b in blocks(geometry)
            )
        _STORED[key] = found
    return found


def stored_rays(block: Block, geometry: ParallelBeam, like: Tensor) -> Tensor:
    """The weights of a block's views, (sets * detectors, rows * padded columns) in CSR, in the precision of `like`."""
    rows, width = block.shape[0], block.shape[1] + 2 * PAD
    counts, columns, values = [], [], []
    for views in _chunks(len(block.cos), geometry.n_det * rows):
        column, value, left = ray_taps(block, geometry, views, like)
        inside = torch.stack([(left >= 0) & (left < block.shape[1]), left + 1 < block.shape[1]], -1)
        inside[..., 1] &= left >= -1
        counts.append(inside.sum((2, 3)).flatten())
        columns.append(column[inside])
        values.append(value[inside])
    starts = torch.cat([torch.zeros_like(counts[0][:1]), torch.cat(counts).cumsum(0)])
    size = (len(starts) - 1, rows * width)
    return csr(starts.int(), torch.cat(columns), torch.cat(values), size)


def _stored_pixels(block: Block, geometry: ParallelBeam, like: Tensor) -> Tensor:
    triangle, rows, sets = footprint(block, geometry), block.shape[0], len(block.cos)
    taps = triangle.taps
    column = like.new_empty(rows, block.shape[1] * sets * taps, dtype=torch.int32)
    value = like.new_empty(column.shape)
    for part in _chunks(rows, block.shape[1] * sets):
        made = pixel_taps(block, geometry, triangle, slice(0, sets), part, like)
        column[part], value[part] = (t.flatten(1) for t in made)
    return _even_csr(column, value, sets * taps, sets * (geometry.n_det + 2 * taps))


def _ray_matrices(block: Block, geometry: ParallelBeam, like: Tensor) -> Iterator[Tensor]:
    rows, width = block.shape[0], block.shape[1] + 2 * PAD
    for views in _chunks(len(block.cos), geometry.n_det * rows):
        column, value, _ = ray_taps(block, geometry, views, like)
        yield _even_csr(column, value, 2 * rows, rows * width)


def _pixel_matrix(
    block: Block, geometry: ParallelBeam, triangle: Triangle, views: slice, like: Tensor
) -> Tensor:
    column, value = pixel_taps(block, geometry, triangle, views, slice(0, block.shape[0]), like)
    sets, taps = column.shape[2:]
    return _even_csr(column, value, sets * taps, sets * (geometry.n_det + 2 * taps))


def _chunks(items: int, size: int, few: bool = True) -> Iterator[slice]:
    """Slices of `items` things, each of so many weights, that stay within the cache.

    few=False: one rather than two to seven, for arrays whose last axis they are (short inner
    loops are slow).
    """
    step = max(1, _CHUNK // size)
    step = step if few or step > 7 else 1
    return (slice(start, min(start + step, items)) for start in range(0, items, step))


def _even_csr(columns: Tensor, values: Tensor, per_row: int, width: int) -> Tensor:
    """A matrix with the same number of entries in every row."""
    starts = torch.arange(0, columns.numel() + 1, per_row, dtype=torch.int32, device=columns.device)
    return csr(starts, columns.flatten(), values.flatten(), (len(starts) - 1, width))


def csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix without torch's remark on them. starts, columns: int32."""
    _accept_csr()
    return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


@functools.cache
def _accept_csr() -> None:
    """Make the first CSR tensor of the process here: torch remarks once that they are in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta", category=UserWarning
        )
        one = torch.ones(1, dtype=torch.int32)
        torch.sparse_csr_tensor(
            one.new_tensor([0, 1]), one - 1, one.float(), (1, 1), check_invariants=False
        )
