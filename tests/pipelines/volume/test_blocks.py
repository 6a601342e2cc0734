"""Volumes in slabs that overlap, and their results joined."""

from __future__ import annotations

import numpy as np
import pytest

from restore.pipelines.volume.blocks import blocks_of, join


@pytest.mark.parametrize("margin", [0, 2, 8])
@pytest.mark.parametrize("fade", [False, True])
def test_joined_parts_of_a_volume_are_the_volume(margin: int, fade: bool) -> None:
    """Also where margins are wider than slabs, so that more than two overlap."""
    volume = np.random.default_rng(0).standard_normal((2, 23, 4, 5)).astype(np.float32)
    blocks = blocks_of(volume.shape[1:], voxels=5 * 20, margin=margin)
    assert [i for block in blocks for i in block.own] == list(range(23))
    assert max(len(block.own) for block in blocks) <= 5
    out = np.full_like(volume, np.nan)
    join(blocks, lambda b: volume[:, b.seen.start : b.seen.stop], out, fade=fade)
    # Weights of at most five slabs, rounded to single precision, add up to one.
    np.testing.assert_allclose(out, volume, rtol=1e-5)


def test_a_fade_has_no_step_and_a_cut_keeps_each_slab() -> None:
    blocks = blocks_of((20, 2, 2), voxels=40, margin=4)
    values = {block: float(k) for k, block in enumerate(blocks)}
    assert len(blocks) == 2

    def part(block):
        return np.full((1, len(block.seen), 2, 2), values[block], np.float32)

    faded, cut = np.empty((2, 1, 20, 2, 2), np.float32)
    join(blocks, part, faded, fade=True)
    join(blocks, part, cut, fade=False)
    assert np.abs(np.diff(faded[0, :, 0, 0])).max() < 0.2
    assert cut[0, :, 0, 0].tolist() == [0.0] * 10 + [1.0] * 10


def test_one_slice_larger_than_a_slab_is_a_slab() -> None:
    assert [len(block.own) for block in blocks_of((3, 9, 9), voxels=10)] == [1, 1, 1]
