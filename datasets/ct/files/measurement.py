"""Read and write this package's CT measurement file: post-log sinograms with their geometry.

May be called by `scan.open_scan` and the simulation verb; touches the one file it is given. Layout:
docs/scan-files.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.ct.detector.counts import line_integrals_of_counts
from restore.datasets.ct.detector.lost_rays import bridged
from restore.datasets.ct.files.stored_values import geometry_kind, read_stored, write_stored
from restore.datasets.ct.scan import CTScan
from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import (
    attribute,
    find_dataset,
    find_group,
    names,
    open_hdf5,
    root_names,
)
from restore.datasets.hdf5_stack import companion, new_hdf5, read_slice, write_stack
from restore.datasets.scan_record import read_record, write_record
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import ConfigError, InputError
from restore.operators.ct.geometry import ParallelBeam

GEOMETRY = ("det_spacing_mm", "shape", "pixel_mm", "det_offset_mm")


def read_ct_measurement(path: str | Path, repair: str = "") -> CTScan:
    """Open a CT measurement file; slices are read when asked for.

    Needs `sinogram` (slices, views, detectors), or `counts` of that shape with `flat` (`counts`), and the group
    `geometry`; the rest is optional. The noise of an air ray comes from `noise_std`, from the photons, or from the ends
    of the detector. repair as in `scan.open_scan`. Raises NotFoundError, InputError.
    """
    path = Path(path)
    notes: list[str] = []
    with open_hdf5(path) as file:
        counted = line_integrals_of_counts(file, path, True, notes)
        shape = _sinogram_shape(file, path, counted)
        geometry = _read_geometry(file, path, shape)
        lead = (shape[0], *geometry.shape)
        reference = companion(file, path, "reference_hu", lead, 3, np.float32)
        record = read_record(file, path, shape[0])
        stored = read_stored(file, path)

    def load(index: int) -> NDArray[Any]:
        lines = counted.load(index) if counted else read_slice(path, "sinogram", index, np.float32)
        return checked_slice(lines, path, index, repair, notes, bridged)

    sinogram = LazyStack(shape, load)
    photons, noise, mu_water = stored.completed(lambda: sinogram[shape[0] // 2], notes)
    notes.extend(record.notes)
    return CTScan(
        path=path,
        sinogram=sinogram,
        geometry=geometry,
        mu_water=mu_water,
        slice_indices=record.slice_indices,
        photons=photons,
        noise_std=noise,
        affine=record.affine,
        reference=reference,
        source=record.source or {"kind": "ct", "modality": "CT", "units": "HU"},
        settings=record.settings,
        notes=notes,
    )


def write_ct_measurement(scan: CTScan, path: str | Path) -> None:
    """Write a scan slice by slice, atomically.

    Raises OutputError where the file cannot be written.
    """
    stacks = [(scan.sinogram, np.float32), (scan.reference, np.float32)]
    with new_hdf5(Path(path), stacks) as file:
        write_stack(file, "sinogram", scan.sinogram, np.float32)
        if scan.reference is not None:
            write_stack(file, "reference_hu", scan.reference, np.float32)
        stored = scan.geometry.to_dict()
        file["geometry/angles_rad"] = np.asarray(scan.geometry.angles, np.float64)
        write_stored(file, stored, GEOMETRY, scan)
        write_record(file, scan)


def _sinogram_shape(file: h5py.File, path: Path, counted: LazyStack | None) -> tuple[int, int, int]:
    sinogram = find_dataset(file, "sinogram")
    if counted is not None:
        if sinogram is not None:
            raise InputError(path, "holds 'sinogram' and 'counts'", "leave one of them out")
        slices, views, detectors = counted.shape
        return slices, views, detectors
    if sinogram is None:
        raise InputError(path, f"no data set 'sinogram'; the file holds {names(file)}")
    if sinogram.ndim != 3 or 0 in sinogram.shape or sinogram.dtype.kind not in "fiu":
        raise InputError(
            path,
            f"'sinogram' has shape {sinogram.shape} and type {sinogram.dtype}",
            "expected real numbers (slices, views, detectors)",
        )
    slices, views, detectors = map(int, sinogram.shape)
    return slices, views, detectors


def _read_geometry(file: h5py.File, path: Path, shape: tuple[int, ...]) -> ParallelBeam:
    group = find_group(file, "geometry")
    angles = find_dataset(file, "geometry/angles_rad")
    if group is None or angles is None:
        raise InputError(
            path,
            f"no 'geometry/angles_rad'; the file holds {names(file)}",
            "see docs/scan-files.md",
        )
    if angles.shape != (shape[1],):
        turned = angles.shape == (shape[2],)
        raise InputError(
            path, f"'angles_rad' has shape {angles.shape} but the sinogram {shape} has {shape[1]} views",
            "it seems to be stored as (slices, detectors, views): swap its two last axes"
            if turned else "expected one angle a view, the sinogram as (slices, views, detectors)",
        )  # fmt: skip
    stored = {name: attribute(group, name) for name in ("kind", *GEOMETRY)}
    present = {name: value for name, value in stored.items() if value is not None}
    try:
        return ParallelBeam.from_dict({**present, "angles": angles[()], "n_det": shape[2]})
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}", "see docs/scan-files.md") from error


def _claims(content: Content) -> bool:
    found = root_names(content)
    if "counts" not in found or "geometry" not in found:
        return "sinogram" in found
    return geometry_kind(content.path) in (None, "parallel")


FORMAT = Format(
    name="CT measurement HDF5",
    holds="scan",
    files=".h5",
    ways="parallel-beam sinogram in and out, counts with flat and dark in (docs/scan-files.md)",
    claims=_claims,
    open=read_ct_measurement,
    options=("repair",),
    called="a CT measurement",
)
