"""JPEG files, a phone's several-picture files (MPO) among them, by Pillow.

Called by `images` only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from restore.datasets.picture.raster import Raster
from restore.datasets.picture.tags import tags_of
from restore.errors import InputError


def decode(file: Path, picture: Image.Image) -> Raster:
    """The first picture of the file. Raises InputError for colours that are neither grey nor RGB."""
    notes = []
    pictures = int(getattr(picture, "n_frames", 1))
    if pictures > 1:
        notes.append(f"the file holds {pictures} pictures: the first was taken")
        picture.seek(0)
    picture.load()
    if picture.mode not in ("L", "RGB"):
        why = f"{picture.mode} colours (inks), expected grey or RGB"
        raise InputError(file, why, "convert it to RGB with the profile of its press")
    tables = getattr(picture, "quantization", None) or {}
    steps = tuple(int(v) for v in tables[min(tables)]) if tables else None
    tags, orientation, found = tags_of(picture)
    values = np.asarray(picture)
    return Raster(
        values.reshape(*values.shape[:2], -1), 8, orientation=orientation, tags=tags, quantisation=steps,
        notes=(*notes, *found),
    )  # fmt: skip
