"""Read k-space in files of named arrays (.npz, MATLAB's .mat): what each array is by its name, its axes by their order.

May be called by `open_scan`; touches the one file it is given. Axes are taken in the usual order of the program that
writes such files, or as the caller says, and said in a note; the energy of k-space is held against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import look_at
from restore.datasets.formats import Format
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.files.array_files import is_matlab, is_npz, open_arrays
from restore.datasets.mri.files.array_roles import Arrays
from restore.datasets.mri.files.given_points import checked_points, matrix_of
from restore.datasets.mri.files.kspace_array import scan_of_stack
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.receivers.noise_covariance import samples_of
from restore.datasets.mri.receivers.noise_scan import checked_noise
from restore.datasets.mri.scan import MRIScan
from restore.datasets.stack import LazyStack
from restore.errors import InputError

UNPLACED = "the file tells no orientation: NIfTI is written with sform and qform code 0"


def read_named_arrays(
    path: str | Path, repair: str = "", kspace_order: str = "", axes: str = ""
) -> MRIScan | EncodedScan:
    """K-space with whatever else the file names: maps, mask, trajectory, noise, voxels (docs/scan-files.md).

    axes: of k-space, "slices,coils,rows,columns" and so on in the order of the file's own program; by default (slices,
    coils, rows, columns) in .npz and (rows, columns, coils, slices) in MATLAB. repair, kspace_order: as in
    `read_fastmri`. Raises NotFoundError, InputError, ConfigError.
    """
    path, notes = Path(path), list[str]()
    arrays = Arrays.of(open_arrays(look_at(path)), path, axes, notes)
    kspace = arrays.kspace()
    common: dict[str, Any] = {
        "source": {"kind": "unplaced", "modality": "MR", "units": "arbitrary"},
        "affine": _affine(arrays, notes), "noise_scan": _noise_scan(arrays, kspace.shape[1]),
    }  # fmt: skip
    level = arrays.number("noise_std")
    if level is None and arrays.has("noise_cov"):
        level = float(np.sqrt(np.mean(np.abs(np.diag(arrays.load("noise_cov")))) / 2))
    if arrays.has("density"):
        notes.append("the density in the file is not used: samples have the noise that they have")
    if arrays.along:
        if repair or kspace_order:
            raise InputError(
                path,
                "k-space along a trajectory has no order and no lines to repair",
                "leave these out",
            )
        return _along(arrays, kspace, level, common)
    stack = LazyStack(kspace.shape, lambda index: kspace[index])
    mask = arrays.mask() if arrays.has("mask") else None
    return scan_of_stack(
        stack, path, notes, repair, kspace_order, stored_mask=mask, maps=arrays.maps(kspace.shape), level=level,
        **common,
    )  # fmt: skip


def _along(
    arrays: Arrays, kspace: NDArray[np.complex64], level: float | None, common: dict[str, Any]
) -> NonCartesianScan:
    """kspace: (slices, coils, readouts, samples)."""
    path, notes = arrays.path, arrays.notes
    points = arrays.points()
    matrix = arrays.matrix(points.shape[-1]) or matrix_of(
        points.reshape(-1, points.shape[-1]), notes
    )
    points = checked_points(points, kspace.shape[2:], matrix, path, notes)
    if len(matrix) == 3 and len(kspace) > 1:
        raise InputError(
            path,
            f"{len(kspace)} slices along a trajectory of three dimensions",
            "choose one volume",
        )
    if not np.isfinite(kspace).all():
        raise InputError(path, "k-space holds NaN or infinite values", "leave these readouts out")
    return NonCartesianScan(
        path=path, kspace=LazyStack(kspace.shape, lambda index: kspace[index].copy()), points=points, matrix=matrix,
        recon_shape=(matrix[-2], matrix[-1]), maps=arrays.maps((*kspace.shape[:2], *matrix)), noise_std=level,
        slice_indices=tuple(range(matrix[0] if len(matrix) == 3 else len(kspace))), notes=notes, **common,
    )  # fmt: skip


def _affine(arrays: Arrays, notes: list[str]) -> NDArray[np.float64] | None:
    """Sizes of voxels, where the file tells them; no file of arrays tells an orientation."""
    sizes = arrays.voxel_mm()
    if sizes is None:
        notes.append(f"{UNPLACED} and pixels of 1 mm")
        return None
    notes.append(UNPLACED)
    return np.diag([*sizes[::-1], 1.0])


def _noise_scan(arrays: Arrays, coils: int) -> NDArray[np.complex128] | None:
    if arrays.has("noise_scan"):
        return checked_noise(
            arrays.load("noise_scan"), arrays.roles["noise_scan"], arrays.path, coils
        )
    return (
        samples_of(arrays.load("noise_cov"), coils, arrays.path)
        if arrays.has("noise_cov")
        else None
    )


FORMAT = Format(
    name="named arrays",
    holds="scan",
    files=".npz, .mat (MATLAB 5 and 7.3)",
    ways="k-space in, with maps, mask or trajectory, noise and voxel sizes by their names",
    claims=lambda content: is_npz(content) or is_matlab(content),
    open=read_named_arrays,
    options=("repair", "kspace_order", "axes"),
    called="a file of named arrays",
    rank=40,
)
