"""TIFF files by tifffile, at every depth; compressions that need more than it has, by Pillow where that loses nothing.

Called by `images` only.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restore.datasets.picture.raster import Raster
from restore.datasets.picture.tags import tags_of
from restore.errors import InputError

_WHITE, _BLACK, _RGB, _PALETTE = 0, 1, 2, 3
_NAMED = {
    4: "a transparency mask", 5: "CMYK colours (inks)", 6: "YCbCr colours in this compression", 8: "CIE Lab colours",
    9: "ICC Lab colours", 10: "ITU Lab colours", 32803: "a sensor's raw mosaic (CFA)", 34892: "linear raw data",
    32844: "LogL values", 32845: "LogLuv colours",
}  # fmt: skip
_CONVERT = "convert it to RGB or grey"
_BY_PILLOW = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2, "P": 1, "1": 1}
_PREMULTIPLIED, _UNSPECIFIED = 1, 0


def decode(file: Path, picture: Image.Image) -> Raster:
    """The first page. picture: the file opened by Pillow, for its tags. Raises InputError for what is not served."""
    with tifffile.TiffFile(file) as pages:
        page = pages.pages.first
        notes = _notes_on_pages(pages)
        tags, orientation, found = tags_of(picture)
        kind = int(page.photometric)
        try:
            values = page.asarray()
        except ValueError as cause:
            if "imagecodecs" not in str(cause):
                raise
            return _by_pillow(file, picture, page, (*notes, *found))
        if kind not in (_WHITE, _BLACK, _RGB, _PALETTE):
            raise InputError(file, _NAMED.get(kind, f"photometric interpretation {kind}"), _CONVERT)
        values, bits = _as_stored(file, page, values)
        if kind == _PALETTE:
            table = np.asarray(page.colormap)  # (3, entries) of 16 bits
            values, bits = table[:, values[..., 0]].transpose(1, 2, 0), 16
            notes.append("palette converted to RGB")
    colours = 1 if kind in (_WHITE, _BLACK) else 3
    extra = tuple(int(e) for e in (page.extrasamples or ()))
    has_alpha = values.shape[-1] == colours + 1
    if values.shape[-1] not in (colours, colours + 1):
        why = f"{values.shape[-1]} bands, expected grey or RGB, with or without alpha"
        raise InputError(file, why, _CONVERT)
    if has_alpha and extra[:1] in ((), (_UNSPECIFIED,)):
        notes.append("the file does not say what its last band is: taken as alpha")
    return Raster(
        values, bits, has_alpha, premultiplied=extra[:1] == (_PREMULTIPLIED,), inverted=kind == _WHITE,
        orientation=orientation, tags=tags, notes=(*notes, *found),
    )  # fmt: skip


def _notes_on_pages(pages: tifffile.TiffFile) -> list[str]:
    """Pages that are no smaller copies of the first one."""
    others = [p for p in list(pages.pages)[1:] if not int(getattr(p, "subfiletype", 0) or 0) & 1]
    return [f"the file holds {len(others) + 1} pages: the first was taken"] if others else []


def _as_stored(
    file: Path, page: tifffile.TiffPage, values: NDArray[Any]
) -> tuple[NDArray[Any], int]:
    """(H, W, C) and bits per value. Raises InputError for stacks, signed, complex and non-finite values."""
    axes = page.axes
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    elif axes == "YX":
        values = values[..., None]
    elif axes != "YXS":
        why = f"a stack of slices (axes {axes}, {values.shape})"
        raise InputError(file, why, "give one picture per file")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or float(values.min()) < 0:
            lowest = float(np.nanmin(values))
            why = f"values that are negative or not finite (lowest {lowest:g})"
            raise InputError(file, why, "expected zero and more")
        return values, 32
    if values.dtype.kind not in "ub":
        raise InputError(file, f"values of type {values.dtype}", "expected unsigned integers or floats")  # fmt: skip
    return values, min(int(page.bitspersample), 8 * values.dtype.itemsize)


def _by_pillow(
    file: Path, picture: Image.Image, page: tifffile.TiffPage, notes: tuple[str, ...]
) -> Raster:
    """Pillow's reading of 8-bit pixels: it turns them upright and white-is-zero over by itself."""
    compression = getattr(page.compression, "name", page.compression)
    tags, _, _ = tags_of(picture)
    if picture.mode not in _BY_PILLOW or max(np.atleast_1d(page.bitspersample)) > 8:
        how = f"{page.bitspersample} bits in {compression} compression, which needs the package imagecodecs"
        raise InputError(file, how, "install imagecodecs, or save the picture uncompressed")
    picture.load()
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGB" if picture.mode == "P" else "L")
    values = np.asarray(picture)
    values = values.reshape(*values.shape[:2], -1)
    return Raster(values, 8, values.shape[-1] in (2, 4), tags=tags, notes=notes)


def resolution_of(dpi: tuple[float, float] | None) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` for a resolution."""
    if dpi is None or not all(math.isfinite(v) for v in dpi):
        return {}
    return {"resolution": dpi, "resolutionunit": 2}
