"""Which views of a parallel-beam scan share their weights, up to a mirror image.

Mirroring the image in x, in y, or across its diagonal turns any view into one with cos > 0 and
sin >= 0 whose rays cross rows at least as fast as columns. Views that fall on the same angle that
way need one set of weights, applied to several orientations of the image: 180 views over half a
turn of a square image need 46 sets.

Called by the projection kernels and the stored matrices only. Pure functions and one small cache.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor

from restore.operators.ct.geometry import ParallelBeam

Orientation = tuple[bool, bool, bool]
"""(swap axes, flip rows, flip columns); the flips come first."""

_Key = tuple[tuple[int, int], tuple[float, float], float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Views that share weights and orientations.

    shape, pixel_mm: of the oriented image. cos, sin: (R,) float64 of the shared angles.
    views: (R, G) indices into the sinogram; view (r, g) is set r applied in orientation g.
    """

    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    orientations: tuple[Orientation, ...]
    cos: Tensor
    sin: Tensor
    views: Tensor


@functools.lru_cache(maxsize=32)
def blocks(geometry: ParallelBeam) -> tuple[Block, ...]:
    """Group the views of a scan by the weights they share; every view occurs once."""
    sets: dict[_Key, list[tuple[float, float, dict[Orientation, int]]]] = {}
    for view, theta in enumerate(geometry.angles):
        key, cos, sin, orientation = canonical(geometry, theta)
        layers = sets.setdefault(key, [])
        layer = next((known for known in layers if orientation not in known[2]), None)
        if layer is None:  # the first view at this angle, or the same view measured again
            layer = (cos, sin, {})
            layers.append(layer)
        layer[2][orientation] = view
    groups: dict[object, list[tuple[_Key, float, float, dict[Orientation, int]]]] = {}
    for key, layers in sets.items():
        for layer in layers:
            groups.setdefault((key[:2], frozenset(layer[2])), []).append((key, *layer))
    return tuple(_block(members) for members in groups.values())


def _block(members: list[tuple[_Key, float, float, dict[Orientation, int]]]) -> Block:
    (shape, pixel_mm, *_), _, _, first = members[0]
    orientations = tuple(sorted(first))
    return Block(
        shape,
        pixel_mm,
        orientations,
        cos=torch.tensor([cos for _, cos, _, _ in members], dtype=torch.float64),
        sin=torch.tensor([sin for _, _, sin, _ in members], dtype=torch.float64),
        views=torch.tensor([[views[o] for o in orientations] for *_, views in members]),
    )


def canonical(geometry: ParallelBeam, theta: float) -> tuple[_Key, float, float, Orientation]:
    """The shared set a view belongs to, its cosine and sine there, the orientation towards it."""
    shape, pitch = geometry.shape, geometry.pixel_mm
    cos, sin = math.cos(theta), math.sin(theta)
    mirror_y, mirror_x = sin < 0, cos < 0
    cos, sin = abs(cos), abs(sin)
    swap = sin * pitch[0] > cos * pitch[1] * (1 + 1e-9)  # crosses columns faster than rows
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
