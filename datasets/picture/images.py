"""Pictures (PNG, JPEG, TIFF) as numbers between 0 and 1, and back.

May be called by the image pipelines, the training corpus and the command line. Touches the one
file it is given. Values are the stored ones divided by the largest: no gamma is undone or applied,
no colour profile converted; what else the file carries (profile, EXIF, resolution, alpha) goes along.
One decoder a kind of file (`png`, `jpeg`, `tiff`) fills a `Raster`; what follows is the same for all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from restore.datasets.atomic import atomic_file
from restore.datasets.budget import check_budget
from restore.datasets.formats import Format
from restore.datasets.picture import jpeg, png, png16, tiff
from restore.datasets.picture.raster import TURNED, Raster, Tags, colour_and_alpha
from restore.errors import ConfigError, InputError, OutputError, RestoreError

FORMATS = ("PNG", "JPEG", "TIFF")
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
JPEG_QUALITY = 95
BYTES_PER_VALUE = 16
"""What a value takes on its way: stored, converted, as float32, and a copy."""
_HALF_EMPTY = 2**14 - 1
"""What 14 bits hold: cameras and microscopes write 10, 12 and 14 bits into 16."""
_HEADERS = 2**20
"""Bytes of a JPEG file in which its frame begins: profiles and thumbnails come before it."""
DEFLATE_RATIO = 1040
"""Bytes that a byte of a PNG can stand for: zlib's format allows 1032, and some for rounding."""

_DECODERS: dict[str, Callable[[Path, Image.Image], Raster]] = {
    "PNG": png.decode, "JPEG": jpeg.decode, "MPO": jpeg.decode, "TIFF": tiff.decode,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """data: (C, H, W) float32 in [0, 1], C = 1 (grey) or 3 (RGB), upright, plain colour whatever the alpha is.

    bits: per channel of the file, 32 for floats. alpha: (1, H, W) in [0, 1], or None where all is opaque. unit: the
    stored value that 1 stands for. tags: what goes along to the result. quantisation: the luminance steps of a JPEG
    file, (64,), else None. notes: what was converted or left out.
    """

    data: NDArray[np.float32]
    bits: int
    source: Path
    notes: tuple[str, ...] = ()
    alpha: NDArray[np.float32] | None = None
    unit: float = 255.0
    tags: Tags = field(default_factory=Tags)
    quantisation: tuple[int, ...] | None = None


def read_picture(path: str | Path) -> Picture:
    """Read a PNG, JPEG or TIFF picture, the first where a file holds several, with a note.

    Palettes become RGB, white-is-zero is turned over, an orientation tag is applied at every depth. Floats (TIFF) up to
    1 are taken as they are, larger ones divided by their largest. Refused by name: inks, Lab, raw mosaics, other
    numbers of bands, stacks, pictures beyond the memory budget, damaged files. path: of one of these formats, as
    `open.read_image` makes sure. Raises InputError.
    """
    file = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's size warning: the budget decides that
            return _picture(file, _decoded(file))
    except RestoreError:
        raise
    except Image.UnidentifiedImageError as cause:
        _refuse_rare_jpeg(file, cause)
        why = "damaged picture: what follows its first bytes is not of its kind"
        raise InputError(file, why, "fetch or export it again") from cause
    except Exception as cause:  # the one boundary: nothing else escapes this reader
        _refuse_rare_jpeg(file, cause)
        why = f"damaged or unusual picture ({type(cause).__name__}: {cause})"
        raise InputError(file, why, "fetch or export it again") from cause


def _decoded(file: Path) -> Raster:
    try:
        opened = Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError:
        # Pillow knows no TIFF of five bands or of other rare layouts; tifffile names or reads them.
        if not tifffile_opens(file):
            raise
        return tiff.decode(file, Image.new("L", (1, 1)))
    except Image.DecompressionBombError:
        opened = _opened_at_any_size(file)
    with opened as picture:
        width, height = picture.size
        check_budget(width * height * 4 * BYTES_PER_VALUE, file)
        size = file.stat().st_size
        if picture.format == "PNG" and width * height / 8 > DEFLATE_RATIO * size:
            why = f"its header says {width} x {height} pixels, more than {size} bytes can hold"
            raise InputError(file, why, "fetch or export it again")
        return _DECODERS[picture.format or ""](file, picture)


def _refuse_rare_jpeg(file: Path, cause: Exception) -> None:
    """Raise InputError for a JPEG that is sound, it may be, and of a kind that Pillow does not read."""
    with file.open("rb") as stream:
        kind = jpeg.unreadable_kind(stream.read(_HEADERS))
    if kind:
        raise InputError(
            file, kind, "convert it to PNG or TIFF with the program it is from"
        ) from cause


def _opened_at_any_size(file: Path) -> ImageFile.ImageFile:
    """The header read without Pillow's own limit of pixels: here the memory budget decides."""
    for kind in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        TiffImagePlugin.TiffImageFile,
    ):
        try:
            return kind(file)
        except SyntaxError:  # how Pillow's classes say that a file is not theirs
            continue
    raise InputError(file, "damaged picture", "fetch or export it again")


