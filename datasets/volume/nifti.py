"""NIfTI volumes (.nii, .nii.gz, pairs of .hdr and .img) read, with sizes checked before memory is taken.

May be called by `restore.datasets.open` and by anybody who knows the file is NIfTI. Touches the one
file it is given. nibabel understands the header; the voxels are read here, so that a header that
asks for too much is refused and a compressed file is read to its end, where its checksum stands.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.formats import Format
from restore.datasets.volume import nifti_write
from restore.datasets.volume.nifti_header import (
    HEADER_BYTES,
    affine_of,
    check_time,
    frame_seconds,
    meaning_notes,
)
from restore.datasets.volume.nifti_pair import (
    Opened,
    claims,
    header_of,
    is_pair,
    opened,
    voxels_of,
)
from restore.datasets.volume.volume import REPAIR_HINT, Volume
from restore.errors import ConfigError, InputError, NotFoundError, RestoreError

TRAILING_BYTES = 1 << 24
"""How much may follow the voxels of a compressed file before it is taken for a bomb."""

CHUNK_BYTES = 1 << 22
EXACT_IN_FLOAT32 = 1 << 24


def read(
    path: str | Path,
    *,
    index: int | None = None,
    modality: str = "",
    repair: str = "",
    frames: bool = False,
) -> Volume:
    """Read one volume, (z, y, x), in source intensities (scl_slope and scl_inter applied).

    index: which volume of a series (4-D file), from 0; modality: "MR" or "CT" where known, the
    format does not say (CT is taken to be in HU); repair: "zero" sets voxels that are not finite
    to 0 and notes it, "" refuses them. Values are float32, float64 where float32 would round them;
    complex files stay complex. frames: read a whole series over time, its volumes one after the other along z
    (`Volume.frames`), where the file holds one and no index is given. Raises NotFoundError, InputError, ConfigError.
    """
    file = Path(path)
    if repair not in ("", "zero"):
        raise ConfigError(f"repair='{repair}', expected 'zero' or nothing")
    if not file.is_file():
        raise NotFoundError(f"{file}: there is no such file")
    try:
        return _read(file, index, modality, repair, frames and index is None)
    except RestoreError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error) as cause:
        why = "damaged: the compressed data ended early or its checksum is wrong"
        raise InputError(file, why, "fetch or export it again") from cause
    except Exception as cause:  # the one boundary: nothing else escapes this reader
        why = f"damaged or not NIfTI ({type(cause).__name__}: {cause})"
        raise InputError(file, why, "fetch or export it again") from cause


def _read(file: Path, index: int | None, modality: str, repair: str, frames: bool) -> Volume:
    header_file = header_of(file)
    with opened(header_file) as part:
        head = part.stream.read(HEADER_BYTES)
    header = _parse(header_file, head)
    pair = is_pair(head)
    with opened(voxels_of(header_file) if pair else header_file) as part:
        return _volume(file, header, part, pair, (index, modality, repair, frames))


def _volume(
    file: Path, header: Any, part: Opened, pair: bool, options: tuple[int | None, str, str, bool]
) -> Volume:
    index, modality, repair, over_time = options
    stream = part.stream
    one, n_volumes = _dimensions(file, header)
    frames, shape = 1, one
    if over_time and n_volumes > 1:
        check_time(file, header)
        frames, n_volumes, shape = n_volumes, 1, (n_volumes * one[0], *one[1:])
    dtype = _voxel_type(file, header)
    chosen = _chosen(file, n_volumes, index)
    voxels = int(np.prod(shape, dtype=object))
    start = max(_offset(file, header), 0 if pair else int(header["sizeof_hdr"]) + 4)
    end = start + n_volumes * voxels * dtype.itemsize
    if end > part.most_bytes:
        asked = f"its header asks for {end} bytes, the file can hold {part.most_bytes} at most"
        raise InputError(file, f"damaged: ended early: {asked}", "fetch or export it again")
    check_budget(voxels * (dtype.itemsize + 8 + dtype.itemsize * (dtype.kind == "c")), file)
    affine, notes = affine_of(file, header, one)
    seconds = frame_seconds(header, notes) if frames > 1 else None
    stream.seek(start + chosen * voxels * dtype.itemsize)
    buffer = _exactly(stream, voxels * dtype.itemsize)
    if part.packed:
        _to_the_end(file, stream, (n_volumes - chosen - 1) * voxels * dtype.itemsize)
    data, more = _scaled(file, header, np.frombuffer(buffer, dtype).reshape(shape), repair)
    if n_volumes > 1:
        notes.append(f"volume {chosen} of {n_volumes}")
    units = "HU" if modality == "CT" else ""
    notes = [*notes, *more, *meaning_notes(header)]
    return Volume(
        data,
        affine,
        modality,
        units,
        _kept(header),
        file,
        tuple(notes),
        frames=frames,
        frame_s=seconds,
    )


def _offset(file: Path, header: Any) -> int:
    offset = float(header["vox_offset"])
    if not np.isfinite(offset):
        raise InputError(file, f"its voxels begin at byte {offset}", "fetch or export it again")
    return int(offset)


def _parse(file: Path, head: bytes) -> Any:
    """Return a nibabel header of either version and byte order, untouched by its repairs."""
    for kind, length, magic in (
        (nibabel.Nifti1Header, 348, head[344:348] in (b"n+1\0", b"ni1\0")),
        (nibabel.Nifti2Header, 540, head[4:8] in (b"n+2\0", b"ni2\0")),
    ):
        for order in "<>":
            if magic and len(head) >= length:
                header = kind(head[:length], endianness=order, check=False)
                if int(header["sizeof_hdr"]) == length:
                    return header
    raise InputError(file, "not a NIfTI file, or its header is damaged", "expected .nii or .nii.gz")


def _dimensions(file: Path, header: Any) -> tuple[tuple[int, int, int], int]:
    """Return (nz, ny, nx) and the number of volumes."""
    dims = [int(d) for d in header["dim"]]
    rank = dims[0]
    used = dims[1 : rank + 1] if 1 <= rank <= 7 else []
    if not 2 <= rank <= 7 or min(used) < 1:
        why = f"its dimensions are {dims}, expected a rank of 2 to 7 and sizes of at least 1"
        raise InputError(file, why, "the header is damaged: export it again")
    nx, ny, nz, *rest = (*used, 1) if rank == 2 else used
    if sum(n > 1 for n in rest) > 1:
        why = f"it has {rank} dimensions, {used}; at most a series of volumes can be read"
        raise InputError(file, why, "split it into files of one volume")
    return (nz, ny, nx), int(np.prod(rest, dtype=object)) if rest else 1


def _voxel_type(file: Path, header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (KeyError, nibabel.spatialimages.HeaderDataError):
        dtype = np.dtype("V1")
    if dtype.names is not None:
        why = "a colour (RGB) volume; this program works on one intensity per voxel"
        raise InputError(file, why, "export the channels as separate volumes")
    if dtype.kind not in "iufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise InputError(file, f"its voxel type (NIfTI code {code}) cannot be read", "use float32")
    return np.dtype(dtype)


def _chosen(file: Path, n_volumes: int, index: int | None) -> int:
    if index is None and n_volumes > 1:
        why = f"it holds {n_volumes} volumes"
        raise InputError(
            file,
            why,
            f"choose one: --volume 0 to {n_volumes - 1} (index=0 to ...), or save it by itself",
        )
    if index is not None and not 0 <= index < n_volumes:
        raise ConfigError(
            f"{file}: there is no volume {index} (index={index}), it has volumes 0 to {n_volumes - 1}"
        )
    return index or 0


def _exactly(stream: IO[bytes] | gzip.GzipFile, count: int) -> bytearray:
    buffer = bytearray(count)
    view, got = memoryview(buffer), 0
    while got < count:
        block = stream.read(min(CHUNK_BYTES, count - got))
        if not block:
            raise EOFError(f"{got} of {count} bytes")
        view[got : got + len(block)] = block
        got += len(block)
    return buffer


def _to_the_end(file: Path, stream: IO[bytes] | gzip.GzipFile, expected: int) -> None:
    """Unpack the rest, which checks the length and the checksum of the whole."""
    rest = 0
    while block := stream.read(CHUNK_BYTES):
        rest += len(block)
        if rest > expected + TRAILING_BYTES:
            raise InputError(file, "far more data than its header says", "fetch it again")
    if rest < expected:
        raise EOFError(f"{rest} of {expected} bytes after the volume")


def _scaled(
    file: Path, header: Any, raw: NDArray[Any], repair: str
) -> tuple[NDArray[Any], list[str]]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    notes: list[str] = []
    if not np.isfinite(slope) or (slope != 0 and not np.isfinite(inter)):
        notes.append("the intensity scaling in the header is not finite; stored values were taken")
        slope = 0.0
    data = np.empty(raw.shape, _working_type(raw))
    tiny = float(np.finfo(data.dtype).tiny)
    if 0 < abs(slope) < tiny:
        why = f"its scaling (scl_slope {slope:g}) is too small for {data.dtype.name}"
        raise InputError(file, why, "export it again with its true scaling")
    if slope == 0 or (slope, inter) == (1.0, 0.0):  # 0 means "not scaled" in this format
        data[...] = raw
    else:
        double = np.complex128 if raw.dtype.kind == "c" else np.float64
        with np.errstate(over="ignore", invalid="ignore"):  # counted below
            for out, plane in zip(data, raw, strict=True):
                out[...] = plane.astype(double) * slope + inter
    finite = np.isfinite(data)
    bad = int(data.size - finite.sum())
    if bad and repair != "zero":
        why = f"{bad} of {data.size} voxels are not finite (NaN or infinite)"
        if np.isfinite(raw).all():
            why += f" once scaled (scl_slope {slope:g}, scl_inter {inter:g})"
            raise InputError(file, why, "export it again with its true scaling")
        raise InputError(file, why, REPAIR_HINT)
    if bad:
        data[~finite] = 0
        notes.append(f"{bad} of {data.size} voxels were not finite and were set to 0")
    return data, notes


def _working_type(raw: NDArray[Any]) -> type[np.inexact[Any]]:
    """Return the smallest of the volume types that holds the stored values exactly."""
    kind, size = raw.dtype.kind, raw.dtype.itemsize
    if kind == "c":
        return np.complex64 if size == 8 else np.complex128
    if kind == "f":
        return np.float32 if size <= 4 else np.float64
    largest = max(abs(int(raw.min())), abs(int(raw.max())))
    return np.float32 if largest <= EXACT_IN_FLOAT32 else np.float64


def _kept(header: Any) -> Any:
    """Return the header as a little-endian copy without free text."""
    kept = header.as_byteswapped("<").copy()
    if float(kept["pixdim"][0]) not in (1.0, -1.0):
        kept["pixdim"][0] = 1  # as it was read
    for text in ("descrip", "aux_file", "intent_name"):
        kept[text] = b""
    for text in ("data_type", "db_name"):
        if text in kept.keys():  # it knows no `in`
            kept[text] = b""
    return kept


FORMAT = Format(
    name="NIfTI",
    holds="volume",
    files=".nii, .nii.gz, .hdr with .img",
    ways="volume in and out",
    rank=10,
    claims=claims,
    open=read,
    options=("index", "modality", "repair", "frames"),
    save=nifti_write.write,
    suffixes=(".nii", ".nii.gz"),
    over_time=True,
)
