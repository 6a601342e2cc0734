"""Which views of a parallel-beam scan share their weights, because they see mirrored images at one angle.

Mirroring the image in x, in y, or across its diagonal turns any view into one with cos > 0, sin >= 0 whose rays cross
rows at least as fast as columns. Views that fall on the same angle that way need one set of weights, applied to
several orientations of the image: 180 views over half a turn of a square image need 46 sets.

Called by the projection kernels only. Pure functions and one small cache.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor

from restore.operators.geometry import ParallelBeam

Orientation = tuple[bool, bool, bool]
"""(swap axes, flip rows, flip columns); the flips come first."""


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Views that share weights and orientations: view (r, g) is set r applied to the image in orientation g.

    shape, pixel_mm: of the oriented image. cos, sin: (R,) float64 of the shared angles. views: (R, G) indices into
    the sinogram.
    """

    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    orientations: tuple[Orientation, ...]
    cos: Tensor
    sin: Tensor
    views: Tensor

    def half_width(self, geometry: ParallelBeam) -> Tensor:
        """Half the width of a pixel's triangle in detector bins, (R,)."""
        return self.cos * self.pixel_mm[1] / geometry.det_spacing_mm


@functools.lru_cache(maxsize=32)
def blocks(geometry: ParallelBeam) -> tuple[Block, ...]:
    """Group the views of a scan by the weights they share; every view occurs once."""
    sets: dict[tuple[object, ...], list[tuple[float, float, dict[Orientation, int]]]] = {}
    for view, theta in enumerate(geometry.angles):
        key, cos, sin, orientation = _canonical(geometry, theta)
        layers = sets.setdefault(key, [])
        layer = next((known for known in layers if orientation not in known[2]), None)
        if layer is None:  # the first view at this angle, or the same view measured again
            layer = (cos, sin, {})
            layers.append(layer)
        layer[2][orientation] = view
    groups: dict[tuple[object, ...], list[tuple[float, float, list[int]]]] = {}
    for key, layers in sets.items():
        for cos, sin, members in layers:
            order = tuple(sorted(members))
            groups.setdefault((key[0], key[1], order), []).append((cos, sin, [members[o] for o in order]))
    return tuple(_block(key, members) for key, members in groups.items())


def _block(key: tuple, members: list[tuple[float, float, list[int]]]) -> Block:
    cos, sin, views = zip(*members, strict=True)
    as_float = functools.partial(torch.tensor, dtype=torch.float64)
    return Block(*key, as_float(cos), as_float(sin), torch.tensor(views))


def _canonical(
    geometry: ParallelBeam, theta: float
) -> tuple[tuple[object, ...], float, float, Orientation]:
    """The shared set a view belongs to, its cosine and sine there, and the orientation that leads there."""
    shape, pitch = geometry.shape, geometry.pixel_mm
    cos, sin = math.cos(theta), math.sin(theta)
    mirror_y, mirror_x = sin < 0, cos < 0
    cos, sin = abs(cos), abs(sin)
    swap = sin * pitch[0] > cos * pitch[1] * (1 + 1e-9)  # the ray crosses columns faster than rows
    if swap:
        cos, sin, shape, pitch = sin, cos, shape[::-1], pitch[::-1]
    # Row 0 is +y: exchanging x and y mirrors both axes of the array before it is transposed.
    orientation = (swap, mirror_y != swap, mirror_x != swap)
    return (shape, pitch, round(cos, 12), round(sin, 12)), cos, sin, orientation


def orient(x: Tensor, orientation: Orientation) -> Tensor:
    """An image (*, ny, nx) mirrored and transposed into a block's frame."""
    swap, rows, columns = orientation
    x = x.flip([axis for axis, flipped in ((-2, rows), (-1, columns)) if flipped])
    return x.mT if swap else x


def unorient(x: Tensor, orientation: Orientation) -> Tensor:
    """The inverse of `orient`."""
    swap, rows, columns = orientation
    x = x.mT if swap else x
    return x.flip([axis for axis, flipped in ((-2, rows), (-1, columns)) if flipped])
