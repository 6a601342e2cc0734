"""Parallel-beam line integrals by Joseph's method: the weights, their products, and nothing about operators.

Joseph (IEEE TMI 1982) steps along the image axis that a ray crosses fastest and interpolates linearly between the
two pixels beside it. Seen from a pixel the same weight is a triangle on the detector,

    w(k) = L max(0, 1 - |u_k - u_pixel| / h),   h = |cos| dx,  L = dy / |cos|,

which gives the exact transpose in gather form: no scatter, no atomics, the same order of summation every time.

Every product works block by block over views that share weights (see `view_symmetry`), either with stored sparse
matrices (`matrices`) or with weights made view by view (`matrices=None`): same numbers, memory against time.

Called by the CT operator and by filtered backprojection. Pure functions; one small cache.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from restore.operators.geometry import ParallelBeam
from restore.operators.view_symmetry import Block, blocks, orient, unorient

_CHUNK = 1 << 17  # weights made at once: few enough to stay in the processor's cache
_PAD = 2  # zero columns on either side of an image, so that taps beside it need no mask
_CACHED_GEOMETRIES = 4

Matrices = tuple[tuple[Tensor, Tensor], ...]


def forward(x: Tensor, geometry: ParallelBeam, matrices: Matrices | None = None) -> Tensor:
    """Line integrals of images x (n, ny, nx), real, in 1/mm: (n, views, detectors)."""
    out = x.new_empty(len(x), *geometry.sinogram_shape)
    for number, block in enumerate(blocks(geometry)):
        rows, cols = block.shape
        stack = torch.stack([orient(x, o) for o in block.orientations])
        columns = x.new_zeros(rows, cols + 2 * _PAD, len(block.orientations), len(x))
        columns[:, _PAD : _PAD + cols] = stack.permute(2, 3, 0, 1)
        columns = columns.view(rows * (cols + 2 * _PAD), -1)
        if matrices is not None:
            seen = matrices[number][0] @ columns
        else:
            seen = torch.cat([m @ columns for m in _ray_matrices(block, geometry, x)])
        seen = seen.view(len(block.cos), geometry.n_det, -1, len(x)).permute(3, 0, 2, 1)
        out[:, block.views.flatten()] = seen.reshape(len(x), -1, geometry.n_det)
    return out


def adjoint(
    y: Tensor, geometry: ParallelBeam, matrices: Matrices | None = None, *, interpolate: bool = False
) -> Tensor:
    """The transpose of `forward`: sinograms y (n, views, detectors) to images (n, ny, nx).

    With `interpolate` the triangles have height one and reach to the neighbouring bins: the sum over views of the
    sinogram, interpolated linearly at each pixel's centre, as filtered backprojection needs it.
    """
    out = y.new_zeros(len(y), *geometry.shape)
    for number, block in enumerate(blocks(geometry)):
        half = torch.ones_like(block.cos) if interpolate else block.half_width(geometry)
        taps = _taps(half)
        ours = y[:, block.views.flatten()].view(len(y), *block.views.shape, -1)
        columns = y.new_zeros(len(block.cos), geometry.n_det + 2 * taps, block.views.shape[1], len(y))
        columns[:, taps : taps + geometry.n_det] = ours.permute(1, 3, 2, 0)
        if matrices is not None:
            image = matrices[number][1] @ columns.flatten(0, 1).flatten(1)
        else:
            image = y.new_zeros(math.prod(block.shape), columns.shape[2] * len(y))
            for views in _chunks(len(half), math.prod(block.shape), few=False):
                made = _pixel_matrix(block, geometry, half, views, y)
                image += made @ columns[views].flatten(0, 1).flatten(1)
        image = image.view(*block.shape, -1, len(y)).permute(2, 3, 0, 1)
        for turned, orientation in zip(image, block.orientations, strict=True):
            out += unorient(turned, orientation)
    return out


def matrix_bytes(geometry: ParallelBeam, dtype: torch.dtype) -> int:
    """Memory that `sparse_matrices` would take."""
    return sum(sum(_entries(b, geometry)) for b in blocks(geometry)) * (4 + dtype.itemsize)


def largest_matrix(geometry: ParallelBeam) -> int:
    """Entries of the largest single matrix that `sparse_matrices` would make (indices are 32-bit)."""
    return max(max(_entries(b, geometry)) for b in blocks(geometry))


def _entries(block: Block, geometry: ParallelBeam) -> tuple[int, int]:
    """Upper bounds of what the matrix of a block and its stored transpose hold."""
    half, pixels = block.half_width(geometry), math.prod(block.shape)
    return math.ceil(pixels * float(2 * half.sum())), pixels * len(half) * _taps(half)


@functools.lru_cache(maxsize=_CACHED_GEOMETRIES)
def sparse_matrices(geometry: ParallelBeam, dtype: torch.dtype, device: torch.device) -> Matrices:
    """(A, A^T) in CSR for every block, in the padded layouts of `forward` and `adjoint`; kept for a few geometries."""
    like = torch.empty(0, dtype=dtype, device=device)
    return tuple((_stored_rays(b, geometry, like), _stored_pixels(b, geometry, like)) for b in blocks(geometry))


def _stored_rays(block: Block, geometry: ParallelBeam, like: Tensor) -> Tensor:
    rows, width = block.shape[0], block.shape[1] + 2 * _PAD
    counts, columns, values = [], [], []
    for views in _chunks(len(block.cos), geometry.n_det * rows):
        column, value, left = _ray_taps(block, geometry, views, like)
        inside = torch.stack([(left >= 0) & (left < block.shape[1]), left + 1 < block.shape[1]], -1)
        inside[..., 1] &= left >= -1
        counts.append(inside.sum((2, 3)).flatten())
        columns.append(column[inside])
        values.append(value[inside])
    starts = torch.cat([torch.zeros_like(counts[0][:1]), torch.cat(counts).cumsum(0)])
    size = (len(starts) - 1, rows * width)
    return _csr(starts.int(), torch.cat(columns), torch.cat(values), size)


def _stored_pixels(block: Block, geometry: ParallelBeam, like: Tensor) -> Tensor:
    half, rows = block.half_width(geometry), block.shape[0]
    taps, sets = _taps(half), len(half)
    column = like.new_empty(rows, block.shape[1] * sets * taps, dtype=torch.int32)
    value = like.new_empty(column.shape)
    for part in _chunks(rows, block.shape[1] * sets):
        made = _pixel_taps(block, geometry, half, slice(0, sets), part, like)
        column[part], value[part] = (t.flatten(1) for t in made)
    starts = torch.arange(math.prod(block.shape) + 1, device=like.device, dtype=torch.int32) * (sets * taps)
    return _csr(starts, column.flatten(), value.flatten(), (len(starts) - 1, sets * (geometry.n_det + 2 * taps)))


def _ray_matrices(block: Block, geometry: ParallelBeam, like: Tensor) -> Iterator[Tensor]:
    rows, width = block.shape[0], block.shape[1] + 2 * _PAD
    for views in _chunks(len(block.cos), geometry.n_det * rows):
        column, value, _ = _ray_taps(block, geometry, views, like)
        rays = column.shape[0] * column.shape[1]
        starts = torch.arange(rays + 1, device=like.device, dtype=torch.int32) * (2 * rows)
        yield _csr(starts, column.flatten(), value.flatten(), (rays, rows * width))


def _pixel_matrix(
    block: Block, geometry: ParallelBeam, half: Tensor, views: slice, like: Tensor
) -> Tensor:
    column, value = _pixel_taps(block, geometry, half, views, slice(0, block.shape[0]), like)
    sets, taps = column.shape[2:]
    starts = torch.arange(math.prod(block.shape) + 1, device=like.device, dtype=torch.int32) * (sets * taps)
    return _csr(starts, column.flatten(), value.flatten(), (len(starts) - 1, sets * (geometry.n_det + 2 * taps)))


def _ray_taps(
    block: Block, geometry: ParallelBeam, views: slice, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What every ray reads in every row: columns and weights (R, detectors, rows, 2), left pixel (R, detectors, rows).

    Positions are in double precision whatever `like` is: single precision would move a ray by 1e-5 of a pixel.
    Rays beside the image read its zero columns.
    """
    (rows, cols), (dy, dx) = block.shape, block.pixel_mm
    cos, sin = (t[views].to(like.device)[:, None] for t in (block.cos, block.sin))
    place = functools.partial(torch.arange, dtype=torch.float64, device=like.device)
    u = (place(geometry.n_det) - (geometry.n_det - 1) / 2) * geometry.det_spacing_mm + geometry.det_offset_mm
    height = ((rows - 1) / 2 - place(rows)) * dy
    start = u / (cos * dx) + (cols - 1) / 2
    position = start[:, :, None] - (height * sin / (cos * dx))[:, None, :]
    left = position.clamp_(-_PAD, cols).floor()
    right_weight = position.sub_(left).mul_((dy / cos)[:, :, None])
    value = like.new_empty(*left.shape, 2)
    value[..., 1] = right_weight
    torch.sub((dy / cos)[:, :, None], right_weight, out=right_weight)
    value[..., 0] = right_weight
    column = torch.empty(*left.shape, 2, dtype=torch.int32, device=like.device)
    column[..., 0] = left + (place(rows) * (cols + 2 * _PAD) + _PAD)
    torch.add(column[..., 0], 1, out=column[..., 1])
    return column, value, left


