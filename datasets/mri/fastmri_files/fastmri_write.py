"""Write k-space in the layout of the published fastMRI files: complete ones and test ones.

May be called by the simulation verb, benchmarks and tests; touches the one file it is given.
`fastmri.write_fastmri` writes this package's own scans instead, which are undersampled and hold the
mask, the maps and the noise level.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.hdf5_stack import new_hdf5
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri_header import format_header
from restore.datasets.mri.fastmri_files.fastmri_masks import fastmri_mask, masked_kspace
from restore.datasets.mri.pattern.sampling import Mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan_record import write_record
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError

NO_PATIENT = "SIMULATED"
"""What stands in the attribute `patient_id`, which other readers may ask for."""


@dataclass(frozen=True)
class Undersampling:
    """How the k-space of a test file is undersampled; arguments of `fastmri_mask`."""

    acceleration: int
    center_fraction: float
    kind: str = "random"


def write_fastmri_file(
    scan: MRIScan, path: str | Path, test: Undersampling | None = None, name: str = ""
) -> None:
    """Write a fully sampled scan slice by slice as published files are, atomically.

    scan: its mask (W,) holds one run of measured columns, the others are zero padding. Without
    `test`: the whole k-space, the target `reconstruction_rss` (one coil: `reconstruction_esc`) and
    its `max` and `norm`. With `test`: k-space cut by the mask that fastMRI gives a file of this
    name, the mask, `acceleration` and `num_low_frequency`, no target; the mask covers padding too,
    as in published files. name: the one that the file will have, by default that of `path`. Group
    `restore` says where the slices lie and how they were made. Raises ConfigError for a scan that
    is not fully sampled and as `fastmri_mask`, OutputError.
    """
    path = Path(path)
    columns = _measured(scan.mask)
    slices, coils, height, width = scan.shape
    if test is not None:
        mask, low = test_mask(scan, test, name or path.name)
    shape = (slices, height, width) if coils == 1 else scan.shape
    # Only the size of this stack is looked at, for the room on the disk.
    target = None if test else LazyStack((slices, *scan.recon_shape), scan.kspace.load)
    with new_hdf5(path, [(scan.kspace, np.complex64), (target, np.float32)]) as file:
        kspace = file.create_dataset("kspace", shape, np.complex64, chunks=(1, *shape[1:]))
        if test is None:
            _write_full(file, kspace, scan)
        else:
            for index in range(slices):
                kspace[index] = _stored(masked_kspace(scan.kspace[index], mask), kspace)
            file["mask"] = mask
            file.attrs.update(acceleration=test.acceleration, num_low_frequency=low)
        spacing = np.eye(4) if scan.affine is None else scan.affine
        across, down, through = map(float, np.linalg.norm(spacing[:3, :3], axis=0))
        file["ismrmrd_header"] = format_header(
            (height, width), (across, down, through), scan.recon_shape, columns
        )
        file.attrs["acquisition"] = str(scan.settings.get("acquisition", "MR"))
        file.attrs["patient_id"] = NO_PATIENT
        write_record(file, scan)


def test_mask(scan: MRIScan, test: Undersampling, name: str) -> tuple[Mask, int]:
    """The mask of the test file `name` of a scan and its number of central columns. Raises ConfigError."""
    mask, low = fastmri_mask(
        test.kind, scan.shape[-1], test.acceleration, test.center_fraction, name
    )
    if not (mask & scan.mask).any():
        raise ConfigError("no measured column is left by this mask")
    return mask, low


def target_image(kspace: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The root sum of squares over the coils of k-space (coils, H, W), its middle `shape`.

    For one coil it is the magnitude. The transform is centred and orthonormal.
    """
    axes = (-2, -1)
    images = fft.fftshift(fft.ifft2(fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    combined = np.sqrt(np.sum(images.real**2 + images.imag**2, axis=0))
    return center_crop(combined, shape).astype(np.float32)


def _write_full(file: h5py.File, kspace: h5py.Dataset, scan: MRIScan) -> None:
    """All of k-space, and the target of it with its maximum and norm."""
    key = "reconstruction_rss" if kspace.ndim == 4 else "reconstruction_esc"
    shape = (scan.n_slices, *scan.recon_shape)
    target = file.create_dataset(key, shape, np.float32, chunks=(1, *shape[1:]))
    largest, energy = 0.0, 0.0
    for index in range(scan.n_slices):
        values = scan.kspace[index]
        image = target_image(values, scan.recon_shape)
        kspace[index], target[index] = _stored(values, kspace), image
        largest = max(largest, float(image.max()))
        energy += float(np.sum(np.square(image, dtype=float)))
    file.attrs.update(max=largest, norm=energy**0.5)


def _stored(values: NDArray[Any], kspace: h5py.Dataset) -> NDArray[Any]:
    """A slice (coils, H, W) without its coil axis where the file has none."""
    return values if kspace.ndim == 4 else values[0]


def _measured(mask: Mask) -> tuple[int, int]:
    """First and one past the last measured column."""
    found = np.flatnonzero(mask)
    if mask.ndim != 1 or not found.size or found[-1] - found[0] + 1 != found.size:
        raise ConfigError(
            "only a fully sampled scan has the layout of a published file: one run of columns"
        )
    return int(found[0]), int(found[-1]) + 1
