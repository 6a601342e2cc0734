"""SHA-256 of what a file or a folder of files holds, so that a change of any byte is seen.

May be called by everybody who records or compares sources; reads the files it is given. A hash is remembered in this
process for as long as the system says that the file is as it was: size, both times and place on the disk. The time of
the last change of a file's record (ctime) cannot be set back as that of its content can; a file that changed just
now is read again, for it may change once more within the grain of the clock.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from restore.errors import InputError, NotFoundError

BLOCK_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000
"""Two seconds: the coarsest clock of a common file system (FAT)."""

_State = tuple[int, ...]
_known: dict[str, tuple[_State, tuple[str, bool]]] = {}


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files: that of their sorted hashes, in hex.

    A folder's is over its DICOM files, over all where it has none, hidden ones left out; names and
    order play no part. Raises NotFoundError, InputError.
    """
    source = Path(path)
    if source.is_dir():
        files = [f for f in source.rglob("*") if f.is_file() and not f.name.startswith(".")]
        hashes = [_hash(f) for f in files]
        chosen = [digest for digest, is_dicom in hashes if is_dicom] or [d for d, _ in hashes]
        return hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest()
    if not source.is_file():
        raise NotFoundError(f"{source}: there is no such file")
    return _hash(source)[0]


def _hash(file: Path) -> tuple[str, bool]:
    """The hash, and whether the file carries the DICOM mark."""
    name = os.path.abspath(file)  # noqa: PTH100 (links stay: their target is told by its place on the disk)
    try:
        before = _state(file)
        if name in _known and _known[name][0] == before:
            return _known[name][1]
        found = _read(file)
        after = _state(file)
    except OSError as cause:
        raise InputError(file, f"cannot be read ({cause.strerror})") from cause
    _known.pop(name, None)
    if before == after and max(after[1:3]) < time.time_ns() - SETTLED_NS:
        _known[name] = (after, found)
    return found


def _state(file: Path) -> _State:
    """Size, times of the last change of content and of record, device and inode."""
    s = file.stat()
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_dev, s.st_ino


def _read(file: Path) -> tuple[str, bool]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        head = stream.read(BLOCK_BYTES)
        digest.update(head)
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest(), head[128:132] == b"DICM"
