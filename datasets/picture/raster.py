"""A decoded picture as its file describes it, before anything is done with it, and the steps that all kinds share.

Called by the decoders (`png`, `jpeg`, `tiff`), which fill it, and by `images`, which makes a `Picture` of it. Every
kind of file goes through the same steps here, so that none skips one: photometric interpretation, orientation, alpha.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

TURNED = "turned upright as the camera's orientation tag says"


@dataclasses.dataclass(frozen=True)
class Tags:
    """What a picture carries besides its pixels, to be written with the result.

    profile: ICC profile. exif: EXIF block without place (GPS), thumbnail and orientation. dpi: pixels per inch
    (across, down).
    """

    profile: bytes = b""
    exif: bytes = b""
    dpi: tuple[float, float] | None = None

    def enlarged(self, factor: float) -> Tags:
        """The same for a picture with `factor` times as many pixels across the same paper."""
        dpi = None if self.dpi is None else (self.dpi[0] * factor, self.dpi[1] * factor)
        return dataclasses.replace(self, dpi=dpi)


@dataclasses.dataclass(frozen=True, eq=False)
class Raster:
    """Stored values: (H, W, C) with C = 1 or 3, and one more where `has_alpha`; integers of `bits` bits, or floats.

    inverted: 0 is white. premultiplied: colours hold the alpha already. orientation: 1 to 8 as in TIFF and EXIF.
    quantisation: luminance steps of a JPEG file, (64,), else None.
    """

    pixels: NDArray[Any]
    bits: int
    has_alpha: bool = False
    premultiplied: bool = False
    inverted: bool = False
    orientation: int = 1
    tags: Tags = dataclasses.field(default_factory=Tags)
    quantisation: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W, C) as they are to be seen. orientation: where the file's first row and column lie (TIFF 6.0)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def colour_and_alpha(
    raster: Raster,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, float]:
    """Colour (C, H, W) in [0, 1], alpha (1, H, W) or None where all is opaque, and the unit of the stored values.

    Integers are divided by their largest value; floats are taken as they are up to 1, else divided by their largest
    value. Colours stored with alpha in them are divided by it, so that the result holds plain colour.
    """
    pixels = upright(raster.pixels, raster.orientation)
    if pixels.dtype.kind == "f":
        colours = pixels[..., :-1] if raster.has_alpha else pixels
        top = max(1.0, float(colours.max()))
        values = pixels.astype(np.float32)
        values[..., : colours.shape[-1]] /= np.float32(top)
    else:
        top = float(2**raster.bits - 1)
        values = pixels.astype(np.float32) / np.float32(top)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    colour, alpha = (planes[:-1], planes[-1:]) if raster.has_alpha else (planes, None)
    if raster.inverted:
        colour = 1 - colour
    if alpha is not None and float(alpha.min()) >= 1:
        alpha = None
    if alpha is not None and raster.premultiplied:
        colour = np.clip(colour / np.where(alpha > 0, alpha, 1), 0, 1)
    return np.ascontiguousarray(colour), alpha, top
