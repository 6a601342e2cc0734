"""A map of frequencies in a file of its own, beside a scan: NIfTI in the scan's place, or an array of its voxels.

May be called by the jobs that reconstruct; touches the one file it is given and that of times.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import look_at, spelled_out
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.files.cfl import SLICES, is_half, read_cfl
from restore.datasets.mri.off_resonance.precession import Precession
from restore.datasets.mri.off_resonance.sample_times import real_array, times_of_samples
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import read
from restore.datasets.scan import Scan
from restore.datasets.volume.volume import Unplaced, align_to
from restore.errors import ConfigError, InputError

LARGEST_HZ = 2e4
"""What is more are other units: fat lies 1 kHz below water at 7 T, metal shifts spins by several."""

SLIGHT = 0.05
"""Turns of the fastest spin against the slowest during a readout, below which nothing is seen to change."""

REAL = 1e-6
"""Of the largest value, the imaginary part that rounding leaves."""


def with_field_map(scan: Scan, path: str | Path | None, times: str) -> Scan:
    """The scan with the map of a file, in Hz above the scanner's frequency; without one, the scan.

    NIfTI and other volumes on the scan's grid of voxels; .npy (slices, rows, columns) or, for all slices, (rows,
    columns); NAME.cfl with the axes of BART's images, slices along axis 13. times: of `times_of_samples`. Notes tell
    the range of the map, the length of a readout and what they make. Raises ConfigError for a scan of no k-space or
    that tells no times, NotFoundError, InputError for a map that does not fit it.
    """
    if path is None:
        if times:
            raise ConfigError(
                f"readout times {times!r} serve a field map, which is not given; leave them out"
            )
        return scan
    path = spelled_out(path)
    if not isinstance(scan, MRIScan | EncodedScan):
        raise ConfigError(f"{path}: a field map is for MRI, and {scan.path} is {scan.modality}")
    field = _padded(_checked(_field(path, scan), path), scan, path)
    seconds = times_of_samples(scan, times)
    _tell(field, seconds, scan, path)
    return dataclasses.replace(scan, precession=Precession(field, seconds, path))


def _field(path: Path, scan: MRIScan | EncodedScan) -> NDArray[np.float64]:
    """(slices, rows, columns) or (rows, columns), as stored. Raises InputError."""
    if is_half(path):
        values = read_cfl(path)
        if float(np.abs(values.imag).max()) > REAL * float(np.abs(values.real).max()):
            raise InputError(path, "holds complex numbers, expected a field map in Hz")
        planes = np.moveaxis(values.real.astype(np.float64), (SLICES, 2), (0, 1))
        return np.squeeze(planes.reshape(-1, *planes.shape[2:]), tuple(range(3, planes.ndim - 1)))
    if path.suffix.lower() == ".npy":
        return real_array(path, "a field map in Hz")
    return _of_volume(path, scan)


def _of_volume(path: Path, scan: MRIScan | EncodedScan) -> NDArray[np.float64]:
    """By positions where both tell them, else voxel by voxel. Raises InputError."""
    look_at(path)
    grid, found = scan.empty_volume(), read(path)
    if np.iscomplexobj(found.data):
        raise InputError(path, "holds complex numbers, expected a field map in Hz")
    if not isinstance(grid.header, Unplaced) and not isinstance(found.header, Unplaced):
        return np.asarray(align_to(grid, found).data, np.float64)
    if found.data.shape == grid.data.shape:
        scan.note(f"{path.name} or the scan tells no place: the field map is taken voxel by voxel")
    return np.asarray(found.data, np.float64)


def _checked(field: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """Raises InputError for what is no map in Hz."""
    bad = int((~np.isfinite(field)).sum())
    if bad:
        raise InputError(
            path, f"the field map holds {bad} values that are NaN or infinite", "fill them, such as with zeros"
        )  # fmt: skip
    largest = float(np.abs(field).max(initial=0))
    if largest > LARGEST_HZ:
        raise InputError(
            path, f"the field map reaches {largest:.3g}", f"expected Hz, at most {LARGEST_HZ:g}"
        )
    return field


def _padded(
    field: NDArray[np.float64], scan: MRIScan | EncodedScan, path: Path
) -> NDArray[np.float32]:
    """(slices, H, W) of the encoded matrix: the map of the image, its edge continued. Raises InputError."""
    matrix = scan.matrix[-2:] if isinstance(scan, EncodedScan) else scan.shape[-2:]
    slices, image = scan.n_slices, scan.image_shape
    if field.ndim == 2:
        field = field[None]
    if len(field) not in (1, slices) or field.shape[1:] not in (image, matrix) or field.ndim != 3:
        raise InputError(
            path, f"the field map has shape {field.shape}, and the image is {(slices, *image)} (slices, rows, columns)",
            "resample it onto the image that the scan is reconstructed to",
        )  # fmt: skip
    if len(field) < slices:
        scan.note(f"{path.name}: one field map serves all {slices} slices")
        field = np.repeat(field, slices, axis=0)
    if field.shape[1:] != matrix:
        before = [(n - m) // 2 for n, m in zip(matrix, image, strict=True)]
        widths = [(b, n - m - b) for n, m, b in zip(matrix, image, before, strict=True)]
        field = np.pad(field, [(0, 0), *widths], mode="edge")
        scan.note(
            f"{path.name}: beyond the image, where the readout is oversampled, the field map's edge is continued"
        )
    return field.astype(np.float32)


def _tell(
    field: NDArray[np.float32],
    seconds: NDArray[np.float64],
    scan: MRIScan | EncodedScan,
    path: Path,
) -> None:
    low, high, span = float(field.min()), float(field.max()), float(np.ptp(seconds))
    turns = (high - low) * span
    scan.note(
        f"off-resonance from {low:.3g} to {high:.3g} Hz over {1e3 * span:.3g} ms of readout: spins turn by up to "
        f"{turns:.2g} turns against each other ({path.name})"
    )
    if turns < SLIGHT:
        scan.note(
            "so little off-resonance changes nothing that is seen: is the field map in Hz, and are the times in "
            "seconds?"
        )
