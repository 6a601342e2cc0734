"""TIFF files by tifffile, at every depth; compressions that need more than it has, by Pillow where that loses nothing.

LZW of whole bytes by `tiff_lzw`. Cameras' raw files have a TIFF structure around a small picture: named, not read.

Called by `images` only.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restore.datasets.budget import check_budget
from restore.datasets.picture import tiff_lzw
from restore.datasets.picture.raster import TURNED, Raster, Tags
from restore.datasets.picture.tags import PROFILE_KEPT, tags_of
from restore.errors import InputError

_WHITE, _BLACK, _RGB, _PALETTE = 0, 1, 2, 3
_NAMED = {
    4: "a transparency mask", 5: "CMYK colours (inks)", 6: "YCbCr colours in this compression", 8: "CIE Lab colours",
    9: "ICC Lab colours", 10: "ITU Lab colours", 32803: "a sensor's raw mosaic (CFA)", 34892: "linear raw data",
    32844: "LogL values", 32845: "LogLuv colours",
}  # fmt: skip
_CONVERT = "convert it to RGB or grey"
_TWELVE = ("I;16", "I;16B")
_BY_PILLOW = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2, "P": 1, "1": 1}
_PREMULTIPLIED, _UNSPECIFIED = 1, 0
_YCBCR, _CFA, _LINEAR_RAW = 6, 32803, 34892
_ORIENTATION, _DNG_VERSION, _NO_VALUE = 274, 50706, 42113
_JPEG = 7
_PALETTE_NOTE = "palette converted to RGB"
_DEEPEST = 2
"""Bytes of an integer up to which its largest value is white."""
_COPIES = 4
"""Of the page's values that are held on the way to single precision."""
_PAGES = 16
"""Looked at for a sensor's mosaic: cameras write a handful."""


def decode(file: Path, picture: Image.Image) -> Raster:
    """The first page that is no thumbnail. picture: the file opened by Pillow, or an empty one where it cannot.

    Raises InputError for what is not served.
    """
    with tifffile.TiffFile(file) as pages:
        _refuse_raw(file, pages)
        page, notes = _page(pages)
        tags, orientation, found = _tags(picture, page)
        notes += found
        check_budget(_COPIES * page.nbytes, file)
        kind = int(page.photometric)
        try:
            values = tiff_lzw.unpacked(file, page) if tiff_lzw.is_lzw(page) else page.asarray()
        except (ValueError, NotImplementedError, ImportError) as cause:
            # How tifffile says that it needs another package for this compression or for these bits.
            if isinstance(cause, ValueError) and "imagecodecs" not in str(cause):
                raise
            if kind in _NAMED and kind != _YCBCR:
                raise InputError(file, _NAMED[kind], _CONVERT) from cause
            return _by_pillow(file, picture, page, tuple(notes))
        if kind not in (_WHITE, _BLACK, _RGB, _PALETTE):
            raise InputError(file, _NAMED.get(kind, f"photometric interpretation {kind}"), _CONVERT)
        values, bits = _as_stored(file, page, values)
        notes += _of_no_value(page, values)
        if kind == _PALETTE:
            values, bits = _through_palette(np.asarray(page.colormap), values[..., 0])
            notes.append(_PALETTE_NOTE)
    colours = 1 if kind in (_WHITE, _BLACK) else 3
    if kind == _BLACK and values.shape[-1] in (3, 4):
        colours = 3
        notes.append("the file calls its bands grey: taken as red, green and blue")
    extra = tuple(int(e) for e in (page.extrasamples or ()))
    has_alpha = values.shape[-1] == colours + 1
    deep = page.dtype is not None and page.dtype.kind == "u" and page.dtype.itemsize > _DEEPEST
    if values.shape[-1] not in (colours, colours + 1) or (has_alpha and deep):
        why = (
            f"{values.shape[-1]} bands of {page.dtype}, expected grey or RGB, with or without alpha"
        )
        raise InputError(file, why, _CONVERT)
    if has_alpha and extra[:1] in ((), (_UNSPECIFIED,)):
        notes.append("the file does not say what its last band is: taken as alpha")
    return Raster(
        values, bits, has_alpha, premultiplied=extra[:1] == (_PREMULTIPLIED,), inverted=kind == _WHITE,
        orientation=orientation, tags=tags, notes=tuple(notes),
    )  # fmt: skip


def _refuse_raw(file: Path, pages: tifffile.TiffFile) -> None:
    """Raise InputError for a camera's raw file (DNG, CR2, NEF, ARW ...), whose first page is a small picture."""
    first = pages.pages.first
    inside = [
        q for p in list(pages.pages)[:_PAGES] for q in (p, *(getattr(p, "pages", None) or ()))
    ]
    mosaic = any(int(getattr(q, "photometric", 0) or 0) in (_CFA, _LINEAR_RAW) for q in inside)
    with file.open("rb") as stream:
        canon = stream.read(11)[8:10] == b"CR"
    if mosaic or canon or _DNG_VERSION in first.tags:
        why = "a camera's raw file (a sensor's raw mosaic, with a small picture before it)"
        raise InputError(file, why, "develop it, and save it as TIFF or PNG")


