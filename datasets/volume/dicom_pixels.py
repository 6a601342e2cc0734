"""The pixels of DICOM images: whether they can be decoded, the stored numbers, and what these mean.

May be called by the DICOM reader only; reads the files of the images it is given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from restore.datasets.volume.dicom_files import Image, boundary, header_of
from restore.datasets.volume.dicom_sort import numbers, optional_number
from restore.errors import InputError

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PLUGIN_HINT = "install a plugin (pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg), or export uncompressed"
DAMAGED = "fetch or export it again"


def refuse_colour(image: Image) -> None:
    """Raise InputError for an image of colours."""
    header = image.header
    samples, photometric = header.get("SamplesPerPixel", 1), header.get("PhotometricInterpretation")
    if samples != 1 or photometric == "PALETTE COLOR":
        why = f"a colour image ({photometric}), not one intensity per pixel"
        raise InputError(image.file, why, "give the series that the colours were made from")


def check_stored(image: Image, rows: int, columns: int) -> int:
    """Return the stored bits per pixel of an image that can be decoded; refuse the others."""
    header, file = image.header, image.file
    refuse_colour(image)
    bits = int(numbers(header, "BitsAllocated", 1, image.name)[0])
    used = int(optional_number(header, "BitsStored"))
    if used > bits:
        why = f"BitsStored is {used}, more than the {bits} bits that are allocated"
        raise InputError(image.name, why, "export it again")
    for keyword in ("SamplesPerPixel", "PhotometricInterpretation"):
        if header.get(keyword) in (None, ""):
            raise InputError(image.name, f"the DICOM tag {keyword} is missing", "export it again")
    if bits < 32 and header.get("PixelRepresentation") not in (0, 1):
        why = "the DICOM tag PixelRepresentation, which says whether there are signs, is missing or not 0 or 1"
        raise InputError(image.name, why, "export it again")
    if bits not in (8, 16, 32, 64):
        raise InputError(file, f"{bits} bits per pixel, expected 8, 16, 32 or 64")
    _check_decoder(image)
    if not (image.syntax.is_compressed or image.syntax.is_deflated):
        needed, there = rows * columns * bits // 8, file.stat().st_size
        if there < needed:
            why = f"damaged: ended early: {there} bytes for an image of {needed}"
            raise InputError(file, why, DAMAGED)
    return bits


def _check_decoder(image: Image) -> None:
    try:
        decoder = get_decoder(image.syntax)
    except NotImplementedError:
        why = f"pixels stored as {image.syntax.name}, which no plugin reads"
        raise InputError(image.file, why, "export it uncompressed") from None
    deep = image.syntax == JPEGExtended12Bit and int(image.header.get("BitsStored") or 0) > 8
    able = set(decoder.available_plugins) - (
        {"pillow"} if deep else set()
    )  # Pillow has 8 bits only
    if not (able if image.syntax.is_compressed else decoder.is_available):
        depth = f" with {image.header.BitsStored} bits" if deep else ""
        why = f"pixels compressed as {image.syntax.name}{depth}; this needs one of: "
        raise InputError(image.file, why + "; ".join(decoder.missing_dependencies), PLUGIN_HINT)


def stored_pixels(images: list[Image]) -> Iterator[tuple[NDArray[Any], Dataset, str]]:
    """Of each image the stored numbers, (rows, columns), its whole header without pixels and private tags, and a note.

    The images lie in files of their own, or are frames or tiles of one or several files, of which only these are
    decoded. Raises InputError.
    """
    if images[0].frame is not None:
        found = _decoded_parts(images)
        for image in images:
            pixels, note = found.pop(id(image))
            yield pixels, image.header, note
        return
    for image in images:
        whole = header_of(image.file)
        ((pixels, note),) = _decoded(whole, image, [0])
        for keyword in PIXELS:
            if keyword in whole:
                del whole[keyword]
        with boundary(image.file):
            whole.remove_private_tags()
        yield pixels, whole, note


def _decoded_parts(images: list[Image]) -> dict[int, tuple[NDArray[Any], str]]:
    """Pixels and a note of frames and tiles, by the identity of their images: one file after the other is held."""
    files: dict[Path, list[Image]] = defaultdict(list)
    for image in images:
        files[image.file].append(image)
    found: dict[int, tuple[NDArray[Any], str]] = {}
    for file, parts in files.items():
        frames = [0 if part.tile is not None else part.frame or 0 for part in parts]
        wanted = sorted(set(frames))
        decoded = dict(zip(wanted, _decoded(header_of(file), parts[0], wanted), strict=True))
        for part, frame in zip(parts, frames, strict=True):
            pixels, note = decoded[frame]
            if part.tile is not None:
                (y, x), header = part.tile, part.header
                pixels = pixels[y : y + header.Rows, x : x + header.Columns]
            found[id(part)] = pixels, note
    return found


def _decoded(whole: Dataset, image: Image, frames: list[int]) -> list[tuple[NDArray[Any], str]]:
    """The stored numbers of these frames of a file, rising, each with a note."""
    held = [keyword for keyword in PIXELS if keyword in whole]
    if not held:
        raise InputError(image.file, "damaged: it has no pixels", "export it again")
    compressed = whole.file_meta.TransferSyntaxUID.is_compressed
    with boundary(image.file):
        if not compressed:
            _check_length(whole, len(whole[held[0]].value), image)
        # Done below: pydicom would take padding for a number.
        options: dict[str, Any] = {"correct_unused_bits": False}
        try:
            planes = list(iter_pixels(whole, indices=frames, **options))
        except (RuntimeError, NotImplementedError) as cause:
            if not compressed:
                raise
            name = whole.file_meta.TransferSyntaxUID.name
            why = f"pixels compressed as {name} that no installed plugin could decode"
            raise InputError(image.file, why, f"damaged, or {PLUGIN_HINT}") from cause
        damage = _jpeg_notes(whole, image.file, frames)
        found = [_used_bits(pixels, whole) for pixels in planes]
        return [(p, "; ".join(filter(None, (note, damage)))) for p, note in found]


def _jpeg_notes(whole: Dataset, file: Path, frames: list[int]) -> str:
    """A note on JPEG data of 8 bits, which decoders show whatever they are. Raises InputError for damaged ones."""
    if whole.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        return ""
    from restore.datasets.picture.jpeg_damage import notes_of  # brings numba

    count = int(whole.get("NumberOfFrames") or 1)
    each = [get_frame(whole.PixelData, k, number_of_frames=count) for k in frames]
    return "; ".join(dict.fromkeys(note for content in each for note in notes_of(file, content)))


def _check_length(whole: Dataset, there: int, image: Image) -> None:
    """Refuse fewer bytes than the header says, and those of further frames that it does not mention."""
    frames = int(whole.get("NumberOfFrames") or 1)
    plane = int(whole.Rows) * int(whole.Columns) * int(whole.BitsAllocated) // 8
    needed = plane * frames * int(whole.get("SamplesPerPixel") or 1)
    if there < needed:
        why = f"damaged: ended early: {there} bytes of pixels, its header asks for {needed}"
        raise InputError(image.file, why, DAMAGED)
    if there >= needed + plane:
        why = (
            f"{there} bytes of pixels where its header tells of {needed}: more frames than it says"
        )
        raise InputError(image.file, why, "export it again")


def _used_bits(pixels: NDArray[Any], header: Dataset) -> tuple[NDArray[Any], str]:
    """The bits that belong to the number: others may hold overlays, or nothing that is meant.

    A pixel that is the padding value in all its bits stays what it is. Returns a note where bits were left out.
    """
    if pixels.dtype.kind not in "iu":
        return pixels, ""
    width = pixels.dtype.itemsize * 8
    used = int(header.get("BitsStored") or width)
    unused_above = width - 1 - int(header.get("HighBit") or used - 1)
    if used >= width:
        return pixels, ""
    if not 0 <= unused_above <= width - used:
        return pixels, f"HighBit contradicts the {used} bits stored: all bits were taken"
    # Pushed against the upper end as signed or unsigned numbers and back: the sign is carried down.
    moved = ((pixels << unused_above) >> (width - used)).astype(pixels.dtype)
    padding = padding_range(header)
    if padding is not None:
        moved = np.where((pixels >= padding[0]) & (pixels <= padding[1]), pixels, moved)
    changed = not np.array_equal(moved, pixels)
    return (
        moved,
        f"bits outside the {used} that are stored (overlays, or values beyond?) were left out"
        if changed
        else "",
    )


def padding_range(header: Dataset) -> tuple[int, int] | None:
    """Lowest and highest stored number that means "nothing was measured here", by the padding tags."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    ends = [value, limit if isinstance(limit, int) else value]
    bits = int(header.get("BitsAllocated") or 16)
    if header.get("PixelRepresentation") == 1:  # some write the bits of a signed number as unsigned
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    else:
        ends = [end + (1 << bits) if end < 0 else end for end in ends]
    return min(ends), max(ends)


