"""Read and write multi-coil and single-coil k-space in the fastMRI HDF5 layout.

May be called by `scan.open_scan` and the simulation verb; touches the one file it is given. What
this package adds to the layout (maps, noise level, geometry) is described in docs/scan-files.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import (
    attribute,
    find_dataset,
    names,
    open_hdf5,
    root_names,
)
from restore.datasets.hdf5_stack import (
    as_complex,
    companion,
    is_pair,
    is_two_channel,
    new_hdf5,
    read_slice,
    write_stack,
)
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.checks.axes import check_axes
from restore.datasets.mri.checks.kspace_order import Order, order_of
from restore.datasets.mri.fastmri_files.fastmri_grid import (
    image_size,
    note_columns,
    note_factor,
    note_matrix,
    read_header,
    require_cartesian,
)
from restore.datasets.mri.fastmri_files.fastmri_header import Header, format_header
from restore.datasets.mri.files.stored_maps import read_maps
from restore.datasets.mri.files.stored_mask import fitted_mask
from restore.datasets.mri.files.stored_times import read_times
from restore.datasets.mri.partitions import are_partitions, come_apart, slices_of
from restore.datasets.mri.pattern.sampling import (
    Mask,
    compact,
    measured_samples,
    note_empty,
    sampling_pattern,
    slice_mask,
    without_lost,
)
from restore.datasets.mri.receivers.noise_estimation import middle_noise_std
from restore.datasets.mri.receivers.noise_scan import read_noise_scan
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.scan_record import read_record, write_record
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError

Load = Callable[[int], NDArray[Any]]


def read_fastmri(
    path: str | Path, repair: str = "", kspace_order: str = ""
) -> MRIScan | CartesianVolumeScan:
    """Open a fastMRI file; slices are read when asked for, and once to see what was measured.

    Multi-coil `kspace` (slices, coils, H, W) or single-coil (slices, H, W), complex; optional
    `mask`, `ismrmrd_header`, `reconstruction_rss` or `reconstruction_esc`, `sensitivity_maps`, `noise_scan` and
    group `restore`. Without `mask` it is taken from the samples that are not zero, one a slice where they differ.
    Partitions along kz (attribute `encoding` "3d", or by the header) make slices, or a volume where they were measured
    differently.
    repair as in `open.open_scan`, lost samples then leave the mask; kspace_order: of `kspace_order.ORDERS`. Raises
    NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    notes: list[str] = []
    with open_hdf5(path) as file:
        shape = _kspace_shape(file, path, notes)
        header = read_header(file, path, shape, notes)
        stored = find_dataset(file, "mask")
        stored_mask = None if stored is None else np.asarray(stored[()])
        reference = _reference(file, path, shape)
        maps = read_maps(file, path, shape, notes)
        noise_scan = read_noise_scan(file, path, shape[1])
        record = read_record(file, path, shape[0])
        noise = attribute(file, "noise_std")
        times, dwell = read_times(file, path, shape[2:])
        declared = str(attribute(file, "encoding") or "").lower()
    depth = 1 if header is None else header.encoded[2]
    order, ordered = _ordered(path, shape, header, kspace_order, declared, notes)
    stack = LazyStack(shape, _checked_loader(path, ordered, repair, notes))
    measured = measured_samples(ordered, lost=bool(repair))
    whole = are_partitions(stack, depth, declared, path, notes)
    if whole and come_apart(measured):
        stack = ordered = slices_of(stack, measured, path, notes)
        measured, whole = np.broadcast_to(measured.any(axis=0), measured.shape), False
    if stored_mask is not None and any(order.corner):
        stored_mask = order.mask(stored_mask, (shape[-2], shape[-1]))
    mask = _mask(measured, stored_mask, whole, path, header, notes)
    mask = without_lost(mask, ordered, notes) if repair else mask
    if not mask.any():
        raise InputError(path, "the sampling mask is empty", "there is nothing to reconstruct")
    note_factor(mask, header, notes)
    kspace = LazyStack(shape, _masked_loader(stack, mask))
    crop = image_size(shape, header, reference, notes)
    notes.extend(record.notes)
    affine = record.affine
    if affine is None:
        notes.append("the file tells no orientation: NIfTI is written with sform and qform code 0")
    if affine is None and header is not None:
        affine = header.affine(crop, (shape[-2], shape[-1]))
    maps = unit_maps(shape) if maps is None and shape[1] == 1 else maps
    common: dict[str, Any] = {
        "path": path, "mask": mask, "slice_indices": record.slice_indices, "recon_shape": crop,
        "noise_std": _level(noise, path), "noise_scan": noise_scan, "affine": affine, "reference": reference,
        "source": record.source or {"kind": "fastmri", "modality": "MR", "units": "arbitrary"},
        "settings": record.settings, "notes": notes, "times_s": times, "dwell_s": dwell,
    }  # fmt: skip
    if whole:
        return CartesianVolumeScan(partitions=kspace, slice_maps=maps, **common)
    if noise is None and (level := middle_noise_std(kspace, mask)) is not None:
        notes.append(f"noise_std {level:.3g} estimated from the corners of k-space")
        common["noise_std"] = level
    return MRIScan(kspace=kspace, maps=maps, noise_estimated=noise is None, **common)


