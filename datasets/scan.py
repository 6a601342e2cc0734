"""Measured scans as the reconstruction sees them, whatever file or simulation they come from.

May be used by every layer above; holds numbers and lazy readers, no torch. `open_scan` finds the
reader by the file's content; LoDoPaB-CT's files, whose one data set is called `data`, also by their
name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.ct.geometry import ParallelBeam

REPAIRS = ("", "zero")


@dataclass(frozen=True, eq=False)
class LazyStack:
    """A stack of equally shaped slices that are read or computed one at a time.

    `stack[i]` (or `stack(i)`) is one slice, `stack[a:b:c]` several as one new array;
    `np.asarray(stack)` is all of it. `shape` includes the slice axis in front; `load(i)` gives
    slice i for 0 <= i < shape[0].
    """

    shape: tuple[int, ...]
    load: Callable[[int], NDArray[Any]]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            if not chosen:
                return np.zeros((0, *self.shape[1:]), self.load(0).dtype)
            return np.stack([self.load(i) for i in chosen])
        if not -len(self) <= index < len(self):
            raise IndexError(f"slice {index} of {len(self)}")
        return self.load(index % len(self))

    def __call__(self, index: int | slice) -> NDArray[Any]:
        """The same as indexing."""
        return self[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = self[:]
        return values if dtype is None else values.astype(dtype)


@dataclass(frozen=True, eq=False)
class MRIScan:
    """Cartesian multi-coil k-space of some slices: y = mask F(S x), centred orthonormal F.

    kspace: complex64 (slices, coils, H, W), zero outside the mask; the last axis is the
    phase-encode axis. mask: bool (W,) or (H, W), the same for all slices. noise_std: per real
    channel, in k-space units, or None. maps: coil sensitivities complex64 (slices, coils, H, W)
    with sum |S|^2 = 1, or None (then calibrate). affine: voxel (W index, H index, slice) -> RAS mm
    for the image after the centre crop to `recon_shape`, or None. slice_indices: where the slices
    stood in the source. recon_shape: (rows, columns) of the final image. reference: float32
    (slices, *recon_shape) in the units of the scan, or None. source: geometry record of the source
    (kind, zooms, codes, modality, units). settings: how it was simulated (empty for measured data).
    notes: what a reader had to assume or repair; grows while slices are read with a repair.
    """

    path: Path
    kspace: LazyStack
    mask: NDArray[np.bool_]
    slice_indices: tuple[int, ...]
    recon_shape: tuple[int, int]
    noise_std: float | None = None
    maps: LazyStack | None = None
    affine: NDArray[np.float64] | None = None
    reference: LazyStack | None = None
    source: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, H, W)."""
        slices, coils, height, width = self.kspace.shape
        return slices, coils, height, width

    @property
    def n_slices(self) -> int:
        """Number of measured slices."""
        return self.shape[0]


@dataclass(frozen=True, eq=False)
class CTScan:
    """Parallel-beam line integrals of some slices.

    sinogram: float32 (slices, views, detectors), -log(counts / photons), dimensionless. geometry:
    the same for all slices, lengths in mm. photons: unattenuated counts per ray, or None where
    unknown. mu_water: 1/mm, between attenuation and HU. noise_std: of one air ray, or None. Other
    fields as in `MRIScan`; reference in HU float32 (slices, H, W).
    """

    path: Path
    sinogram: LazyStack
    geometry: ParallelBeam
    mu_water: float
    slice_indices: tuple[int, ...]
    photons: float | None = None
    noise_std: float | None = None
    affine: NDArray[np.float64] | None = None
    reference: LazyStack | None = None
    source: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, views, detectors)."""
        slices, views, detectors = self.sinogram.shape
        return slices, views, detectors

    @property
    def n_slices(self) -> int:
        """Number of measured slices."""
        return self.shape[0]

    def weights(self, index: int | slice) -> NDArray[np.float32] | None:
        """Inverse variance of each line integral, its expected counts N0 exp(-y); None without `photons`."""
        if self.photons is None:
            return None
        return (self.photons * np.exp(-self.sinogram[index])).astype(np.float32)


def open_scan(path: str | Path, repair: str = "") -> MRIScan | CTScan:
    """The scan in a file: fastMRI HDF5, this package's CT HDF5, LoDoPaB-CT's observation_*.hdf5, or
    k-space as .npy, told by content.

    repair="zero" replaces NaN and infinite samples by zero and says so in `notes`; by default they
    are an error when their slice is read. Raises NotFoundError, InputError, ConfigError (unknown
    repair).
    """
    from restore.datasets import hdf5_guard
    from restore.datasets.ct import lodopab, measurement
    from restore.datasets.mri import fastmri, kspace_array

    path = Path(path)
    if repair not in REPAIRS:
        raise ConfigError(f"unknown repair {repair!r}; known: 'zero'")
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    if path.is_file() and kspace_array.is_npy(path):
        return kspace_array.read_kspace_array(path, repair=repair)
    with hdf5_guard.open_hdf5(path) as file:
        keys, found = set(file.keys()), hdf5_guard.names(file)
    if "kspace" in keys:
        return fastmri.read_fastmri(path, repair=repair)
    if "sinogram" in keys:
        return measurement.read_ct_measurement(path, repair=repair)
    if lodopab.KEY in keys and lodopab.is_observation(path):
        return lodopab.read_lodopab(path, repair=repair)
    raise InputError(
        path,
        f"holds neither 'kspace' nor 'sinogram' but {found}",
        "expected a fastMRI file, a CT measurement file of this package, or LoDoPaB-CT's "
        "observation_*.hdf5",
    )


def checked_slice(
    values: NDArray[Any], path: Path, index: int, repair: str, notes: list[str]
) -> NDArray[Any]:
    """One measured slice without NaN and infinities, or InputError.

    values: (coils, H, W) or (views, detectors). With repair="zero" the bad samples become zero in a
    copy and one note per slice is added to `notes`.
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    part = "coil" if np.iscomplexobj(values) else "view"
    parts = np.flatnonzero(bad.any(axis=tuple(range(1, values.ndim))))
    where = f"slice {index}, {part} {', '.join(map(str, parts[:8]))}" + ", ..." * (len(parts) > 8)
    what = f"{int(bad.sum())} samples are NaN or infinite ({where})"
    if repair != "zero":
        raise InputError(path, what, "repair the source, or ask for repair 'zero' to blank them")
    if not any(note.startswith(what) for note in notes):
        notes.append(f"{what}: set to zero")
    return np.where(bad, 0, values).astype(values.dtype)
