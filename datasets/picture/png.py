"""PNG files: 8 bits and fewer by Pillow, 16 bits, which it would cut to 8 where there is colour, by `png16`.

Called by `images` only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from restore.datasets.picture import png16
from restore.datasets.picture.raster import Raster
from restore.datasets.picture.tags import tags_of
from restore.errors import InputError


def decode(file: Path, picture: Image.Image) -> Raster:
    """The picture, the first one of an animation. Raises InputError for interlaced files of 16 bits."""
    notes: list[str] = []
    pictures = int(getattr(picture, "n_frames", 1))
    if pictures > 1:
        notes.append(f"the file is an animation of {pictures} pictures: the first was taken")
    with file.open("rb") as stream:
        head = png16.header_of(stream.read(33))
    tags, orientation, found = tags_of(picture)
    notes += found
    if head.bits == 16:
        if head.interlaced:
            raise InputError(file, "an interlaced PNG of 16 bits", "save it without interlacing")
        values, has_alpha = png16.decode(file.read_bytes())
        return Raster(values, 16, has_alpha, orientation=orientation, tags=tags, notes=tuple(notes))
    picture.load()
    clear = "transparency" in picture.info
    if picture.mode in ("P", "PA"):
        notes.append("palette converted to RGB")
        picture = picture.convert("RGBA" if clear or picture.mode == "PA" else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("L", "RGB") and clear:
        picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
    values = np.asarray(picture)
    return Raster(
        values.reshape(*values.shape[:2], -1), 8, picture.mode in ("LA", "RGBA"),
        orientation=orientation, tags=tags, notes=tuple(notes),
    )  # fmt: skip