def read_slices(path: str | Path) -> MRIScan:
    """As `read_fastmri`, of a scan whose slices come apart. Raises InputError for a volume that does not."""
    scan = read_fastmri(path)
    if isinstance(scan, CartesianVolumeScan):
        raise InputError(
            Path(path),
            "is undersampled along kz: a volume, not slices",
            "`restore recon` reconstructs it",
        )
    return scan


def write_fastmri(scan: MRIScan | CartesianVolumeScan, path: str | Path) -> None:
    """Write a scan slice by slice, a volume partition by partition, in the fastMRI layout with this package's
    additions, atomically.

    Raises OutputError where the file cannot be written.
    """
    kspace, maps, whole = scan.kspace, scan.maps, False
    if isinstance(scan, CartesianVolumeScan):
        kspace, maps, whole = scan.partitions, scan.slice_maps, True
    slices, _, height, width = kspace.shape
    stacks = [(kspace, np.complex64), (maps, np.complex64), (scan.reference, np.float32)]
    with new_hdf5(Path(path), stacks) as file:
        write_stack(file, "kspace", kspace, np.complex64)
        file["mask"] = scan.mask
        file.attrs["encoding"] = "3d" if whole else "2d"
        if maps is not None:
            write_stack(file, "sensitivity_maps", maps, np.complex64)
        if scan.reference is not None:
            write_stack(file, "reconstruction_rss", scan.reference, np.float32)
            largest = max(float(np.max(scan.reference[i])) for i in range(slices))
            norm = sum(
                float(np.sum(np.square(scan.reference[i], dtype=float))) for i in range(slices)
            )
            file.attrs.update(max=largest, norm=norm**0.5)
        affine = np.eye(4) if scan.affine is None else scan.affine
        across, down, through = map(float, np.linalg.norm(affine[:3, :3], axis=0))
        partitions = slices if whole else 1
        file["ismrmrd_header"] = format_header(
            (height, width), (across, down, through), partitions=partitions
        )
        file.attrs["acquisition"] = str(scan.settings.get("acquisition", "MR"))
        file.attrs["acceleration"] = float(scan.mask.size / scan.mask.sum())
        file.attrs["num_low_frequency"] = _centre_run(scan.mask)
        if scan.noise_std is not None:
            file.attrs["noise_std"] = float(scan.noise_std)
        write_record(file, scan)


def _kspace_shape(file: h5py.File, path: Path, notes: list[str]) -> tuple[int, int, int, int]:
    kspace = find_dataset(file, "kspace", pairs=True)
    if kspace is None:
        raise InputError(path, f"no data set 'kspace'; the file holds {names(file)}")
    sizes = tuple(map(int, kspace.shape))
    if is_two_channel(sizes, kspace.dtype) and len(sizes) >= 4:
        notes.append("'kspace' holds real and imaginary parts along its last axis: joined")
        sizes = sizes[:-1]
    elif is_pair(kspace.dtype):
        notes.append(f"'kspace' holds pairs ({kspace.dtype}), taken as real and imaginary parts")
    elif kspace.dtype.kind != "c":
        raise InputError(
            path,
            f"'kspace' must be complex, found {kspace.dtype}",
            "magnitudes hold no image: store the complex samples, or real and imaginary parts along a last axis of two",
        )
    if len(sizes) not in (3, 4) or 0 in sizes:
        several = "; choose one repetition, echo or average, or average them" * (len(sizes) > 4)
        raise InputError(
            path,
            f"'kspace' has shape {kspace.shape}",
            f"expected (slices, coils, H, W), or (slices, H, W) for a single coil{several}",
        )
    if "MATLAB_class" in kspace.attrs:
        notes.append(
            "'kspace' was written by MATLAB, which stores the axes the other way round: if rows and "
            "columns of the image "
            "are exchanged, transpose the last two"
        )
    if len(sizes) == 3 and find_dataset(file, "reconstruction_esc") is None:
        notes.append(f"'kspace' has three axes {sizes}: read as slices of a single coil")
    coils = sizes[1] if len(sizes) == 4 else 1
    return sizes[0], coils, sizes[-2], sizes[-1]


