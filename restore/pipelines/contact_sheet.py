"""A contact sheet: pictures before and after, side by side and small, with their names, as one PNG.

Used by `restore image` for folders. Reads the pictures that it is given, writes the one file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from restore.datasets.atomic import atomic_file
from restore.datasets.open import read_image
from restore.errors import ConfigError

SIDE, GAP, CAPTION = 200, 10, 18
"""Pixels: the longest side of a small picture, the space between, the height of a name."""
MOST_PAIRS = 240
ACROSS = 3
"""Pairs in a row."""
_PAPER, _INK, _BEHIND = 245, 20, 0.5
_KEY, _VALUE = "Software", "restore contact sheet"


def draw_sheet(pairs: Sequence[tuple[str, Path, Path]], path: Path) -> int:
    """Draw (name, picture before, picture after) and return how many are shown: the first `MOST_PAIRS`.

    Both pictures of a pair are shown at one size; clear pixels lie on grey. Raises ConfigError for no pair, InputError,
    OutputError.
    """
    if not pairs:
        raise ConfigError("a contact sheet needs a pair of pictures, got none")
    shown = pairs[:MOST_PAIRS]
    across = min(ACROSS, len(shown))
    wide, tall = 2 * SIDE + 3 * GAP, SIDE + CAPTION + GAP
    rows = math.ceil(len(shown) / across)
    sheet = Image.new("RGB", (across * wide + GAP, rows * tall + GAP), (_PAPER,) * 3)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for i, (name, before, after) in enumerate(shown):
        left, top = GAP + i % across * wide, GAP + i // across * tall
        for column, file in enumerate((before, after)):
            small = _small(file)
            x = left + column * (SIDE + GAP) + (SIDE - small.width) // 2
            sheet.paste(small, (x, top + (SIDE - small.height) // 2))
        pen.text((left, top + SIDE + 2), _caption(name), fill=(_INK,) * 3, font=font)
    note = PngImagePlugin.PngInfo()
    note.add_text(_KEY, _VALUE)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG", pnginfo=note)
    return len(shown)


def is_contact_sheet(path: Path) -> bool:
    """Whether a file is a sheet that `draw_sheet` drew."""
    try:
        with Image.open(path, formats=("PNG",)) as found:
            return found.info.get(_KEY) == _VALUE
    except (OSError, ValueError, SyntaxError):
        return False


def _small(file: Path) -> Image.Image:
    """The picture with its longest side of `SIDE` pixels, enlarged by whole pixels where it is smaller."""
    picture = read_image(file)
    values = picture.data
    if picture.alpha is not None:
        values = values * picture.alpha + _BEHIND * (1 - picture.alpha)
    pixels = np.rint(255 * values.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(n * scale)) for n in image.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((size[0], size[1]), how)


def _caption(name: str) -> str:
    """A name in the letters that the built-in font has, the middle left out where it is long."""
    most = 2 * SIDE // 7
    plain = name.encode("latin-1", "replace").decode("latin-1")
    return plain if len(plain) <= most else f"{plain[: most // 2 - 2]}...{plain[-most // 2 + 1 :]}"
