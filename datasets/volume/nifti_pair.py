"""Where header and voxels of a NIfTI volume lie: in one file, or in a pair of .hdr and .img.

Used by the NIfTI reader alone; opens the files that it names.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from restore.datasets.content import NIFTI, Content, look_at
from restore.errors import InputError

MOST_PER_GZIP_BYTE = 1032
"""No gzip stream unpacks to more bytes per byte than this."""

PAIR = {".img": ".hdr", ".hdr": ".img"}


@dataclass(frozen=True)
class Opened:
    """A file, unpacked where it is packed. most_bytes: that it can hold."""

    stream: IO[bytes] | gzip.GzipFile
    most_bytes: int
    packed: bool


@contextmanager
def opened(file: Path) -> Iterator[Opened]:
    """Open a file or what is in a gzip file. Raises InputError for an empty one."""
    size = file.stat().st_size
    if size == 0:
        raise InputError(file, "empty: 0 bytes", "fetch or export it again")
    with file.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield Opened(raw, size, False)
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield Opened(stream, size * MOST_PER_GZIP_BYTE, True)


def is_pair(head: bytes) -> bool:
    """Whether a header says that its voxels lie in another file."""
    return head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0"


def claims(content: Content) -> bool:
    """A NIfTI file, or the voxels beside a NIfTI header."""
    if content.kind == NIFTI:
        return True
    header = header_of(content.path)
    return header != content.path and look_at(header).kind == NIFTI


def header_of(file: Path) -> Path:
    """The file of the header: the .hdr beside an .img, for all others the file itself."""
    return _beside(file, ".img") or file


def voxels_of(file: Path) -> Path:
    """The file of the voxels that a header of a pair speaks of. Raises InputError where it is not there."""
    found = _beside(file, ".hdr")
    if found is None:
        why = "a NIfTI header whose voxels lie in another file, of the same name and .img, which is not there"
        raise InputError(file, why, "put both files of the pair into one folder")
    return found


def _beside(file: Path, suffix: str) -> Path | None:
    """The other file of a pair, packed or not, where this one has the suffix and that one exists."""
    name = file.name[:-3] if file.name.lower().endswith(".gz") else file.name
    stem, own = name[:-4], name[-4:].lower()
    if own != suffix:
        return None
    for other in (PAIR[own], PAIR[own].upper()):
        for packed in ("", ".gz"):
            found = file.with_name(stem + other + packed)
            if found.is_file():
                return found
    return None