def _ordered(
    path: Path,
    shape: tuple[int, int, int, int],
    header: Header | None,
    kspace_order: str,
    declared: str,
    notes: list[str],
) -> tuple[Order, LazyStack]:
    """K-space with its zero frequency and its image in the middle, held against the header. Raises InputError."""
    require_cartesian(header, path)
    note_matrix(shape, header, notes)
    raw = LazyStack(shape, _raw_loader(path, shape))
    partitions = declared == "3d" or (header is not None and header.encoded[2] > 1)
    check_axes(raw, path, notes, kspace_order, partitions)
    order = order_of(raw, kspace_order, path, notes)
    return order, raw if order.usual else LazyStack(shape, lambda i: order.kspace(raw[i]))


def _reference(file: h5py.File, path: Path, shape: tuple[int, ...]) -> LazyStack | None:
    """The target. Single-coil files hold both: theirs is `esc`, `rss` being that of all coils."""
    for kind in ("esc", "rss") if shape[1] == 1 else ("rss", "esc"):
        found = companion(file, path, f"reconstruction_{kind}", shape[:1], 3, np.float32)
        if found is not None:
            return found
    return None


def _mask(
    measured: NDArray[np.bool_],
    stored: NDArray[Any] | None,
    whole: bool,
    path: Path,
    header: Header | None,
    notes: list[str],
) -> Mask:
    """What was measured: by the stored mask or the samples, without zero padding.

    measured: where samples are not zero, (slices, H, W); of a volume (`whole`) an empty partition was not measured.
    """
    if not measured.any():
        raise InputError(path, "every k-space sample is zero", "there is nothing to reconstruct")
    filled = measured.any(axis=(1, 2), keepdims=True)
    if stored is None:
        mask = compact(measured) if whole else sampling_pattern(measured)
        notes.append("no mask in the file: taken from the samples that are not zero")
    else:
        mask = fitted_mask(stored, measured, path, notes)
        mask = compact(mask & filled) if whole and not filled.all() else mask
    if not whole:
        note_empty(measured, notes)
    width = measured.shape[-1]
    if stored is not None and header is not None and header.columns and header.encoded[1] == width:
        note_columns(mask, header.columns, notes)
    return mask


def _raw_loader(path: Path, shape: tuple[int, ...]) -> Load:
    def load(index: int) -> NDArray[Any]:
        return as_complex(read_slice(path, "kspace", index, None)).reshape(shape[1:])

    return load


def _checked_loader(path: Path, stack: LazyStack, repair: str, notes: list[str]) -> Load:
    return lambda index: checked_slice(stack[index], path, index, repair, notes)


def _masked_loader(stack: LazyStack, mask: Mask) -> Load:
    """Slices that are zero outside the mask."""
    return lambda index: np.where(slice_mask(mask, index), stack[index], np.complex64(0))


def _level(noise: Any, path: Path) -> float | None:
    if noise is None:
        return None
    if not isinstance(noise, int | float) or not np.isfinite(noise) or noise < 0:
        raise InputError(path, f"attribute 'noise_std' is {noise!r}, expected a number >= 0")
    return float(noise)


def _centre_run(mask: Mask) -> int:
    """Number of adjacent measured columns around the centre."""
    columns = np.logical_and.reduce(mask.reshape(-1, mask.shape[-1]), axis=0)
    centre = columns.size // 2
    if not columns[centre]:
        return 0
    gaps = np.flatnonzero(~columns)
    left = gaps[gaps < centre].max(initial=-1)
    right = gaps[gaps > centre].min(initial=columns.size)
    return int(right - left - 1)


FORMAT = Format(
    name="fastMRI HDF5",
    holds="scan",
    files=".h5",
    ways="multi-coil and single-coil k-space in and out",
    claims=lambda content: (
        "kspace" in root_names(content) and "trajectory" not in root_names(content)
    ),
    open=read_fastmri,
    options=("repair", "kspace_order"),
    called="a fastMRI scan",
)
