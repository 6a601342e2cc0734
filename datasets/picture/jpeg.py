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

_FRAMES = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA), ""),
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS picture",
}
"""Markers that begin a frame: what Pillow does not read, "" for what it does at 8 bits."""


def decode(file: Path, picture: Image.Image) -> Raster:
    """The first picture of the file. Raises InputError for colours that are neither grey nor RGB, and damaged data."""
    notes = []
    pictures = int(getattr(picture, "n_frames", 1))
    if pictures > 1:
        notes.append(f"the file holds {pictures} pictures: the first was taken")
        picture.seek(0)
    picture.load()
    if picture.mode not in ("L", "RGB"):
        why = f"{picture.mode} colours (inks), expected grey or RGB"
        raise InputError(file, why, "convert it to RGB with the profile of its press")
    from restore.datasets.picture.jpeg_damage import notes_of  # brings numba

    notes += notes_of(file, file.read_bytes())
    tables = getattr(picture, "quantization", None) or {}
    steps = tuple(int(v) for v in tables[min(tables)]) if tables else None
    tags, orientation, found = tags_of(picture)
    values = np.asarray(picture)
    return Raster(
        values.reshape(*values.shape[:2], -1), 8, orientation=orientation, tags=tags, quantisation=steps,
        notes=(*notes, *found),
    )  # fmt: skip


def unreadable_kind(head: bytes) -> str:
    """What kind of JPEG a file is that Pillow cannot read, by its frame marker; "" for the usual ones and no JPEG."""
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            bits = head[at + 4]
            return _FRAMES[marker] or (f"a JPEG of {bits} bits per channel" if bits != 8 else "")
        at += 1 if marker == 0xFF else 2 + length
    return ""
