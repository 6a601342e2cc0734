"""PNG pictures of 16 bits per channel, which Pillow would cut to 8.

May be called by `png` (to read) and `images` (to write) only. Reads and writes bytes in memory, by the PNG
specification (ISO/IEC 15948): grey, grey and alpha, RGB, RGB and alpha.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""PNG colour type -> channels."""
ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""First row, first column, and steps along both, of the passes of an interlaced file."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What the first chunk says. colour: the PNG colour type."""

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool


def header_of(content: bytes) -> Header:
    """The header of a file's first 33 bytes. Raises ValueError."""
    if content[:8] != SIGNATURE or content[12:16] != b"IHDR" or len(content) < 29:
        raise ValueError("not a PNG header")
    width, height, bits, colour = struct.unpack(">IIBB", content[16:26])
    return Header(width, height, bits, colour, content[28] != 0)


def decode(content: bytes) -> tuple[NDArray[np.uint16], bool]:
    """Values (H, W, C) and whether the last of the channels is alpha; one transparent colour becomes alpha.

    Raises ValueError for a file that is damaged.
    """
    head = header_of(content)
    width, height, colour = head.width, head.height, head.colour
    if head.bits != 16 or colour not in CHANNELS:
        raise ValueError("not 16 bits per channel")
    chunks, passes, sizes = _chunks(content), _passes(head), _sizes(head)
    step = 2 * CHANNELS[colour]
    raw = _unpacked(chunks, head)
    values = np.empty((height, width, CHANNELS[colour]), np.uint16)
    at = 0
    for (r, c, dr, dc), (h, w) in zip(passes, sizes, strict=True):
        size = h * (w * step + 1)
        if size:
            values[r::dr, c::dc] = _unfiltered(raw[at : at + size], h, w, CHANNELS[colour])
        at += size
    clear = next((data for kind, data in chunks if kind == b"tRNS"), b"")
    if colour in (0, 2) and len(clear) == 2 * CHANNELS[colour]:
        seen = (values != np.frombuffer(clear, ">u2")).any(-1, keepdims=True)
        return np.concatenate([values, seen * np.uint16(65535)], axis=-1), True
    return values, colour in (4, 6)


def check_whole(content: bytes) -> None:
    """Raise ValueError where there are fewer pixels than the header says, at any depth: Pillow shows the rest black."""
    _unpacked(_chunks(content, checked=False), header_of(content))


def _passes(head: Header) -> tuple[tuple[int, int, int, int], ...]:
    return ADAM7 if head.interlaced else ((0, 0, 1, 1),)


def _sizes(head: Header) -> list[tuple[int, int]]:
    """Rows and columns of each pass."""
    sizes = [
        (-(-(head.height - r) // dr), -(-(head.width - c) // dc)) for r, c, dr, dc in _passes(head)
    ]
    return [(h, w) if h > 0 and w > 0 else (0, 0) for h, w in sizes]


def _unpacked(chunks: list[tuple[bytes, bytes]], head: Header) -> bytes:
    """The filtered rows of all passes."""
    pixel_bits = head.bits * CHANNELS.get(head.colour, 1)  # 3, a palette, has one
    expected = sum(h * (-(-w * pixel_bits // 8) + 1) for h, w in _sizes(head))
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    raw = zlib.decompressobj().decompress(packed, expected)
    if len(raw) != expected:
        raise ValueError(f"ended early: {len(raw)} of {expected} bytes")
    return raw


def before_pixels(content: bytes) -> dict[bytes, bytes]:
    """The chunks between header and pixels, by name; nothing where the file is damaged there."""
    found, at = dict[bytes, bytes](), len(SIGNATURE)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if kind in (b"IDAT", b"IEND"):
            break
        found[kind] = content[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def encode(pixels: NDArray[np.uint16], ancillary: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """The file of (H, W, C) uint16 pixels: grey, grey and alpha, RGB, RGB and alpha.

    ancillary: chunks (kind, data) that go between the header and the pixels.
    """
    height, width, channels = pixels.shape
    colour = {n: code for code, n in CHANNELS.items()}[channels]
    raw = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    upper = np.vstack([np.zeros_like(raw[:1]), raw[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), raw - upper])  # 2: minus line above
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = (
        (b"IHDR", head),
        *ancillary,
        (b"IDAT", zlib.compress(filtered.tobytes())),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def ancillary_chunks(
    profile: bytes, exif: bytes, dpi: tuple[float, float] | None
) -> tuple[tuple[bytes, bytes], ...]:
    """ICC profile, EXIF and resolution as chunks; nothing for what is empty."""
    chunks = []
    if profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if dpi:
        per_metre = (round(v / 0.0254) for v in dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    return tuple(chunks)


def _chunks(content: bytes, *, checked: bool = True) -> list[tuple[bytes, bytes]]:
    found, at = [], len(SIGNATURE)
    while at + 12 <= len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        check = content[at + 8 + length : at + 12 + length]
        if checked and (len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(kind + data)):
            raise ValueError("a checksum is wrong")
        found.append((kind, data))
        if kind == b"IEND":
            break  # what follows is no part of the picture
        at += 12 + length
    return found


def _unfiltered(raw: bytes, height: int, width: int, channels: int) -> NDArray[np.uint16]:
    """The values (H, W, C) of a pass."""
    line = width * channels * 2
    lines = np.frombuffer(raw, np.uint8).reshape(height, line + 1)
    out = np.zeros((height + 1, line), np.uint8)
    for k in range(height):
        out[k + 1] = _unfilter(int(lines[k, 0]), lines[k, 1:], out[k], 2 * channels)
    pixels = out[1:].reshape(height, width, channels, 2).astype(np.uint16)
    return pixels[..., 0] * np.uint16(256) + pixels[..., 1]


def _unfilter(
    kind: int, line: NDArray[np.uint8], above: NDArray[np.uint8], step: int
) -> NDArray[np.uint8]:
    """Undo one line's filter; step: bytes per pixel. Sums are modulo 256."""
    if kind == 0:
        return line
    if kind == 1:
        pixels = line.reshape(-1, step)
        return np.cumsum(pixels, axis=0, dtype=np.uint8).ravel()
    if kind == 2:
        return line + above
    if kind not in (3, 4):
        raise ValueError(f"unknown line filter {kind}")
    predict = _average if kind == 3 else _paeth
    left, corner = bytes(step) + b"", bytes(step) + above.tobytes()
    out = bytearray(left)
    for i, (value, up) in enumerate(zip(line.tobytes(), above.tobytes(), strict=True)):
        out.append((value + predict(out[i], up, corner[i])) & 255)
    return np.frombuffer(bytes(out[step:]), np.uint8)


def _average(left: int, up: int, _corner: int) -> int:
    return (left + up) >> 1


def _paeth(left: int, up: int, corner: int) -> int:
    by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if by_left <= by_up and by_left <= by_corner:
        return left
    return up if by_up <= by_corner else corner
