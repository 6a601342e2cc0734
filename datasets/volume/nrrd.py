"""NRRD volumes (.nrrd, .nhdr) read: the format of 3D Slicer and Teem, a text header and voxels behind or beside it.

May be called by `restore.datasets.open`. The header is small enough to be read here: a package for it would bring no
more than this file. Source of the rules: the definition of NRRD file format version 5, of Teem.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.formats import Format
from restore.datasets.volume.volume import Unplaced, Volume
from restore.datasets.volume.voxel_file import (
    EXPORT,
    LPS,
    MOST_HEADER_BYTES,
    beside,
    chosen,
    intensities,
    needed,
    numbers_of,
    sizes_of,
    voxels,
    whole_number_of,
)
from restore.errors import InputError

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
PACKING = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text",
}  # fmt: skip
UNKNOWN_SPACE = "does not say where left and right are: taken as RAS"
SPACES = {
    "right-anterior-superior": np.eye(3), "ras": np.eye(3),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0]), "las": np.diag([-1.0, 1.0, 1.0]),
    "left-posterior-superior": LPS, "lps": LPS,
}  # fmt: skip
UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "": 1.0}
COLOURS = (
    "rgb",
    "rgba",
    "hsv",
    "xyz",
    "vector",
    "covariant",
    "normal",
    "matrix",
    "tensor",
    "complex",
    "quaternion",
    "2-",
    "3-",
    "4-",
)


def read(
    path: str | Path, *, index: int | None = None, modality: str = "", repair: str = ""
) -> Volume:
    """One volume of a file, (z, y, x), in the units stored; options as those of `restore.read`.

    A fourth axis is a series, of which `index` chooses. Raises InputError.
    """
    path = Path(path)
    fields, start = _header(path)
    rank = sizes_of(path, "dimension", needed(path, fields, "dimension"), 1)[0]
    sizes = sizes_of(path, "sizes", needed(path, fields, "sizes"), rank)
    along = _series_axis(path, fields, rank)
    notes: list[str] = []
    kept = [a for a in range(rank) if a != along]
    affine = _affine(path, fields, rank, kept, notes)
    count = 1 if along is None else sizes[along]
    which = chosen(path, count, index)
    where = path
    name = fields.get("data file") or fields.get("datafile")
    if name:
        where, start = beside(path, name), 0
    skip = whole_number_of(path, fields, "byte skip")
    start = -1 if skip < 0 else start + skip
    if whole_number_of(path, fields, "line skip"):
        raise InputError(path, "its voxels begin after skipped lines", "convert it to NIfTI")
    packing = PACKING.get(fields.get("encoding", "").lower())
    if packing is None:
        raise InputError(
            path,
            f"its encoding is '{fields.get('encoding', '')}'",
            f"expected one of {', '.join(PACKING)}",
        )
    stored = voxels(path, where, start, _dtype(path, fields, packing), sizes[::-1], packing)
    if along is not None:
        stored = np.take(stored, which, axis=rank - 1 - along)
        notes.append(f"volume {which} of {count}")
    data = intensities(path, stored[None] if stored.ndim == 2 else stored, repair, notes)
    if "old min" in fields or "old max" in fields:
        notes.append(
            "its values were mapped from others (old min, old max): those stored are taken"
        )
    units = "HU" if modality == "CT" else ""
    known = fields.get("space directions") and not any(UNKNOWN_SPACE in note for note in notes)
    header = None if known else Unplaced()
    return Volume(data, affine, modality, units, header, path, tuple(notes))


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields in small letters, and the byte after the empty line that ends the header."""
    with path.open("rb") as stream:
        head = stream.read(MOST_HEADER_BYTES)
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start() if end else len(head)]
    lines = text.decode("utf-8", "replace").splitlines()
    fields = {}
    for line in lines[1:]:
        key, mark, value = line.partition(":")
        if mark and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    return fields, end.end() if end else len(head)


def _dtype(path: Path, fields: dict[str, str], packing: str) -> np.dtype[np.generic]:
    name = " ".join(needed(path, fields, "type").lower().split())
    code = next((code for code, names in TYPES.items() if name in names), None)
    if code is None:
        raise InputError(path, f"its voxels are of type '{name}'", "convert it to NIfTI")
    endian = fields.get("endian", "").lower()
    if packing != "text" and code[1] != "1" and endian not in ("little", "big"):
        raise InputError(path, "it does not say 'endian: little' or 'endian: big'", EXPORT)
    return np.dtype((">" if endian == "big" else "<") + code)


