"""Volumes written as one TIFF file of float32 pages, one a slice, for programs that read neither NIfTI nor DICOM.

May be called by `restore.datasets.open`. Touches the one file it is given, which appears whole or not at all. A TIFF
knows the size of its pixels alone: slice distance and units stand in the description of its first page, and, with the
affine, in the record beside the result.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from restore.datasets.atomic import atomic_file
from restore.datasets.formats import Format
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, OutputError

MM_PER_CM = 10.0
_LARGEST_CLASSIC = 2**32 - 2**25  # 4 GB less room for the pages' tags, tifffile's own limit
_HEAD_BYTES = 4096


def write_tiff_stack(volume: Volume, path: str | Path, *, description: str = "") -> Path:
    """Write float32 pages, row 0 of a slice first; return the path.

    Pixels per cm stand in the resolution tags; BigTIFF beyond 4 GB. Raises ConfigError for complex data, OutputError,
    also for values that are not finite.
    """
    target = Path(path)
    if np.iscomplexobj(volume.data):
        raise ConfigError(f"{target}: TIFF holds real values, the volume is complex; write NIfTI")
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise OutputError(f"{target}: {bad} of {data.size} voxels are not finite; nothing written")
    dx, dy, dz = volume.spacing_mm
    told = {"axes": "ZYX", "spacing_mm": [dz, dy, dx], "units": volume.units, "made": description}
    with atomic_file(target, expected_bytes=data.nbytes + _HEAD_BYTES * len(data)) as partial:
        big = data.nbytes > _LARGEST_CLASSIC
        with tifffile.TiffWriter(partial, bigtiff=big) as stack:
            for k, page in enumerate(data):
                stack.write(
                    page, photometric="minisblack", metadata=None, contiguous=False,
                    description=json.dumps(told) if k == 0 else None, resolutionunit="CENTIMETER",
                    resolution=(MM_PER_CM / dx, MM_PER_CM / dy),
                )  # fmt: skip
    return target


def _not_read(path: Path) -> Volume:
    raise InputError(
        path, "a stack of TIFF pages, which is written, not read", "keep NIfTI for that"
    )


FORMAT = Format(
    name="TIFF stack",
    holds="volume",
    files=".tif",
    ways="float32 pages, one a slice, out",
    claims=lambda content: False,
    open=_not_read,
    rank=90,
    save=write_tiff_stack,
    suffixes=(".tif", ".tiff"),
    read_back=False,
)