def _pixel_taps(
    block: Block, geometry: ParallelBeam, half: Tensor, views: slice, part: slice, like: Tensor
) -> tuple[Tensor, Tensor]:
    """What every pixel of some image rows reads of some views: columns and weights (rows, cols, R, taps).

    half: half width of the triangle in bins for every view of the block. Its height is what makes its area
    dx dy, or one where `half` is not that of Joseph's weights (interpolation).
    """
    (rows, cols), (dy, dx) = block.shape, block.pixel_mm
    taps, spacing = _taps(half), geometry.det_spacing_mm
    joseph = bool((half == block.half_width(geometry)).all())
    cos, sin, half = (t[views].to(like.device) for t in (block.cos, block.sin, half))
    length = dy / cos if joseph else torch.ones_like(cos)
    place = functools.partial(torch.arange, dtype=torch.float64, device=like.device)
    x = (place(cols) - (cols - 1) / 2) * dx
    y = ((rows - 1) / 2 - place(rows)[part]) * dy
    middle = (geometry.n_det - 1) / 2 - geometry.det_offset_mm / spacing
    foot = (x[:, None] * cos / spacing + middle - half) + (y[:, None] * sin / spacing)[:, None, :]
    first = foot.clamp_(-taps - 1, geometry.n_det - 1).floor().add_(1)
    rise = torch.sub(first, foot, out=foot).div_(half).to(like.dtype)  # from the foot, in half widths
    value = like.new_empty(*rise.shape, taps)
    column = torch.empty(value.shape, dtype=torch.int32, device=like.device)
    base = place(len(cos)) * (geometry.n_det + 2 * taps) + taps
    length = length.to(like.dtype)
    for tap in range(taps):
        to_top = (rise + (tap / half - 1).to(like.dtype)).abs_()
        value[..., tap] = torch.sub(1, to_top, out=to_top).clamp_(min=0).mul_(length)
        column[..., tap] = first + (base + tap)
    return column, value


def _taps(half: Tensor) -> int:
    """The most bins that lie strictly inside a triangle of this half width."""
    return math.ceil(2 * float(half.max()) - 1e-9)


def _chunks(items: int, size: int, few: bool = True) -> Iterator[slice]:
    """Slices of `items` things, each of so many weights, that stay within the cache.

    few=False: one at a time rather than two to seven, for arrays whose last axis they are (short loops are slow).
    """
    step = max(1, _CHUNK // size)
    step = step if few or step > 7 else 1
    return (slice(start, min(start + step, items)) for start in range(0, items, step))


def _csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    _accept_csr()
    return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


@functools.cache
def _accept_csr() -> None:
    """Make the first CSR tensor of the process here, where torch's only remark on it can be taken back."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        one = torch.ones(1, dtype=torch.int32)
        torch.sparse_csr_tensor(one.new_tensor([0, 1]), one - 1, one.float(), (1, 1), check_invariants=False)
