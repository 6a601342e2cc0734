"""Masks of known pixels in words: a box, strokes of a brush, single pixels at random.

Called by the command line, training figures and benchmarks; makes masks (H, W) of 0 and 1, 1 where a pixel is known,
and knows nothing of files.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from restore.config import did_you_mean
from restore.errors import ConfigError
from restore.randomness import Draws

WORDS = ("box", "strokes", "random")
FORMS = "box:SIDE, box:WIDTHxHEIGHT, box:WIDTHxHEIGHT+LEFT+TOP, strokes:COUNT or random:KEPT"
_BOX = re.compile(r"(\d+)(?:x(\d+)(?:\+(\d+)\+(\d+))?)?")
_PARTS, _MOST = 6, 500
"""Straight parts of a stroke; strokes of a mask."""


def is_words(text: str) -> bool:
    """Whether a text names a mask in words, right or wrong, rather than a file."""
    return text.partition(":")[0] in WORDS and ":" in text


def parse_mask(text: str, height: int, width: int, seed: int = 0) -> Tensor:
    """The mask of one of FORMS for a picture; seed: of strokes and of single pixels. Raises ConfigError.

    box: what is missing, in the middle where no place is given. strokes: so many lines of a brush are missing.
    random: this share of the pixels is known.
    """
    word, _, value = text.partition(":")
    if word not in WORDS:
        raise ConfigError(f"unknown mask '{text}'{did_you_mean(word, WORDS)}; give a file, {FORMS}")
    if word == "box":
        return _parsed_box(text, value, height, width)
    # A stream of its own: noise drawn of the same seed must not know the mask.
    generator = torch.Generator().manual_seed(*Draws(seed, ["mask"]).seeds)
    try:
        if word == "strokes":
            return strokes(height, width, int(value), generator)
        share = float(value)
    except ValueError as error:
        raise ConfigError(f"the mask '{text}' has no number; write {FORMS}") from error
    if not 0 < share < 1:
        raise ConfigError(
            f"the mask '{text}' keeps a share of {share:g}; it must lie between 0 and 1"
        )
    return (torch.rand(height, width, generator=generator) < share).float()


def box(height: int, width: int, rows: slice, columns: slice) -> Tensor:
    """A rectangle is missing. Raises ConfigError where it lies outside, and where nothing is left."""
    inside = 0 <= rows.start < rows.stop <= height and 0 <= columns.start < columns.stop <= width
    mask = torch.ones(height, width)
    if inside:
        mask[rows, columns] = 0
    if not inside or not bool(mask.any()):
        raise ConfigError(
            f"a box of columns {columns.start} to {columns.stop} and rows {rows.start} to {rows.stop} is not a part of "
            f"a picture of {width} x {height} pixels"
        )
    return mask


def strokes(height: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    """Lines of a brush are missing: bent, of rounded ends, a few hundredths of the shorter side wide.

    Free-form masks in the manner of Yu and others, "Free-form image inpainting with gated convolution", ICCV 2019; the
    lengths, turns and widths are ours. Raises ConfigError for a count that is not 1 to 500, or where nothing is left.
    """
    if not 1 <= count <= _MOST:
        raise ConfigError(f"strokes:{count}: a mask takes 1 to {_MOST} strokes")
    size = min(height, width)
    grid = torch.stack(
        torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    )
    missing = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(count):
        first = torch.rand(3, generator=generator)
        at = first[:2] * torch.tensor([height, width])
        angle = 2 * math.pi * float(first[2])
        brush = size * (0.02 + 0.04 * float(torch.rand((), generator=generator)))
        for turn, reach in torch.rand(_PARTS, 2, generator=generator).tolist():
            angle += (turn - 0.5) * 0.6 * math.pi
            step = size * (0.05 + 0.1 * reach) * torch.tensor([math.sin(angle), math.cos(angle)])
            missing |= _distance(grid, at, step) <= brush
            at = at + step
    if bool(missing.all()):
        raise ConfigError(f"strokes:{count}: they cover a picture of {width} x {height} pixels")
    return (~missing).float()


def _distance(grid: Tensor, at: Tensor, step: Tensor) -> Tensor:
    """Of every pixel to the line from `at` to `at + step`."""
    offset = grid - at[:, None, None]
    along = (offset * step[:, None, None]).sum(0) / step.square().sum()
    return (offset - along.clamp(0, 1) * step[:, None, None]).norm(dim=0)


def _parsed_box(text: str, value: str, height: int, width: int) -> Tensor:
    found = _BOX.fullmatch(value)
    if found is None:
        raise ConfigError(f"the mask '{text}' is no box; write {FORMS}")
    wide, high, left, top = (None if g is None else int(g) for g in found.groups())
    wide, high = int(wide or 0), int(wide or 0) if high is None else high
    left = (width - wide) // 2 if left is None else left
    top = (height - high) // 2 if top is None else top
    return box(height, width, slice(top, top + high), slice(left, left + wide))
