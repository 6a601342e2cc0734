"""Masks of missing pixels from pictures: which pixels are known, and what is odd about the mask.

May be called by the pipelines and the command line. Touches the one file it is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.open import read_image
from restore.datasets.picture.images import Picture
from restore.datasets.picture.raster import TURNED
from restore.errors import InputError

KNOWN = 0.5
"""Of white, or of opaque: from here on a pixel is known."""
BLACK, WHITE = 0.1, 0.9
"""Between them a value is neither; JPEG files and smoothed edges lie nearer to the ends."""


def read_mask(path: str | Path, photo: Picture) -> tuple[NDArray[np.float32], list[str]]:
    """A mask as (H, W) of 0 and 1, 1 where a pixel of `photo` is known, and notes on what looks odd.

    White (at least half) is known; of colours their mean counts. A mask with transparency is its own mask: clear
    pixels are missing. Raises InputError where no pixel is known, NotFoundError.
    """
    picture = read_image(path)
    values = picture.data.mean(0) if picture.alpha is None else picture.alpha[0]
    known, notes = values >= KNOWN, []
    if not known.any():
        top = float(values.max())
        how = "save it with 255 for known pixels and 0 for missing ones"
        raise InputError(picture.source, f"a mask without a known pixel: its brightest value is {top:.3g} of white",
                         how)  # fmt: skip
    if picture.alpha is not None:
        notes.append(
            "the mask has transparency: its clear pixels are missing, its colours do not count"
        )
    elif (picture.data != picture.data[:1]).any():
        notes.append("the mask has colours: pixels whose mean is half of white or more are known")
    if TURNED in photo.notes and TURNED not in picture.notes:
        notes.append(
            "the picture was turned upright as its tag says; the mask has no such tag and was taken as upright"
        )
    between = float(((values > BLACK) & (values < WHITE)).mean())
    if between:
        notes.append(
            f"{between:.2%} of the mask is neither black nor white: from half of white on pixels are known"
        )
    if known.all():
        notes.append("the mask is white everywhere: no pixel is missing, nothing is filled in")
    elif _looks_inverted(photo.data, known):
        notes.append(
            "what the mask calls known is one colour, and the picture is in what it calls missing: is it inverted? "
            "white is known"
        )
    return known.astype(np.float32), notes


def _looks_inverted(photo: NDArray[np.float32], known: NDArray[np.bool_]) -> bool:
    """Whether all known pixels are alike and the missing ones are not."""
    if photo.shape[-2:] != known.shape:
        return False  # refused by the operator, which names both sizes

    def alike(pixels: NDArray[np.float32]) -> bool:
        return bool((pixels == pixels[:, :1]).all())

    return alike(photo[:, known]) and not alike(photo[:, ~known])
