"""What a result takes over from its source besides the numbers: NIfTI codes, or a DICOM series.

Used by the reconstruction and its job; touches no files.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import GeometryError, SliceHeader, Volume, align_to
from restore.errors import ConfigError

SCANNER_CODE = 1
"""NIfTI's name for positions in the scanner, which is what DICOM gives."""

PLACE_TOLERANCE = 1e-3


def source_header(source: dict[str, Any], affine: NDArray[np.float64]) -> Any:
    """A NIfTI header with the codes of the volume a scan was made from; None where it has none.

    source: the geometry record of a scan; affine: of the result, in mm.
    """
    if source.get("kind") == "nifti":
        sform, qform = int(source.get("sform_code", 0)), int(source.get("qform_code", 0))
    elif source.get("kind") == "dicom":
        sform = qform = SCANNER_CODE
    else:
        return None
    import nibabel

    header = nibabel.Nifti1Header()
    header["xyzt_units"] = 2  # mm
    header.set_sform(affine, code=sform)
    header.set_qform(affine, code=qform, strip_shears=True)
    return header


def identity_from(volume: Volume, series: Volume) -> Volume:
    """The volume with the header of those slices of a DICOM series that lie where its own do.

    Raises ConfigError where `series` is not DICOM, GeometryError where its slices lie elsewhere.
    """
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
    return dataclasses.replace(volume, header=chosen.header, source=series.source)