def tifffile_opens(file: Path) -> bool:
    """Whether the file has a TIFF structure with a first page."""
    try:
        with tifffile.TiffFile(file) as pages:
            width, height = pages.pages.first.imagewidth, pages.pages.first.imagelength
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError):
        return False
    check_budget(width * height * 8 * BYTES_PER_VALUE, file)
    return width > 0 and height > 0


def _picture(file: Path, raster: Raster) -> Picture:
    data, alpha, unit = colour_and_alpha(raster)
    notes = list(raster.notes)
    if raster.orientation != 1:
        notes.append(TURNED)
    if raster.has_alpha and alpha is None:
        notes.append("opaque alpha channel left out")
    if raster.pixels.dtype.kind == "f" and unit != 1:
        notes.append(
            f"values up to {unit:g}: divided by that; floats, and integers of 32 bits, have no white of their own"
        )
    elif (
        raster.bits == 16
        and not raster.inverted
        and 0 < (top := int(raster.pixels.max())) <= _HALF_EMPTY
    ):
        notes.append(
            f"the largest value is {top} of 65535, as of {top.bit_length()} bits in 16: restored as dark as it is; "
            "scale it where that is not meant"
        )
    return Picture(
        data, raster.bits, file, tuple(notes), alpha, unit, raster.tags, raster.quantisation
    )


def write_image(
    data: Any,
    path: str | Path,
    *,
    bits: int = 8,
    alpha: Any = None,
    tags: Tags | None = None,
    unit: float = 1.0,
) -> int:
    """Write a picture and return how many values lay outside [0, 1] and were clipped.

    data: (C, H, W) or (H, W) numbers meant to lie in [0, 1], C = 1 or 3; alpha: (1, H, W) or None, not for JPEG.
    bits: 8, 16 for PNG and TIFF, or 32 for TIFF, which holds data times unit as floats, unclipped. tags: written as
    far as the format holds them (EXIF: not in TIFF). JPEG is written with quality 95 and full colour resolution.
    Raises ConfigError (suffix, bits, shape, alpha in JPEG), OutputError (also for values that are not finite).
    """
    target, tags = Path(path), tags or Tags()
    kind = SUFFIXES.get(target.suffix.lower())
    if kind is None:
        raise ConfigError(f"{target}: expected a name ending in {', '.join(SUFFIXES)}")
    if bits not in {"PNG": (8, 16), "JPEG": (8,), "TIFF": (8, 16, 32)}[kind]:
        raise ConfigError(
            f"{target}: {bits} bits per channel; 8, 16 for PNG and TIFF, or 32 for TIFF, can be"
        )
    if alpha is not None and kind == "JPEG":
        raise ConfigError(f"{target}: JPEG holds no transparency; write PNG or TIFF")
    values = _checked(target, data)
    clipped = 0 if bits == 32 else int(((values < 0) | (values > 1)).sum())
    if alpha is not None:
        values = np.concatenate([values, np.asarray(alpha, values.dtype).reshape(1, *values.shape[1:])])  # fmt: skip
    pixels = _stored(values, bits, unit)
    with atomic_file(target, expected_bytes=pixels.nbytes) as partial:
        _save(pixels, partial, kind, alpha is not None, tags)
    return clipped


def _checked(target: Path, data: Any) -> NDArray[Any]:
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
    return values


def _stored(values: NDArray[Any], bits: int, unit: float) -> NDArray[Any]:
    """(H, W, C) as the file holds them."""
    planes = values.transpose(1, 2, 0)
    if bits == 32:
        return np.ascontiguousarray(planes * unit, np.float32)
    steps = np.rint(np.clip(planes, 0, 1).astype(np.float64) * (2**bits - 1))
    return np.ascontiguousarray(steps.astype(np.uint8 if bits == 8 else np.uint16))


def _save(pixels: NDArray[Any], file: Path, kind: str, has_alpha: bool, tags: Tags) -> None:
    channels = pixels.shape[2]
    if kind == "TIFF":
        tifffile.imwrite(
            file, pixels if channels > 1 else pixels[..., 0], iccprofile=tags.profile or None, metadata=None,
            photometric="rgb" if channels >= 3 else "minisblack", planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if has_alpha else None, **tiff.resolution_of(tags.dpi),
        )  # fmt: skip
    elif pixels.dtype == np.uint16:
        file.write_bytes(
            png16.encode(pixels, png16.ancillary_chunks(tags.profile, tags.exif, tags.dpi))
        )
    else:
        kept = {"icc_profile": tags.profile, "exif": tags.exif, "dpi": tags.dpi}
        options: dict[str, Any] = {name: value for name, value in kept.items() if value}
        if kind == "JPEG":
            options |= {"quality": JPEG_QUALITY, "subsampling": 0}
        Image.fromarray(pixels if channels > 1 else pixels[..., 0]).save(
            file, format=kind, **options
        )


FORMAT = Format(
    name="PNG, JPEG, TIFF",
    holds="picture",
    files=".png .jpg .tif",
    ways="photograph in and out",
    claims=lambda content: content.kind in (f"a {name} picture" for name in FORMATS),
    open=read_picture,
)
