"""What a result takes over from its source besides the numbers: place, NIfTI codes, or a DICOM series.

Used by the simulators and scans, and by the reconstruction job; touches no files. The geometry record of a source is
what a scan file keeps of it: nothing else is taken over, so that no patient data reaches one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import (
    GeometryError,
    SliceHeader,
    Unplaced,
    Volume,
    affine_problem,
    align_to,
)
from restore.errors import ConfigError

SCANNER_CODE = 1
"""NIfTI's name for positions in the scanner, which is what DICOM gives."""

UNPLACED = ("fastmri", "npy", "unplaced")
"""Kinds of measurements that know at most the size of their pixels."""

PLACE_TOLERANCE = 1e-3


def geometry_record(volume: Volume) -> dict[str, Any]:
    """Of a volume that is to be measured: kind, modality, units, zooms (x, y, z) in mm, codes.

    kind is "nifti" (then with `sform_code`, `qform_code` and, where both are set, `qform_from_sform`, 4 x 4 in mm),
    "dicom", "array", or "unplaced" where the source tells no orientation.
    """
    import nibabel

    from restore.datasets.volume.nifti_header import TIME_BITS, qform_from_sform

    kind = "unplaced" if isinstance(volume.header, Unplaced) else "dicom"
    record: dict[str, Any] = {
        "kind": "array" if volume.header is None else kind,
        "modality": volume.modality,
        "units": volume.units,
        "zooms": list(volume.spacing_mm),
    }
    if isinstance(volume.header, nibabel.Nifti1Header):
        codes = {name: int(volume.header[name]) for name in ("sform_code", "qform_code")}
        record.update(kind="nifti", **codes)
        if volume.frames > 1:
            record["time_unit"] = int(volume.header["xyzt_units"]) & TIME_BITS
        move = qform_from_sform(volume.header)
        if move is not None:
            record["qform_from_sform"] = move.tolist()
    return record


def header_of_source(record: dict[str, Any], affine: NDArray[np.float64]) -> Any:
    """A NIfTI header with the codes of the volume that `geometry_record` was made of; None where it had none.

    `Unplaced` for measurements whose files tell no orientation.

    affine: of the result, in mm. Raises GeometryError for a record that is damaged.
    """
    if record.get("kind") in UNPLACED:
        return Unplaced()
    if record.get("kind") == "nifti":
        sform, qform = int(record.get("sform_code", 0)), int(record.get("qform_code", 0))
    elif record.get("kind") == "dicom":
        sform = qform = SCANNER_CODE
    else:
        return None
    import nibabel

    from restore.datasets.volume.nifti_header import SECONDS_PER_UNIT

    header = nibabel.Nifti1Header()
    unit = record.get("time_unit")
    header["xyzt_units"] = 2 | (unit if unit in SECONDS_PER_UNIT else 0)  # mm
    header.set_sform(affine, code=sform)
    header.set_qform(_moved(record, affine), code=qform, strip_shears=True)
    return header


def _moved(record: dict[str, Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the source's qform puts the result."""
    if "qform_from_sform" not in record:
        return affine
    try:
        moved = np.asarray(record["qform_from_sform"], dtype=np.float64) @ affine
        problem = affine_problem(moved) if moved.shape == (4, 4) else f"its shape is {moved.shape}"
    except (ValueError, TypeError) as cause:
        problem = str(cause)
    if problem:
        raise GeometryError("scan", f"'qform_from_sform' of its record: {problem}", "make it again")
    return moved


def identity_from(volume: Volume, series: Volume) -> Volume:
    """The volume with the header of those slices of a DICOM series that lie where its own do.

    Raises ConfigError where `series` is not DICOM, GeometryError where its slices lie elsewhere, InputError where its
    headers cannot be copied.
    """
    from restore.datasets.volume.dicom_write import check_sources

    where = series.source or "series"
    if not isinstance(series.header, SliceHeader):
        raise ConfigError(f"{where}: not a DICOM series, so it has no identity to take over")
    align_to(volume, series)
    to_series = np.linalg.inv(series.affine) @ volume.affine
    in_plane = np.eye(4)[:2]
    in_plane[:, 2] = to_series[:2, 2] if volume.n_slices == 1 else 0
    same_plane = np.abs(to_series[:2] - in_plane).max() < PLACE_TOLERANCE
    if not same_plane or volume.data.shape[1:] != series.data.shape[1:]:
        raise GeometryError(
            where,
            "its slices have another size or direction than those of the result",
            "give the series that the scan was made from",
        )
    first, step = round(to_series[2, 3]), round(to_series[2, 2])
    chosen = series.select([first + step * k for k in range(volume.n_slices)])
    identified = dataclasses.replace(volume, header=chosen.header, source=series.source)
    check_sources(identified)
    return identified
