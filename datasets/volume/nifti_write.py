"""NIfTI volumes (.nii, .nii.gz) written as float32, the geometry of the source kept to the bit.

May be called by `restore.datasets.open` and by anybody who wants NIfTI. Touches the one file it is
given, which appears whole or not at all.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from restore.datasets.atomic import atomic_file
from restore.datasets.volume.nifti_header import (
    HEADER_BYTES,
    MM_PER_UNIT,
    SECONDS_PER_UNIT,
    TIME_BITS,
    affine_of,
)
from restore.datasets.volume.volume import Unplaced, Volume
from restore.errors import OutputError


def write(volume: Volume, path: str | Path, *, description: str = "") -> Path:
    """Write float32 (complex64 for complex data) with slope 1; return the path.

    A volume that came from NIfTI keeps sform, qform, both codes, units, repetition time and intent
    code; where slices were selected, both matrices follow the selection. Free text of the source
    (descrip, intent name, extensions, ...) is not copied: it may name the patient. description: up
    to 79 ASCII characters for `descrip`. Raises OutputError, also for values that are not finite.
    """
    target = Path(path)
    kind = np.complex64 if np.iscomplexobj(volume.data) else np.float32
    with np.errstate(over="ignore"):
        data = np.ascontiguousarray(volume.data, dtype=kind)
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise OutputError(f"{target}: {bad} of {data.size} voxels are not finite; nothing written")
    head = _header_for(volume, np.dtype(kind), description)
    with atomic_file(target, expected_bytes=data.nbytes + 4096) as partial:
        with partial.open("wb") as raw:
            if target.name.lower().endswith(".gz"):
                # No name and no time in the gzip header: equal volumes give equal files.
                with gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
                    _put(packed, head, data)
            else:
                _put(raw, head, data)
    return target


def _put(stream: IO[bytes] | gzip.GzipFile, head: bytes, data: NDArray[Any]) -> None:
    stream.write(head)
    for plane in data:
        stream.write(plane.tobytes())


def _header_for(volume: Volume, dtype: np.dtype[Any], description: str) -> bytes:
    """Return the bytes of header and (empty) extension flag."""
    kept = volume.header if isinstance(volume.header, nibabel.Nifti1Header) else None
    big = max(volume.data.shape) > np.iinfo(np.int16).max
    fresh = nibabel.Nifti2Header() if big else nibabel.Nifti1Header()
    header = kept.copy() if kept is not None else fresh
    zooms = header["pixdim"].copy()
    header.set_data_dtype(dtype)
    depth, rows, columns = volume.data.shape
    over_time = (volume.frames,) if volume.frames > 1 else ()
    header.set_data_shape((columns, rows, depth // volume.frames, *over_time))
    header["pixdim"] = zooms
    if kept is None:
        # 1: scanner coordinates, as DICOM gives them; 2: of some other image; 0: not known.
        code = 2 if volume.header is None else 0 if isinstance(volume.header, Unplaced) else 1
        header["xyzt_units"] = 2
        header.set_sform(volume.affine, code=code)
        header.set_qform(volume.affine, code=code, strip_shears=True)
    else:
        _follow(header, volume.affine)
    if volume.frames > 1:
        _tell_time(header, volume.frame_s)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["descrip"] = description.encode("ascii", "replace")[:79]
    version2 = int(header["sizeof_hdr"]) == HEADER_BYTES
    header["magic"] = b"n+2" if version2 else b"n+1"
    header["vox_offset"] = 544 if version2 else 352
    return bytes(header.binaryblock) + b"\0" * 4


def _tell_time(header: Any, frame_s: float | None) -> None:
    """The time between volumes, in the header's unit of time where it has one, else in seconds; 0 where unknown."""
    unit = int(header["xyzt_units"]) & TIME_BITS
    if unit not in SECONDS_PER_UNIT:
        unit = 8
    header["xyzt_units"] = int(header["xyzt_units"]) & ~TIME_BITS | unit
    header["pixdim"][4] = 0 if frame_s is None else frame_s / SECONDS_PER_UNIT[unit]
    header["toffset"] = 0


def _follow(header: Any, affine: NDArray[np.float64]) -> None:
    """Move both matrices of a kept header as the volume's affine moved since it was read.

    A header without orientation gets an sform once slices were selected: its guess depends on the
    number of slices, and the selection would seem to lie elsewhere.
    """
    before, _ = affine_of(Path("header"), header, (1, 1, 1))
    if np.array_equal(before, affine):
        return
    move = np.linalg.inv(before) @ affine
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    in_units = affine.copy()
    in_units[:3] /= MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if qform_code > 0:
        header.set_qform(header.get_qform() @ move, code=qform_code, strip_shears=True)
    else:
        header["pixdim"][1:4] = np.linalg.norm(in_units[:3, :3], axis=0)
    if sform_code > 0 or qform_code <= 0:
        header.set_sform(in_units, code=sform_code if sform_code > 0 else 2)
    for name in ("slice_start", "slice_end", "slice_code", "slice_duration"):
        header[name] = 0
