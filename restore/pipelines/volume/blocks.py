"""A volume in slabs of slices that overlap, and their results joined again.

Called by the tasks and the job of `restore volume`. The cut depends on the volume's size alone, so that results do not
depend on memory, device or interruptions.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

VOXELS = 2**23
"""Of a slab without its margins: samplers hold about a dozen images of it."""

MARGIN = 8
"""Slices that a slab shows beyond its own on either side: what lies further has little say in a voxel."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Slices of the result: `own` are kept, `seen` are restored with them, margins included."""

    own: range
    seen: range

    @property
    def name(self) -> str:
        """Seeds its noise."""
        return f"slices {self.own.start}-{self.own.stop}"


def blocks_of(shape: tuple[int, ...], voxels: int = VOXELS, margin: int = MARGIN) -> list[Block]:
    """Slabs of about equal thickness, each of at most `voxels` voxels, or one slice. shape: (D, H, W)."""
    depth, plane = shape[0], shape[1] * shape[2]
    count = -(-depth // max(1, voxels // plane))
    ends = [round(depth * i / count) for i in range(count + 1)]
    return [
        Block(range(a, b), range(max(0, a - margin), min(depth, b + margin)))
        for a, b in itertools.pairwise(ends)
    ]


def join(
    blocks: Sequence[Block],
    part_of: Callable[[Block], NDArray[np.float32]],
    out: NDArray[np.float32],
    *,
    fade: bool,
) -> None:
    """Put slabs (..., seen, H, W) together in `out` (..., D, H, W), one in memory at a time.

    fade: from one slab to the next over all that both have seen; else cut where the one ends and the next begins, which
    keeps the spread of samples.
    """
    weights = [_weights(block, out.shape[-3], fade) for block in blocks]
    total = np.zeros(out.shape[-3])
    for block, weight in zip(blocks, weights, strict=True):
        total[list(block.seen)] += weight
    out[...] = 0
    for block, weight in zip(blocks, weights, strict=True):
        part = part_of(block)
        for k, i in enumerate(block.seen):
            if weight[k]:
                out[..., i, :, :] += np.float32(weight[k] / total[i]) * part[..., k, :, :]


def _weights(block: Block, depth: int, fade: bool) -> NDArray[np.float64]:
    """Of every slice seen: falling to the ends that have a neighbour, or 1 for its own slices alone."""
    seen = np.asarray(block.seen)
    if not fade or block.seen == block.own:
        return np.isin(seen, block.own).astype(np.float64)
    weights = np.ones(len(seen))
    if block.seen.start > 0:
        over = 2 * (block.own.start - block.seen.start)
        weights = np.minimum(weights, (seen + 0.5 - block.seen.start) / over)
    if block.seen.stop < depth:
        over = 2 * (block.seen.stop - block.own.stop)
        weights = np.minimum(weights, (block.seen.stop - seen - 0.5) / over)
    return weights
