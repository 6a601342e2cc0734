"""MetaImage volumes (.mha, .mhd) read: the format of ITK, a text header and voxels behind or beside it.

May be called by `restore.datasets.open`. Read here and not by SimpleITK, which weighs fifty megabytes. Lengths are mm,
the world is LPS, and TransformMatrix holds the direction of the first axis in its first three numbers, as ITK reads it.
"""

from __future__ import annotations

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
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


AXES = ("transformmatrix", "orientation", "rotation")
MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR"}


def read(
    path: str | Path, *, index: int | None = None, modality: str = "", repair: str = ""
) -> Volume:
    """One volume of a file, (z, y, x), in the units stored; options as those of `restore.read`.

    A fourth axis is a series, of which `index` chooses. Raises InputError.
    """
    path = Path(path)
    fields, start = _header(path)
    rank = sizes_of(path, "NDims", needed(path, fields, "ndims"), 1)[0]
    if rank not in (2, 3, 4):
        raise InputError(path, f"it has {rank} dimensions", "expected 2 to 4")
    sizes = sizes_of(path, "DimSize", needed(path, fields, "dimsize"), rank)
    if fields.get("elementnumberofchannels", "1") != "1":
        raise InputError(
            path,
            f"{fields['elementnumberofchannels']} numbers a voxel (colour or vectors)",
            "take one component of it",
        )
    notes: list[str] = []
    affine = _affine(path, fields, rank, notes)
    count = sizes[3] if rank == 4 else 1
    which = chosen(path, count, index)
    where, name = path, needed(path, fields, "elementdatafile")
    if name.upper() != "LOCAL":
        where, start = beside(path, name), 0
    start = _start(path, fields, start, local=where == path)
    packing = "zlib" if _yes(fields, "compresseddata") else "raw"
    if not _yes(fields, "binarydata", default=True):
        packing = "text"
    stored = voxels(path, where, start, _dtype(path, fields), sizes[::-1], packing)
    if rank == 4:
        stored = stored[which]
        notes.append(f"volume {which} of {count}")
    data = intensities(path, stored[None] if stored.ndim == 2 else stored, repair, notes)
    if {"elementtointensityfunctionslope", "elementtointensityfunctionoffset"} & fields.keys():
        notes.append("its ElementToIntensityFunction was not applied, as ITK does not")
    modality = modality or MODALITIES.get(fields.get("modality", ""), "")
    units = "HU" if modality == "CT" else ""
    header = None if any(key in fields for key in AXES) else Unplaced()
    return Volume(data, affine, modality, units, header, path, tuple(notes))


def _start(path: Path, fields: dict[str, str], behind: int, local: bool) -> int:
    """The first byte of the voxels; HeaderSize counts from the beginning of their file, as ITK reads it.

    behind: the byte behind the header, 0 in a file of voxels alone. Returns -1 for the last bytes. Raises InputError.
    """
    skip = whole_number_of(path, fields, "headersize")
    if local and 0 < skip < behind:
        why = f"its HeaderSize is {skip}, which lies in its header of {behind} bytes"
        raise InputError(path, why, EXPORT)
    return skip or behind


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields in small letters, and the byte after the line of ElementDataFile, which is the last."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while line := stream.readline(MOST_HEADER_BYTES):
            key, mark, value = line.decode("utf-8", "replace").partition("=")
            if mark:
                fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == "elementdatafile":
                return fields, stream.tell()
            if stream.tell() > MOST_HEADER_BYTES:
                break
    raise InputError(path, "its header has no ElementDataFile", EXPORT)


def _yes(fields: dict[str, str], key: str, default: bool = False) -> bool:
    return fields.get(key, str(default)).lower() in ("true", "1", "yes")


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[np.generic]:
    name = needed(path, fields, "elementtype").upper()
    if name not in TYPES:
        raise InputError(path, f"its voxels are of type '{name}'", "convert it to NIfTI")
    big = _yes(fields, "binarydatabyteordermsb") or _yes(fields, "elementbyteordermsb")
    return np.dtype((">" if big else "<") + TYPES[name])


def _affine(path: Path, fields: dict[str, str], rank: int, notes: list[str]) -> NDArray[np.float64]:
    """Voxel (x, y, z) to RAS mm, of the first three axes."""
    n = min(rank, 3)
    keys = {
        "spacing": ("elementspacing", "elementsize"),
        "place": ("offset", "position", "origin"),
        "axes": AXES,
    }
    given = {
        what: next((numbers_of(path, k, fields[k]) for k in names if k in fields), None)
        for what, names in keys.items()
    }
    for what, found in given.items():
        if found is not None and len(found) != (rank * rank if what == "axes" else rank):
            raise InputError(
                path, f"'{keys[what][0]}' has {len(found)} numbers in {rank} dimensions", EXPORT
            )
        if found is None:
            notes.append(
                f"{keys[what][0]} is not in the header: the {what} is unknown, a default was taken"
            )
    spacing = np.ones(3)
    spacing[:n] = (given["spacing"] or [1.0] * rank)[:n]  # negative: the axis is turned round
    axes, place = np.eye(3), np.zeros(3)
    axes[:n, :n] = np.reshape(given["axes"] or np.eye(rank), (rank, rank))[:n, :n].T
    place[:n] = (given["place"] or [0.0] * rank)[:n]
    if n == 2:
        notes.append("one slice: a thickness of 1 mm was taken")
    affine = np.eye(4)
    affine[:3, :3] = LPS @ axes * spacing
    affine[:3, 3] = LPS @ place
    return affine


def _claims(content: Content) -> bool:
    named = b"NDims" in content.head and b"DimSize" in content.head
    return not content.packed and (content.head.startswith(b"ObjectType") or named)


FORMAT = Format(
    name="MetaImage",
    holds="volume",
    files=".mha, .mhd with its data file",
    ways="in",
    claims=_claims,
    open=read,
    options=("index", "modality", "repair"),
    called="a MetaImage volume",
)
