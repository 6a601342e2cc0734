"""Write a parallel scan as a synchrotron's Data Exchange file (DXchange): counts with a flat and a dark frame.

Called by the simulation verb; touches the one file it is given. What is read of such files: `dxchange`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restore.datasets.ct.scan import CTScan
from restore.datasets.hdf5_stack import new_hdf5
from restore.datasets.scan_record import write_record
from restore.errors import ConfigError

MM_PER_M = 1000.0
MOST_COUNTS = 2.0**30
"""Of air: noise and the rounding of 32-bit whole numbers have room above it."""


def check_counts(path: str | Path, photons: float | None) -> float:
    """The counts of a ray through air, which such a file holds as whole numbers. Raises ConfigError."""
    if photons is None or not photons <= MOST_COUNTS:
        found = "unknown" if photons is None else f"{photons:g}"
        raise ConfigError(
            f"{path}: the photons of a ray through air are {found}; a DXchange file holds counts up to {MOST_COUNTS:g}"
        )
    return photons


def write_dxchange(scan: CTScan, path: str | Path) -> None:
    """Write whole counts (views, slices, detectors), one flat of `photons`, a dark of zeros and angles in degrees.

    Group `restore` is the only addition to the schema. Raises ConfigError for unknown or too many photons, and for an
    axis of rotation beside the middle, which the schema cannot say; OutputError.
    """
    photons = check_counts(path, scan.photons)
    if scan.geometry.det_offset_mm:
        raise ConfigError(f"{path}: a DXchange file cannot say that the axis is not in the middle")
    slices, views, bins = scan.shape
    thick = float(scan.source.get("zooms", (0.0, 0.0, 0.0))[2]) or scan.geometry.det_spacing_mm
    with new_hdf5(Path(path), [(scan.sinogram, np.uint32)]) as file:
        file["implements"] = "exchange:measurement"
        data = file.create_dataset("exchange/data", (views, slices, bins), np.uint32)
        data.attrs["axes"], data.attrs["units"] = "theta:y:x", "counts"
        for k in range(slices):
            lines = scan.sinogram[k].astype(np.float64)
            data[:, k, :] = np.rint(photons * np.exp(-lines))
        file["exchange/data_white"] = np.full((1, slices, bins), photons, np.float64)
        file["exchange/data_dark"] = np.zeros((1, slices, bins), np.float32)
        file["exchange/theta"] = np.rad2deg(np.asarray(scan.geometry.angles, np.float64))
        file["exchange/theta"].attrs["units"] = "degrees"
        for axis, pitch in (("x", scan.geometry.det_spacing_mm), ("y", thick)):
            name = f"measurement/instrument/detector/{axis}_pixel_size"
            file[name] = pitch / MM_PER_M
            file[name].attrs["units"] = "m"
        write_record(file, scan)
