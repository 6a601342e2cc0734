"""What a file is by its first bytes, looked at once.

May be called by everybody who is given a file; opens that one file. Formats decide by it whether a file is theirs
(`formats`), and what is nobody's is named by it in messages.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import struct
import zlib
from functools import cached_property
from pathlib import Path

from restore.errors import InputError, NotFoundError

SNIFFED_BYTES = 560
"""Enough for the marks of all formats: NIfTI-2's header has 540."""

DOWNLOAD_AGAIN = "download or copy the file again and compare its size and sha256 with the source"

NIFTI, DICOM, HDF5, NUMPY = "a NIfTI volume", "a DICOM file", "an HDF5 file", "a NumPy array"
ANALYZE = "an Analyze header, or NIfTI with a damaged one"
"""A header of 348 bytes without the NIfTI mark."""

SHORTEST_DICOM, LAST_FIRST_ELEMENT, LONGEST_FIRST_VALUE = 132, 0x18, 128
FIRST_TYPES = (b"UL", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"OB")
"""A DICOM data set that lacks its mark: what it must hold, and how its first element may look."""

PACKED_AS_THEY_ARE = (NIFTI, ANALYZE)
"""What is usual inside gzip and hence not called an archive."""

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"II+\0", "a TIFF picture"),
    (b"MM\0+", "a TIFF picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    *(
        (b"P%d" % n + white, f"a Netpbm picture (P{n})")
        for n in range(1, 8)
        for white in (b"\n", b" ", b"\r", b"\t")
    ),
    (b"8BPS", "a Photoshop picture (PSD)"),
    (b"gimp xcf", "a GIMP picture (XCF)"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"#?RGBE", "a Radiance HDR picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\1\0", "an icon (ICO picture)"),
    (b"DDS ", "a DDS picture"),
    (b"qoif", "a QOI picture"),
    (b"AT&TFORM", "a DjVu document"),
    (b"%!PS", "a PostScript document"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture (RAF)"),
    (b"IIU\0", "a camera's raw picture (RW2)"),
    (b"IIRO", "a camera's raw picture (ORF)"),
    (b"IIRS", "a camera's raw picture (ORF)"),
    (b"FOVb", "a camera's raw picture (X3F)"),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x93NUMPY", NUMPY),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"NRRD", "an NRRD volume"),
    (b"%PDF", "a PDF document"),
    (b"MATLAB", "a MATLAB file"),
    (b"ObjectType", "a MetaImage header"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a git-lfs pointer, not the data"),
)


BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC picture (HEIF)"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"), b"crx ": "a camera's raw picture (CR3)",
}  # fmt: skip
"""What a file of boxes (ISO base media) is by its first brand; any other is a video."""


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """A file or folder as formats see it.

    head: the first bytes, of a gzip file those inside, of a folder none. packed: whether it is a gzip file.
    """

    path: Path
    head: bytes = b""
    packed: bool = False
    is_folder: bool = False

    @cached_property
    def kind(self) -> str:
        """What it is, in a few words: "a PNG picture", "a text file"."""
        if self.is_folder:
            return "a folder"
        kind = kind_of_bytes(self.head)
        return (
            f"a gzip archive of {kind}" if self.packed and kind not in PACKED_AS_THEY_ARE else kind
        )


def spelled_out(path: str | Path) -> Path:
    """The path, or NAME.cfl where that alone exists: BART names its files without their ends."""
    if not os.path.lexists(path) and os.path.lexists(f"{path}.cfl"):
        return Path(f"{path}.cfl")
    return Path(path)


def look_at(path: str | Path) -> Content:
    """The content of a file or folder. Raises NotFoundError, InputError (empty, cannot be opened, damaged gzip)."""
    path = Path(path)
    try:
        there, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as cause:
        raise NotFoundError(f"{path}: no such file ({cause.strerror})") from cause
    if not there:
        raise NotFoundError(f"{path}: no such file or folder")
    if is_folder:
        return Content(path, is_folder=True)
    if not is_file:
        raise InputError(path, "neither a file nor a folder", "give the path of a file")
    try:
        with path.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
            if head[:2] == b"\x1f\x8b":
                stream.seek(0)
                return Content(path, _inside_gzip(path, gzip.GzipFile(fileobj=stream)), packed=True)
    except OSError as cause:
        raise InputError(path, f"cannot be opened ({cause.strerror})") from cause
    if not head:
        raise InputError(path, "empty: 0 bytes", DOWNLOAD_AGAIN)
    return Content(path, head)


def _inside_gzip(path: Path, stream: gzip.GzipFile) -> bytes:
    try:
        return stream.read(SNIFFED_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as cause:
        why = "damaged gzip file: the compressed data ended early"
        raise InputError(path, why, DOWNLOAD_AGAIN) from cause


def kind_of_bytes(head: bytes) -> str:
    """What a file is by its first `SNIFFED_BYTES`, in a few words."""
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return NIFTI
    if head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
        return ANALYZE
    if head[128:132] == b"DICM" or _is_unmarked_dicom(head):
        return DICOM
    if head[8:11] == b"CR\2" and head[:2] == b"II":
        return "a camera's raw picture (CR2)"
    for magic, name in MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video")
    if head[:4] == b"RIFF":
        return "a WebP picture" if head[8:12] == b"WEBP" else "a RIFF file (sound or video)"
    if head.lstrip()[:1] == b"<" and b"<svg" in head:
        return "an SVG drawing"
    if head.lstrip()[:1] == b"<":
        return "a web page (HTML or XML)"
    return "a text file" if _is_text(head) else "a file of unknown kind"


def _is_unmarked_dicom(head: bytes) -> bool:
    """Whether it begins as a DICOM data set without preamble and mark: an early tag of group 2 or 8 of short length.

    Explicit headers name a type in two letters and its length in two bytes, implicit ones a length in four.
    """
    if len(head) < SHORTEST_DICOM:
        return False
    for order in ("<", ">"):
        group, element = struct.unpack(order + "HH", head[:4])
        if group not in (2, 8) or element > LAST_FIRST_ELEMENT:
            continue
        explicit = head[4:6] in FIRST_TYPES
        length = struct.unpack(order + "HI"[not explicit], head[6:8] if explicit else head[4:8])[0]
        if length <= LONGEST_FIRST_VALUE:
            return True
    return False


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; a last character may be cut."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return bool(text) and all(c.isprintable() or c in "\t\n\r\f" for c in text)