def _series_axis(path: Path, fields: dict[str, str], rank: int) -> int | None:
    """The axis that is none of space; None in two and three dimensions. Raises InputError for colours and others."""
    kinds = [k.lower() for k in fields.get("kinds", "").split()]
    if any(k.startswith(COLOURS) for k in kinds):
        raise InputError(
            path,
            f"its axes are {', '.join(kinds)}: several numbers a voxel",
            "take one component of it",
        )
    if rank not in (2, 3, 4):
        raise InputError(path, f"it has {rank} dimensions", "expected 2 to 4")
    directions = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    for found, foreign in ((directions, ("none",)), (kinds, ("list", "time", "point", "stub"))):
        axes = [a for a, word in enumerate(found) if word in foreign]
        if len(axes) == 1 and rank > 2:
            return axes[0]
    return 3 if rank == 4 else None


def _affine(
    path: Path, fields: dict[str, str], rank: int, kept: list[int], notes: list[str]
) -> NDArray[np.float64]:
    """Voxel (x, y, z) to RAS mm of the three axes of space."""
    affine, space = np.eye(4), fields.get("space", "").lower().removesuffix("-time")
    vectors = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    if len(vectors) != rank or "none" in [vectors[a] for a in kept]:
        _spacings_alone(path, fields, rank, kept, affine, notes)
        return affine
    for column, axis in enumerate(kept):
        affine[:3, column] = _vector(path, "space directions", vectors[axis], rank)
    if len(kept) == 2:
        across = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
        notes.append("one slice: a thickness of 1 mm was taken")
    if "space origin" in fields:
        affine[:3, 3] = _vector(path, "space origin", fields["space origin"], rank, time=True)
    else:
        notes.append("no 'space origin' in the header: the place is unknown, 0 was taken")
    unit = (re.findall(r'"([^"]*)"', fields.get("space units", "")) or ["mm"])[0].strip().lower()
    if unit not in UNITS_MM:
        raise InputError(path, f"its lengths are in '{unit}'", "expected mm, cm, m or um")
    affine[:3] *= UNITS_MM[unit]
    if space in SPACES:
        affine[:3] = SPACES[space] @ affine[:3]
    else:
        notes.append(f"its space '{space or 'not named'}' {UNKNOWN_SPACE}")
    return affine


def _vector(path: Path, key: str, text: str, rank: int, time: bool = False) -> list[float]:
    """Three numbers in space; of a space with time the first three, where the fourth is 0 or, with `time`, any."""
    found = numbers_of(path, key, text.strip("()").replace(",", " "))
    if len(found) == 4 and rank == 4 and (time or found[3] == 0):
        found = found[:3]
    if len(found) != 3:
        raise InputError(path, f"'{key}' has {len(found)} numbers in a vector, expected 3")
    return found


def _spacings_alone(
    path: Path,
    fields: dict[str, str],
    rank: int,
    kept: list[int],
    affine: NDArray[np.float64],
    notes: list[str],
) -> None:
    words = fields.get("spacings", "").split()
    found = words if len(words) == rank else ["nan"] * rank  # nan: an axis that is none of space
    lengths = [
        0.0 if found[a].lower() == "nan" else numbers_of(path, "spacings", found[a])[0]
        for a in kept
    ]
    pitch = [max(length, 0.0) for length in lengths]
    if all(pitch):
        notes.append("orientation and place are not in the header: only the size of the voxels")
    else:
        notes.append("the size of the voxels is not in the header: 1 mm was taken; place unknown")
    for column, length in enumerate(pitch):
        affine[column, column] = length or 1.0


def _claims(content: Content) -> bool:
    return content.head.startswith(b"NRRD") and not content.packed


FORMAT = Format(
    name="NRRD",
    holds="volume",
    files=".nrrd, .nhdr with its data file",
    ways="in",
    claims=_claims,
    open=read,
    options=("index", "modality", "repair"),
    called="an NRRD volume",
)
