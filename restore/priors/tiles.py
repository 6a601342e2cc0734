"""Images too large for a network in one piece: cut into overlapping tiles, answered one by one, joined without seams.

Called by image and conditional priors for planes above `TILED_ABOVE` pixels; touches no files. Tiles begin at multiples
of 64 in the plane, so that a network that shrinks its images sees the same grid in a tile as in the whole. Where
two tiles overlap their answers are mixed by a window that rises smoothly from zero at the border of each, where a
network knows only one side. Nothing is random: the same plane is cut in the same way at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TILED_ABOVE = 2**21
"""Pixels of a plane that still goes through in one piece: 2 GB of activations for the bundled U-Net."""
SIDE, OVERLAP = 1216, 192
"""Pixels, multiples of 64. A tile takes 1.4 GB of activations in the bundled U-Net, whose answer at a pixel depends on
94 pixels around it: half of the overlap. With an overlap of 128 seams of 4e-3 showed at noise of 5."""
_MARGIN = 80
"""Pixels along a tile's border that do not count at all: the window rises after them."""

Network = Callable[..., tuple[Tensor, ...]]


def tiled(network: Network) -> Network:
    """The network for planes of any size: planes (N, C, H, W) above `TILED_ABOVE` pixels go through in tiles.

    Smaller ones go through untouched. With gradients a tile's activations are computed again on the way back, so that
    memory stays bounded there too.
    """

    def through(*planes: Tensor) -> tuple[Tensor, ...]:
        if planes[0].shape[-2] * planes[0].shape[-1] <= TILED_ABOVE:
            return network(*planes)
        return _in_tiles(network, planes)

    return through


def tile_starts(length: int) -> list[int]:
    """First pixels of the tiles along an axis of `length` pixels; the last tile ends with the axis."""
    return list(range(0, max(length - OVERLAP, 1), SIDE - OVERLAP))


def _in_tiles(network: Network, planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    height, width = planes[0].shape[-2:]
    joined: tuple[Tensor, ...] = ()
    for top in tile_starts(height):
        rows = slice(top, min(top + SIDE, height))
        for left in tile_starts(width):
            columns = slice(left, min(left + SIDE, width))
            answers = _answered(network, [p[..., rows, columns] for p in planes])
            window = _window(rows, height, answers[0])[:, None] * _window(columns, width, answers[0])  # fmt: skip
            if not joined:
                joined = tuple(a.new_zeros(*a.shape[:-2], height, width) for a in answers)
            for whole, answer in zip(joined, answers, strict=True):
                whole[..., rows, columns] += window * answer
    return joined


def _answered(network: Network, tile: list[Tensor]) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled() and any(p.requires_grad for p in tile):
        answer: tuple[Tensor, ...] = checkpoint(network, *tile, use_reentrant=False)
        return answer
    return network(*tile)


def _window(part: slice, length: int, like: Tensor) -> Tensor:
    """Weights along one axis of a tile; those of all tiles sum to one at every pixel."""
    size = part.stop - part.start
    place = torch.arange(size, dtype=torch.float64) + 0.5
    weights = torch.ones(size, dtype=torch.float64)
    if part.start > 0:
        weights *= _rise(place)
    if part.stop < length:
        weights *= _rise(size - place)
    return weights.to(like)


def _rise(distance: Tensor) -> Tensor:
    """From 0 at a tile's border to 1 where the neighbour ends; rise(d) + rise(OVERLAP - d) = 1."""
    t = ((distance - _MARGIN) / (OVERLAP - 2 * _MARGIN)).clamp(0, 1)
    return t * t * (3 - 2 * t)