def rescale_of(image: Image) -> tuple[float, float, str]:
    """Return slope, intercept and a note where the standard's default was taken. Raises InputError."""
    header, name = image.header, image.name
    if header.get("ModalityLUTSequence"):
        why = "its intensities are given by a table (Modality LUT), not by slope and intercept"
        raise InputError(name, why, "export it with slope and intercept")
    given = [header.get(word) not in (None, "") for word in ("RescaleSlope", "RescaleIntercept")]
    if not any(given) and header.get("Modality") not in ("CT", "PT"):
        return 1.0, 0.0, "no rescale in the headers: stored values were taken"
    slope = numbers(header, "RescaleSlope", 1, name)[0]
    intercept = numbers(header, "RescaleIntercept", 1, name)[0]
    if slope == 0:
        raise InputError(name, "the DICOM tag RescaleSlope is 0", "export it again")
    return slope, intercept, ""


def rescaled(
    stored: NDArray[Any], rescale: tuple[float, float], kind: type[np.floating[Any]], image: Image
) -> NDArray[Any]:
    """Stored numbers in the units of the file. Raises InputError for values that the kind of number does not hold."""
    slope, intercept = rescale
    if abs(slope) < np.finfo(kind).tiny:
        why = f"the DICOM tag RescaleSlope is {slope:g}, too small for {np.dtype(kind).name}"
        raise InputError(image.name, why, "export it again")
    with np.errstate(over="ignore", invalid="ignore"):  # counted below
        values = (stored * np.float64(slope) + intercept).astype(kind)
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        why = f"{bad} of {values.size} voxels are not finite (NaN or infinite; RescaleSlope {slope:g})"
        raise InputError(image.name, why, "export it again with its true rescale")
    return np.asarray(values)
