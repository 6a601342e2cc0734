"""PNG files: 8 bits and fewer by Pillow, 16 bits, which it would cut to 8 where there is colour, by `png16`.

The transparent level of grey below 8 bits comes from its chunk too: Pillow loses it, or compares it unscaled.

Called by `images` only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from restore.datasets.picture import png16
from restore.datasets.picture.raster import Raster
from restore.datasets.picture.tags import tags_of

_USUAL_GAMMA = 0.02
"""Files say 0.45, 0.4545, 0.4549 and 1/2.2: the same curve to the eye."""


def decode(file: Path, picture: Image.Image) -> Raster:
    """The picture, the first one of an animation."""
    notes: list[str] = []
    pictures = int(getattr(picture, "n_frames", 1))
    if pictures > 1:
        notes.append(f"the file is an animation of {pictures} pictures: the first was taken")
    content = file.read_bytes()
    head = png16.header_of(content)
    tags, orientation, found = tags_of(picture)
    chunks = png16.before_pixels(content)
    notes += [*found, *_light(chunks)]
    if head.bits == 16:
        values, has_alpha = png16.decode(content)
        return Raster(values, 16, has_alpha, orientation=orientation, tags=tags, notes=tuple(notes))
    picture.load()
    png16.check_whole(content)
    clear = "transparency" in picture.info
    if picture.mode in ("P", "PA"):
        notes.append("palette converted to RGB")
        picture = picture.convert("RGBA" if clear or picture.mode == "PA" else "RGB")
    elif head.colour == 0 and head.bits < 8:
        picture = _few_greys(picture, head.bits, chunks.get(b"tRNS", b""))
    elif picture.mode in ("L", "RGB") and clear:
        picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
    values = np.asarray(picture)
    return Raster(
        values.reshape(*values.shape[:2], -1), 8, picture.mode in ("LA", "RGBA"),
        orientation=orientation, tags=tags, notes=tuple(notes),
    )  # fmt: skip


def _few_greys(picture: Image.Image, bits: int, level: bytes) -> Image.Image:
    """Grey of 1, 2 or 4 bits as 8 bits, with alpha where one level (two bytes, big-endian) is transparent."""
    grey = picture.convert("L")
    if len(level) != 2:
        return grey
    clear = np.asarray(grey) == int.from_bytes(level, "big") * 255 // (2**bits - 1)
    return Image.merge("LA", (grey, Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))))


def _light(chunks: dict[bytes, bytes]) -> list[str]:
    """Notes on values that are not meant as a screen's usual ones: they are restored as they are stored."""
    as_stored = "the values are restored as they are stored, and the result does not say so"
    if b"cICP" in chunks:
        primaries, transfer = (*chunks[b"cICP"], 0, 0)[:2]
        kind = {16: "HDR, PQ", 18: "HDR, HLG"}.get(transfer, f"transfer {transfer}")
        if (primaries, transfer) != (1, 13):  # sRGB
            return [
                f"the file's colours are of another kind (cICP: {kind}, primaries {primaries}): {as_stored}"
            ]
        return []
    if b"iCCP" in chunks or b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return []
    gamma = int.from_bytes(chunks[b"gAMA"], "big") / 1e5
    if abs(gamma - 1 / 2.2) < _USUAL_GAMMA:
        return []
    linear = " (linear light)" if abs(gamma - 1) < _USUAL_GAMMA else ""
    return [f"the file's gamma is {gamma:.3g}{linear}, not the usual 0.455: {as_stored}"]
