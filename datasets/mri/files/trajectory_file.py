"""Read and write k-space along a trajectory in HDF5: the layout of docs/scan-files.md.

May be called by `open_scan` and the simulation verb; touches the one file it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import attribute, find_dataset, names, open_hdf5, root_names
from restore.datasets.hdf5_stack import (
    as_complex,
    companion,
    is_pair,
    is_two_channel,
    new_hdf5,
    read_slice,
    write_stack,
)
from restore.datasets.mri.files.given_points import checked_points, matrix_of
from restore.datasets.mri.files.stored_maps import read_maps
from restore.datasets.mri.files.stored_times import read_times
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.receivers.noise_scan import read_noise_scan
from restore.datasets.scan_record import read_record, write_record
from restore.datasets.stack import LazyStack
from restore.errors import InputError

MOST_PIXELS = 4096
"""Along an axis of the matrix."""


def read_trajectory_file(path: str | Path) -> NonCartesianScan:
    """Open such a file; slices are read when asked for.

    `kspace` (items, coils, readouts, samples), or (coils, readouts, samples) of one, complex; `trajectory` (readouts,
    samples, 2 or 3) with the attribute `matrix`; optional `sensitivity_maps`, `noise_scan`, `reconstruction_rss`,
    `times_s`, attributes `dwell_s` and `noise_std` and group `restore`. Raises NotFoundError, InputError.
    """
    path, notes = Path(path), list[str]()
    with open_hdf5(path) as file:
        shape = _kspace_shape(file, path)
        points, matrix = _points(file, path, shape, notes)
        slices = matrix[0] if len(matrix) == 3 else shape[0]
        if len(matrix) == 3 and shape[0] != 1:
            raise InputError(
                path,
                f"'kspace' {shape} holds {shape[0]} volumes along a trajectory of three dimensions",
                "expected one: choose it, or average them",
            )
        reference = companion(file, path, "reconstruction_rss", (slices,), 3, np.float32)
        maps = read_maps(file, path, (shape[0], shape[1], *matrix), notes)
        noise_scan = read_noise_scan(file, path, shape[1])
        record = read_record(file, path, slices)
        noise = attribute(file, "noise_std")
        times, dwell = read_times(file, path, shape[2:])
    if noise is not None and not (
        isinstance(noise, int | float) and np.isfinite(noise) and noise >= 0
    ):
        raise InputError(path, f"attribute 'noise_std' is {noise!r}, expected a number >= 0")
    if record.affine is None:
        notes.append("the file tells no geometry: NIfTI is written with pixels of 1 mm and code 0")
    return NonCartesianScan(
        path=path,
        kspace=LazyStack(shape, _loader(path, shape)),
        points=points,
        matrix=matrix,
        recon_shape=_crop(reference, matrix, path),
        slice_indices=record.slice_indices,
        noise_std=None if noise is None else float(noise),
        maps=maps,
        noise_scan=noise_scan,
        times_s=times,
        dwell_s=dwell,
        affine=record.affine,
        reference=reference,
        source=record.source or {"kind": "trajectory", "modality": "MR", "units": "arbitrary"},
        settings=record.settings,
        notes=[*notes, *record.notes],
    )


def write_trajectory_file(scan: NonCartesianScan, path: str | Path) -> None:
    """Write a scan item by item, atomically. Raises OutputError where the file cannot be written."""
    stacks = [(scan.kspace, np.complex64), (scan.maps, np.complex64), (scan.reference, np.float32)]
    with new_hdf5(Path(path), stacks) as file:
        write_stack(file, "kspace", scan.kspace, np.complex64)
        file["trajectory"] = scan.points
        file["trajectory"].attrs["matrix"] = np.array(scan.matrix, np.int64)
        if scan.maps is not None:
            write_stack(file, "sensitivity_maps", scan.maps, np.complex64)
        if scan.reference is not None:
            write_stack(file, "reconstruction_rss", scan.reference, np.float32)
        if scan.noise_std is not None:
            file.attrs["noise_std"] = float(scan.noise_std)
        if scan.times_s is not None:
            file["times_s"] = scan.times_s
        elif scan.dwell_s is not None:
            file.attrs["dwell_s"] = scan.dwell_s
        write_record(file, scan)


def _kspace_shape(file: h5py.File, path: Path) -> tuple[int, int, int, int]:
    kspace = find_dataset(file, "kspace", pairs=True)
    if kspace is None:
        raise InputError(path, f"no data set 'kspace'; the file holds {names(file)}")
    sizes = tuple(map(int, kspace.shape))
    two = is_two_channel(sizes, kspace.dtype) and len(sizes) > 3
    if not two and not is_pair(kspace.dtype) and kspace.dtype.kind != "c":
        raise InputError(path, f"'kspace' must be complex, found {kspace.dtype}")
    sizes = sizes[:-1] if two else sizes
    if len(sizes) == 3:
        sizes = (1, *sizes)
    if len(sizes) != 4 or 0 in sizes:
        raise InputError(
            path,
            f"'kspace' has shape {kspace.shape} beside a 'trajectory'",
            "expected (slices, coils, readouts, samples)",
        )
    return sizes[0], sizes[1], sizes[2], sizes[3]


def _points(
    file: h5py.File, path: Path, shape: tuple[int, ...], notes: list[str]
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    stored = find_dataset(file, "trajectory")
    if stored is None or stored.dtype.kind not in "fiu" or stored.ndim < 2:
        found = "is a group" if stored is None else f"is {stored.dtype} of shape {stored.shape}"
        raise InputError(
            path, f"'trajectory' {found}", "expected real numbers (readouts, samples, 2 or 3)"
        )
    points = np.asarray(stored[()], np.float64)
    told = attribute(stored, "matrix")
    if told is None:
        matrix = matrix_of(points.reshape(-1, points.shape[-1]), notes)
    else:
        sizes = np.atleast_1d(np.asarray(told))
        whole = sizes.dtype.kind in "iu" and sizes.shape in ((2,), (3,))
        if not (whole and sizes.min() >= 1 and sizes.max() <= MOST_PIXELS):
            raise InputError(
                path, f"attribute 'matrix' of 'trajectory' is {told!r}",
                f"expected (rows, columns), or (slices, rows, columns), up to {MOST_PIXELS}",
            )  # fmt: skip
        matrix = tuple(map(int, sizes))
    return checked_points(points, shape[-2:], matrix, path, notes), matrix


def _crop(reference: LazyStack | None, matrix: tuple[int, ...], path: Path) -> tuple[int, int]:
    """The image's rows and columns: those of the reference, else of the matrix. Raises InputError."""
    if reference is None:
        return matrix[-2], matrix[-1]
    rows, columns = reference.shape[1:]
    if rows > matrix[-2] or columns > matrix[-1]:
        raise InputError(
            path, f"'reconstruction_rss' is {rows} x {columns}, larger than the matrix {matrix}"
        )
    return rows, columns


def _loader(path: Path, shape: tuple[int, ...]) -> Callable[[int], NDArray[Any]]:
    def load(index: int) -> NDArray[Any]:
        with open_hdf5(path) as file:
            stored = find_dataset(file, "kspace", pairs=True)
            single = (
                stored is not None
                and len(stored.shape) - is_two_channel(stored.shape, stored.dtype) == 3
            )
        if single:
            planes = [as_complex(read_slice(path, "kspace", c, None)) for c in range(shape[1])]
            values = np.stack(planes)
        else:
            values = as_complex(read_slice(path, "kspace", index, None))
        values = values.reshape(shape[1:])
        if not np.isfinite(values).all():
            raise InputError(
                path,
                f"k-space holds NaN or infinite values in item {index}",
                "leave these readouts out of 'kspace' and 'trajectory'",
            )
        return values

    return load


FORMAT = Format(
    name="k-space along a trajectory",
    holds="scan",
    files=".h5",
    ways="radial, spiral and other k-space in and out",
    claims=lambda content: {"kspace", "trajectory"} <= root_names(content),
    open=read_trajectory_file,
    called="k-space along a trajectory",
)
