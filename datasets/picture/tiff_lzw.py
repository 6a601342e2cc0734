"""LZW-compressed TIFF pages of 8, 16 and 32 bits per channel, as editors of photographs write them.

Called by `tiff` only. Pillow unpacks the bytes: every strip or tile is shown to it as a grey picture of 8 bits whose
rows are the bytes of the page's rows; the predictor is undone here (TIFF 6.0, sections 13 and 14; Adobe's technical
note 3 for floats). Touches the one file it is given.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

LZW = 5
_PLAIN, _DIFFERENCES, _FLOATS = 1, 2, 3
"""Predictors."""
_SHORT, _LONG = 3, 4


def is_lzw(page: tifffile.TiffPage) -> bool:
    """Whether this module unpacks the page: LZW of whole bytes, most significant bit first."""
    whole = page.dtype is not None and 8 * page.dtype.itemsize == int(page.bitspersample)
    return (
        int(page.compression) == LZW and whole and int(page.fillorder) == 1 and page.imagedepth == 1
    )


def unpacked(file: Path, page: tifffile.TiffPage) -> NDArray[Any]:
    """The values of the page, (H, W, C). Raises ValueError and OSError for damaged files."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    planes = samples if int(page.planarconfig) == 2 and samples > 1 else 1
    each = samples // planes
    tall = page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
    wide = page.tilewidth if page.is_tiled else width
    down, across = -(-height // tall), -(-width // wide)
    values = np.zeros((planes, down * tall, across * wide, each), page.dtype)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(parts) != planes * down * across:
        raise ValueError(f"{len(parts)} parts, expected {planes * down * across}")
    with file.open("rb") as stream:
        for i, (offset, count) in enumerate(parts):
            plane, place = divmod(i, down * across)
            row, column = (
                n * size for n, size in zip(divmod(place, across), (tall, wide), strict=True)
            )
            rows = tall if page.is_tiled else min(tall, height - row)
            stream.seek(offset)
            block = _block(stream.read(count), rows, wide, each, page)
            values[plane, row : row + rows, column : column + wide] = block
    return np.concatenate(list(values[:, :height, :width]), axis=-1)


def _block(
    packed: bytes, rows: int, width: int, samples: int, page: tifffile.TiffPage
) -> NDArray[Any]:
    """The values (rows, width, samples) of one strip or tile."""
    stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    line = width * samples * stored.itemsize
    raw = np.asarray(Image.open(io.BytesIO(_as_picture(packed, line, rows)), formats=("TIFF",)))
    predictor = int(page.predictor)
    if predictor == _FLOATS:
        summed = np.cumsum(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        parts = summed.reshape(rows, stored.itemsize, width * samples).swapaxes(1, 2)
        return (
            np.ascontiguousarray(parts).view(stored.newbyteorder(">")).reshape(rows, width, samples)
        )
    values = np.ascontiguousarray(raw).view(stored).reshape(rows, width, samples)
    if predictor == _DIFFERENCES:
        return np.cumsum(values, axis=1, dtype=page.dtype)
    if predictor != _PLAIN:
        raise ValueError(f"unknown predictor {predictor}")
    return values


def _as_picture(packed: bytes, width: int, height: int) -> bytes:
    """A TIFF file of one strip, grey, 8 bits, LZW."""
    tags = (
        (256, _LONG, width), (257, _LONG, height), (258, _SHORT, 8), (259, _SHORT, LZW), (262, _SHORT, 1),
        (273, _LONG, 8), (277, _SHORT, 1), (278, _LONG, height), (279, _LONG, len(packed)),
    )  # fmt: skip
    body = packed + b"\0" * (len(packed) % 2)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory
