"""Voxels that lie behind or beside a text header: NRRD and MetaImage share how they are read.

May be called by those two readers. Touches the header's file and the one beside it that holds the voxels.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.volume.volume import REPAIR_HINT
from restore.errors import InputError

EXPORT = "fetch or export it again"
LPS = np.diag([-1.0, -1.0, 1.0])
"""From x to the left, y to the back, z to the head, to RAS."""

MOST_HEADER_BYTES = 1 << 20
_MOST_PER_BYTE = {"gzip": 1032, "zlib": 1032, "bzip2": 1 << 20}


def voxels(
    path: Path, where: Path, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], packing: str
) -> NDArray[Any]:
    """The stored numbers of `shape`, read from byte `start` of `where` (-1: the last bytes of the file).

    packing: "raw", "gzip", "zlib", "bzip2" or "text". path: the file to name in messages. Raises InputError.
    """
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    size = where.stat().st_size
    if wanted > (
        size * _MOST_PER_BYTE.get(packing, 1) if packing != "text" else size * dtype.itemsize
    ):
        why = f"damaged: ended early: its header asks for {wanted} bytes, {where.name} holds {size}"
        raise InputError(path, why, EXPORT)
    if start < 0 and packing != "raw":
        why = (
            "its header counts voxels from the end of the file, and they are not stored as they are"
        )
        raise InputError(path, why, EXPORT)
    check_budget(wanted * 3 + wanted // dtype.itemsize * 8, path)
    with where.open("rb") as stream:
        stream.seek(max(start, 0) if start >= 0 else size - wanted)
        if packing == "raw":
            found = stream.read(wanted)
        elif packing == "text":
            return _written_out(path, stream.read(), shape)
        else:
            found = _unpacked(path, stream.read(), packing, wanted)
    if len(found) < wanted:
        why = f"damaged: ended early: {len(found)} bytes of voxels instead of {wanted}"
        raise InputError(path, why, EXPORT)
    return np.frombuffer(found, dtype).reshape(shape)


def _written_out(path: Path, text: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    words = text.split()
    if len(words) != int(np.prod(shape, dtype=object)):
        raise InputError(path, f"damaged: {len(words)} voxels for a shape of {shape}", EXPORT)
    try:
        return np.array(words, dtype=np.float64).reshape(shape)
    except ValueError as cause:
        raise InputError(path, "damaged: its voxels are no numbers", EXPORT) from cause


def _unpacked(path: Path, packed: bytes, packing: str, needed: int) -> bytes:
    """At most one byte more than needed, so that a bomb stays small; the checksum at the end is verified."""
    try:
        if packing == "bzip2":
            return bz2.BZ2Decompressor().decompress(packed, needed + 1)[:needed]
        bits = 31 if packing == "gzip" else zlib.MAX_WBITS
        unpacker = zlib.decompressobj(bits)
        found = unpacker.decompress(packed, needed + 1)
        unpacker.decompress(unpacker.unconsumed_tail, 1)
        if len(found) == needed and not unpacker.eof:
            raise zlib.error("incomplete stream")
    except (OSError, EOFError, gzip.BadGzipFile, zlib.error) as cause:
        why = "damaged: the compressed data ended early or its checksum is wrong"
        raise InputError(path, why, EXPORT) from cause
    return found[:needed]


def intensities(path: Path, stored: NDArray[Any], repair: str, notes: list[str]) -> NDArray[Any]:
    """Float32, float64 where float32 would round; infinite and NaN values refused, or zero by repair="zero"."""
    exact = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
    narrow = stored.dtype.kind == "f" and stored.dtype.itemsize <= 4
    data = stored.astype(np.float32 if exact or narrow or stored.dtype == np.int8 else np.float64)
    bad = ~np.isfinite(data)
    if not bad.any():
        return data
    if repair != "zero":
        raise InputError(path, f"{int(bad.sum())} voxels are not finite", REPAIR_HINT)
    notes.append(f"{int(bad.sum())} voxels that were not finite are set to 0")
    return np.where(bad, 0, data).astype(data.dtype)


def chosen(path: Path, count: int, index: int | None) -> int:
    """Which of several volumes in a file; the only one needs no choice. Raises InputError."""
    if count == 1 and index in (None, 0):
        return 0
    if index is None:
        raise InputError(
            path, f"{count} volumes in one file", f"choose one: --volume 0 to {count - 1}"
        )
    if not 0 <= index < count:
        raise InputError(path, f"there is no volume {index}", f"it has volumes 0 to {count - 1}")
    return index


def beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names, in the header's own folder and nowhere else. Raises InputError."""
    name = name.removeprefix("./")
    if Path(name).name != name or "%" in name or re.match(r"LIST\b", name):
        why = f"its voxels lie in '{name}': several files, or another folder"
        raise InputError(path, why, "put them into one file beside the header, or convert to NIfTI")
    where = path.with_name(name)
    if not where.is_file():
        raise InputError(path, f"its voxels should lie in '{name}' beside it, which is not there")
    return where


def needed(path: Path, fields: Mapping[str, str], key: str) -> str:
    """A field that must be there. Raises InputError."""
    if key not in fields:
        raise InputError(path, f"its header has no field '{key}'", EXPORT)
    return fields[key]


def whole_number_of(path: Path, fields: Mapping[str, str], key: str) -> int:
    """A count of bytes or lines, 0 where the field is absent or empty; -1 where it says so. Raises InputError."""
    found = numbers_of(path, key, fields.get(key) or "0")
    if len(found) != 1 or found[0] != int(found[0]) or found[0] < -1:
        raise InputError(path, f"'{key}' is '{fields[key][:60]}', expected a whole number", EXPORT)
    return int(found[0])


def numbers_of(path: Path, key: str, text: str) -> list[float]:
    """The finite numbers of a field. Raises InputError."""
    try:
        found = [float(word) for word in text.split()]
    except ValueError as cause:
        raise InputError(path, f"'{key}' is '{text[:60]}', expected numbers", EXPORT) from cause
    if not found or not np.isfinite(found).all():
        raise InputError(path, f"'{key}' is '{text[:60]}', expected finite numbers", EXPORT)
    return found


def sizes_of(path: Path, key: str, text: str, rank: int) -> tuple[int, ...]:
    """The sizes of `rank` axes, at least 1 each. Raises InputError."""
    found = numbers_of(path, key, text)
    if len(found) != rank or min(found) < 1 or any(n != int(n) for n in found):
        raise InputError(path, f"'{key}' is '{text[:60]}', expected {rank} whole numbers above 0")
    return tuple(int(n) for n in found)