def _page(pages: tifffile.TiffFile) -> tuple[tifffile.TiffPage, list[str]]:
    """The first page that is no smaller copy of another, as a whole page, and notes on the others."""
    every = list(pages.pages)
    kinds = [int(getattr(p, "subfiletype", 0) or 0) for p in every]
    whole = [i for i, kind in enumerate(kinds) if not kind & 1]
    if not whole:
        return pages.pages.first, []
    notes = [f"the file begins with {whole[0]} smaller copies of it: left out"] * (whole[0] > 0)
    if len(whole) > 1:
        notes.append(f"the file holds {len(whole)} pages: the first was taken")
    page = every[whole[0]]
    return (page if isinstance(page, tifffile.TiffPage) else page.aspage()), notes


def _of_no_value(page: tifffile.TiffPage, values: NDArray[Any]) -> list[str]:
    """A note on pixels that have the value which says that there is none (GDAL's tag of maps and satellites)."""
    try:
        value = float(str(page.tags.valueof(_NO_VALUE, "nan")))
    except ValueError:
        return []
    count = int((values == value).all(-1).sum())
    return [
        f"{count} pixels are {value:g}, which the file says is no value (GDAL): restored as if measured"
    ] * (count > 0)


def _check_jpeg(file: Path, page: tifffile.TiffPage) -> tuple[str, ...]:
    """Notes on the JPEG data of a page's strips or tiles. Raises InputError where some are damaged."""
    from restore.datasets.picture.jpeg_damage import notes_of  # brings numba

    tables, found = bytes(page.jpegtables or b"")[:-2], dict[str, None]()
    with file.open("rb") as stream:
        for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(at)
            content = stream.read(size)
            found |= dict.fromkeys(notes_of(file, (tables + content[2:]) if tables else content))
    return tuple(found)


def _tags(picture: Image.Image, page: tifffile.TiffPage) -> tuple[Tags, int, list[str]]:
    """Tags, orientation and notes. Pillow opens no floats in colour: these come from the page itself."""
    tags, _, found = tags_of(picture)
    profile = page.iccprofile or b""
    notes = [*found, *[PROFILE_KEPT] * bool(profile and not tags.profile)]
    orientation = page.tags.valueof(_ORIENTATION, 1)
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    tags = dataclasses.replace(
        tags, profile=profile or tags.profile, dpi=tags.dpi or _resolution(page)
    )
    return tags, int(orientation) if known else 1, notes


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(int(page.resolutionunit or 0))
    if unit is None or not all(math.isfinite(v) and v >= 1 for v in page.resolution):
        return None
    across, down = page.resolution
    return float(across) * unit, float(down) * unit


def _through_palette(table: NDArray[Any], index: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """RGB of a table (3, entries). It has 16 bits; many programs write 8, as the upper byte or as they are."""
    colours = table[:, index].transpose(1, 2, 0)
    if not (table & 255).any():
        return (colours >> 8).astype(np.uint8), 8
    if int(table.max()) < 256:
        return colours.astype(np.uint8), 8
    return colours, 16


def _as_stored(
    file: Path, page: tifffile.TiffPage, values: NDArray[Any]
) -> tuple[NDArray[Any], int]:
    """(H, W, C) and bits per value. Raises InputError for stacks, signed, complex and non-finite values."""
    axes = "YXS" if values.ndim == 3 and tiff_lzw.is_lzw(page) else page.axes
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
    if values.dtype.itemsize > _DEEPEST:
        return values.astype(
            np.float64
        ), 32  # few programs use all of these bits: their unit is the largest value
    return values, min(int(page.bitspersample), 8 * values.dtype.itemsize)


def _by_pillow(
    file: Path, picture: Image.Image, page: tifffile.TiffPage, notes: tuple[str, ...]
) -> Raster:
    """Pillow's reading of 8 bits and fewer, and of 12: it turns pixels upright and white-is-zero over by itself."""
    compression = getattr(page.compression, "name", page.compression)
    picture.seek(page.index)
    tags, orientation, _ = _tags(picture, page)
    bits = int(max(np.atleast_1d(page.bitspersample)))
    served = _BY_PILLOW if bits <= 8 else _TWELVE if bits == 12 else ()
    if (
        picture.format != "TIFF" or picture.mode not in served
    ):  # a stand-in where Pillow opens nothing
        how = f"{page.bitspersample} bits in {compression} compression, which needs the package imagecodecs"
        raise InputError(file, how, "install imagecodecs, or save the picture uncompressed")
    picture.load()
    if page.compression == _JPEG:
        notes += _check_jpeg(file, page)
    notes += (TURNED,) * (orientation != 1) + (_PALETTE_NOTE,) * (picture.mode == "P")
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGB" if picture.mode == "P" else "L")
    values = np.asarray(picture)
    values = values.reshape(*values.shape[:2], -1)
    return Raster(
        values,
        bits if values.dtype.itemsize > 1 else 8,
        values.shape[-1] in (2, 4),
        tags=tags,
        notes=notes,
    )


def resolution_of(dpi: tuple[float, float] | None) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` for a resolution."""
    if dpi is None or not all(math.isfinite(v) for v in dpi):
        return {}
    return {"resolution": dpi, "resolutionunit": 2}
