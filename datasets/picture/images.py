"""Pictures (PNG, JPEG, TIFF) as numbers between 0 and 1, and back.

May be called by the image pipelines, the training corpus and the command line. Touches the one
file it is given. Values are the stored sRGB values divided by the largest: no gamma is undone or
applied. Pillow reads and writes 8 bits; 16-bit colour, which it would cut to 8, goes other ways.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from restore.datasets.atomic import atomic_file
from restore.datasets.budget import check_budget
from restore.datasets.formats import Format
from restore.datasets.picture import png16
from restore.errors import ConfigError, InputError, OutputError, RestoreError

FORMATS = ("PNG", "JPEG", "TIFF")
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
JPEG_QUALITY = 95
BYTES_PER_VALUE = 16
"""What a value takes on its way: stored, converted, as float32, and a copy."""


@dataclass(frozen=True, eq=False)
class Picture:
    """data: (C, H, W) float32 in [0, 1], C = 1 (grey) or 3 (RGB); bits: per channel of the file;
    notes: what was converted or left out.
    """

    data: NDArray[np.float32]
    bits: int
    source: Path
    notes: tuple[str, ...] = ()


def read_picture(path: str | Path) -> Picture:
    """Read a PNG, JPEG or TIFF picture.

    Palettes become RGB, a camera's rotation tag is applied, an alpha channel that is opaque
    everywhere is dropped with a note. Refused: transparency, CMYK, several pages, pictures beyond
    the memory budget, damaged files. path: of one of these formats, as `open.read_image` makes sure. Raises InputError.
    """
    file = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's size warning: the budget decides that
            pixels, bits, notes = _pixels(file)
        return _picture(file, pixels, bits, notes)
    except RestoreError:
        raise
    except Image.UnidentifiedImageError as cause:
        why = "damaged picture: what follows its first bytes is not of its kind"
        raise InputError(file, why, "fetch or export it again") from cause
    except Exception as cause:  # the one boundary: nothing else escapes this reader
        why = f"damaged or unusual picture ({type(cause).__name__}: {cause})"
        raise InputError(file, why, "fetch or export it again") from cause


def write_image(data: Any, path: str | Path, *, bits: int = 8) -> int:
    """Write a picture and return how many values lay outside [0, 1] and were clipped.

    data: (C, H, W) or (H, W) numbers meant to lie in [0, 1], C = 1 or 3; bits: 8, or 16 for PNG and
    TIFF. JPEG is written with quality 95 and full colour resolution. Raises ConfigError (suffix,
    bits, shape), OutputError (also for values that are not finite).
    """
    target = Path(path)
    kind = SUFFIXES.get(target.suffix.lower())
    if kind is None:
        raise ConfigError(f"{target}: expected a name ending in {', '.join(SUFFIXES)}")
    if bits not in (8, 16) or (bits == 16 and kind == "JPEG"):
        raise ConfigError(f"{target}: {bits} bits per channel; 8, or 16 for PNG and TIFF, can be")
    values = np.asarray(data)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] not in (1, 3) or values.dtype.kind == "c":
        raise ConfigError(
            f"{target}: {values.dtype} data of shape {np.shape(data)}, expected real (C, H, W) "
            "with 1 or 3 channels, or (H, W)"
        )
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise OutputError(f"{target}: {bad} of {values.size} values are not finite; not saved")
    clipped = int(((values < 0) | (values > 1)).sum())
    top = 2**bits - 1
    steps = np.rint(np.clip(values, 0, 1).astype(np.float64) * top)
    pixels = steps.astype(np.uint8 if bits == 8 else np.uint16).transpose(1, 2, 0)
    with atomic_file(target, expected_bytes=pixels.nbytes) as partial:
        _save(np.ascontiguousarray(pixels), partial, kind)
    return clipped


def _save(pixels: NDArray[Any], file: Path, kind: str) -> None:
    if pixels.dtype == np.uint16 and kind == "PNG":
        file.write_bytes(png16.encode(pixels))
    elif pixels.dtype == np.uint16:
        rgb = "rgb" if pixels.shape[2] == 3 else "minisblack"
        tifffile.imwrite(file, pixels if rgb == "rgb" else pixels[..., 0], photometric=rgb)
    else:
        options = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}
        picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        picture.save(file, format=kind, **options)


def _pixels(file: Path) -> tuple[NDArray[Any], int, list[str]]:
    """Return stored values (H, W, C) with C from 1 to 4, bits per channel and notes."""
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        check_budget(width * height * 4 * BYTES_PER_VALUE, file)
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise InputError(file, f"{pages} pages", "give one picture per file")
        wide = _wide_colour(file, picture.format or "")
        if wide is not None:
            return wide, 16, []
        return _by_pillow(file, picture)


def _wide_colour(file: Path, kind: str) -> NDArray[Any] | None:
    """Return the pixels of 16-bit pictures with several channels, None for all others."""
    if kind == "PNG":
        with file.open("rb") as stream:
            *_, bits, colour = png16.header_of(stream.read(32))
        return png16.decode(file.read_bytes()) if bits == 16 and colour != 0 else None
    if kind == "TIFF":
        with tifffile.TiffFile(file) as pages:
            page = pages.pages[0]
            if page.dtype == np.uint16 and "S" in page.axes:
                return np.moveaxis(page.asarray(), page.axes.index("S"), -1)
    return None


def _by_pillow(file: Path, picture: Image.Image) -> tuple[NDArray[Any], int, list[str]]:
    notes = []
    picture.load()
    if picture.getexif().get(0x0112, 1) != 1:
        notes.append("turned as the camera's rotation tag says")
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("P", "PA"):
        notes.append("palette converted to RGB")
        clear = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if clear else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("L", "RGB") and "transparency" in picture.info:
        picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
    wide = picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PNG")
    if picture.mode not in ("L", "LA", "RGB", "RGBA") and not wide:
        why = f"pixels of kind '{picture.mode}', expected grey or RGB of 8 or 16 bits"
        raise InputError(file, why, "convert it to RGB or grey")
    values = np.asarray(picture)
    return values.reshape(*values.shape[:2], -1), 16 if wide else 8, notes


def _picture(file: Path, pixels: NDArray[Any], bits: int, notes: list[str]) -> Picture:
    top = 2**bits - 1
    channels = pixels.shape[2]
    if channels in (2, 4):
        if int(pixels[..., -1].min()) < top:
            why = "partly transparent; what lies behind is not known"
            raise InputError(file, why, "put it on a background first")
        notes = [*notes, "opaque alpha channel left out"]
        pixels = pixels[..., :-1]
    if pixels.shape[2] not in (1, 3):
        raise InputError(file, f"{channels} channels, expected 1 or 3", "convert it to RGB or grey")
    data = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(top)
    return Picture(data, bits, file, tuple(notes))


FORMAT = Format(
    name="PNG, JPEG, TIFF",
    holds="picture",
    files=".png .jpg .tif",
    ways="photograph in and out",
    claims=lambda content: content.kind in (f"a {name} picture" for name in FORMATS),
    open=read_picture,
)
