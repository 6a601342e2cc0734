"""Masks in words: what is missing lies where it was said, and what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import label

from restore.errors import ConfigError
from restore.operators.image.masks import box, is_words, parse_mask, strokes


def missing(text: str, height: int = 40, width: int = 60, seed: int = 0) -> torch.Tensor:
    return parse_mask(text, height, width, seed) == 0


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("box:10", slice(15, 25), slice(25, 35)), ("box:20x8", slice(16, 24), slice(20, 40)),
        ("box:20x8+0+32", slice(32, 40), slice(0, 20)), ("box:60x39", slice(0, 39), slice(0, 60)),
    ],
)  # fmt: skip
def test_a_box_lies_in_the_middle_or_where_it_is_said(text, rows, columns):
    wanted = torch.zeros(40, 60, dtype=torch.bool)
    wanted[rows, columns] = True
    assert torch.equal(missing(text), wanted)
    assert torch.equal(box(40, 60, rows, columns) == 0, wanted)


def test_single_pixels_are_kept_by_their_share_and_seed():
    known = parse_mask("random:0.3", 200, 200)
    assert float(known.mean()) == pytest.approx(0.3, abs=0.015)  # six deviations of 40 000 draws
    assert torch.equal(known, parse_mask("random:0.3", 200, 200))
    assert not torch.equal(known, parse_mask("random:0.3", 200, 200, seed=1))
    noise = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    assert abs(float(torch.corrcoef(torch.stack([known.flatten(), noise.flatten()]))[0, 1])) < 0.03


def test_strokes_are_lines_of_a_brush():
    one = missing("strokes:1", 100, 120)
    assert label(one, structure=[[1, 1, 1]] * 3)[1] == 1
    share = [float(missing(f"strokes:{n}", 100, 120).float().mean()) for n in (1, 4, 12)]
    assert 0 < share[0] < share[1] < share[2] < 0.9
    g = torch.Generator().manual_seed(3)
    assert torch.equal(strokes(30, 30, 2, g), strokes(30, 30, 2, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("box", "is no box"), ("box:4x", "is no box"), ("box:0", "is not a part"), ("box:61x4", "is not a part"),
        ("box:60x40", "is not a part"), ("box:10x10+55+0", "is not a part"), ("strokes:x", "has no number"),
        ("strokes:0", "1 to 500"), ("strokes:501", "1 to 500"), ("random:1", "between 0 and 1"),
        ("random:nan", "between 0 and 1"), ("stroke:3", "did you mean"), ("mask.png", "unknown mask"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        missing(text)


def test_strokes_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="they cover a picture of 3 x 2 pixels"):
        missing("strokes:300", 2, 3)


def test_words_are_told_from_files():
    assert is_words("box:3")
    assert is_words("random:")
    assert not is_words("box.png")
    assert not is_words("masks/box:3.png")
