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
    find_text,
    names,
    open_hdf5,
    root_names,
)
from restore.datasets.hdf5_stack import companion, new_hdf5, read_slice, write_stack
from restore.datasets.mri.fastmri_header import Header, format_header, parse_header
from restore.datasets.mri.noise_estimation import kspace_noise_std
from restore.datasets.mri.sampling import Mask, compact, require_inside, sampling_pattern
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.scan_record import read_record, write_record
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError

Load = Callable[[int], NDArray[Any]]


def read_fastmri(path: str | Path, repair: str = "") -> MRIScan:
    """Open a fastMRI file; slices are read when asked for.

    Multi-coil `kspace` (slices, coils, H, W) or single-coil (slices, H, W), complex; optional
    `mask`, `ismrmrd_header`, `reconstruction_rss` or `reconstruction_esc`, `sensitivity_maps` and
    group `restore`. Without `mask` it is taken from the samples that are not zero. repair as in
    `scan.open_scan`. Raises NotFoundError, InputError.
    """
    path = Path(path)
    notes: list[str] = []
    with open_hdf5(path) as file:
        shape = _kspace_shape(file, path)
        header = _header(file, notes)
        mask = _stored_mask(file, path, shape, header, notes)
        reference = _reference(file, path, shape)
        maps = companion(file, path, "sensitivity_maps", shape, 4, np.complex64)
        record = read_record(file, path, shape[0])
        noise = attribute(file, "noise_std")
    stack = LazyStack(shape, _slice_loader(path, repair, notes))
    given = mask is not None
    if mask is None:
        mask = sampling_pattern(stack)
        notes.append("no mask in the file: taken from the samples that are not zero")
    if not mask.any():
        raise InputError(path, "the sampling mask is empty", "there is nothing to reconstruct")
    kspace = LazyStack(shape, _masked_loader(path, stack, mask, given, notes))
    if noise is None and (noise := kspace_noise_std(kspace[shape[0] // 2], mask)) is not None:
        notes.append(f"noise_std {noise:.3g} estimated from the corners of k-space")
    crop = _recon_shape(shape, header, reference, notes)
    notes.extend(record.notes)
    affine = record.affine
    if affine is None and header is not None:
        affine = header.affine(crop)
    return MRIScan(
        path=path,
        kspace=kspace,
        mask=mask,
        slice_indices=record.slice_indices,
        recon_shape=crop,
        noise_std=_level(noise, path),
        maps=unit_maps(shape) if maps is None and shape[1] == 1 else maps,
        affine=affine,
        reference=reference,
        source=record.source or {"kind": "fastmri", "modality": "MR", "units": "arbitrary"},
        settings=record.settings,
        notes=notes,
    )


def write_fastmri(scan: MRIScan, path: str | Path) -> None:
    """Write a scan slice by slice in the fastMRI layout with this package's additions, atomically.

    Raises OutputError where the file cannot be written.
    """
    slices, _, height, width = scan.shape
    stacks = [(scan.kspace, np.complex64), (scan.maps, np.complex64), (scan.reference, np.float32)]
    with new_hdf5(Path(path), stacks) as file:
        write_stack(file, "kspace", scan.kspace, np.complex64)
        file["mask"] = scan.mask
        if scan.maps is not None:
            write_stack(file, "sensitivity_maps", scan.maps, np.complex64)
        if scan.reference is not None:
            write_stack(file, "reconstruction_rss", scan.reference, np.float32)
            largest = max(float(np.max(scan.reference[i])) for i in range(slices))
            norm = sum(
                float(np.sum(np.square(scan.reference[i], dtype=float))) for i in range(slices)
            )
            file.attrs.update(max=largest, norm=norm**0.5)
        affine = np.eye(4) if scan.affine is None else scan.affine
        across, down, through = map(float, np.linalg.norm(affine[:3, :3], axis=0))
        file["ismrmrd_header"] = format_header((height, width), (across, down, through))
        file.attrs["acquisition"] = str(scan.settings.get("acquisition", "MR"))
        file.attrs["acceleration"] = float(scan.mask.size / scan.mask.sum())
        file.attrs["num_low_frequency"] = _centre_run(scan.mask)
        if scan.noise_std is not None:
            file.attrs["noise_std"] = float(scan.noise_std)
        write_record(file, scan)


def _kspace_shape(file: h5py.File, path: Path) -> tuple[int, int, int, int]:
    kspace = find_dataset(file, "kspace")
    if kspace is None:
        raise InputError(path, f"no data set 'kspace'; the file holds {names(file)}")
    if kspace.dtype.kind != "c":
        raise InputError(path, f"'kspace' must be complex, found {kspace.dtype}")
    if kspace.ndim not in (3, 4) or 0 in kspace.shape:
        raise InputError(
            path,
            f"'kspace' has shape {kspace.shape}",
            "expected (slices, coils, H, W), or (slices, H, W) for a single coil",
        )
    sizes = tuple(map(int, kspace.shape))
    coils = sizes[1] if kspace.ndim == 4 else 1
    return sizes[0], coils, sizes[-2], sizes[-1]


def _reference(file: h5py.File, path: Path, shape: tuple[int, ...]) -> LazyStack | None:
    """The target. Single-coil files hold both: theirs is `esc`, `rss` being that of all coils."""
    single = file["kspace"].ndim == 3
    for kind in ("esc", "rss") if single else ("rss", "esc"):
        found = companion(file, path, f"reconstruction_{kind}", shape[:1], 3, np.float32)
        if found is not None:
            return found
    return None


def _header(file: h5py.File, notes: list[str]) -> Header | None:
    text = find_text(file, "ismrmrd_header")
    if text is None:
        notes.append("no ismrmrd_header: the size of the pixels is unknown")
        return None
    try:
        return parse_header(text)
    except ValueError as error:
        notes.append(f"ismrmrd_header left out ({error}): the size of the pixels is unknown")
        return None


def _stored_mask(
    file: h5py.File, path: Path, shape: tuple[int, ...], header: Header | None, notes: list[str]
) -> Mask | None:
    dataset = find_dataset(file, "mask")
    if dataset is None:
        return None
    values = np.squeeze(dataset[()]) if dataset.size > 1 else np.reshape(dataset[()], -1)
    if values.shape not in (shape[-1:], shape[-2:]):
        raise InputError(
            path,
            f"'mask' has shape {dataset.shape}, which does not fit k-space {shape}",
            f"expected ({shape[-1]},) or ({shape[-2]}, {shape[-1]})",
        )
    if not np.isin(values, (0, 1)).all():
        raise InputError(path, "'mask' holds values other than 0 and 1")
    mask: Mask = compact(values.astype(bool))
    if header is not None and header.columns is not None and header.encoded[1] == shape[-1]:
        # Columns beyond the encoding limits are zero padding, even where the mask counts them.
        inside = np.zeros(shape[-1], bool)
        inside[max(header.columns[0], 0) : header.columns[1]] = True
        if (mask & ~inside).any():
            notes.append(f"{int((~inside).sum())} zero-padded columns taken out of the mask")
            mask = mask & inside
    return mask


def _slice_loader(path: Path, repair: str, notes: list[str]) -> Load:
    def load(index: int) -> NDArray[Any]:
        values = read_slice(path, "kspace", index, np.complex64)
        values = values[None] if values.ndim == 2 else values
        return checked_slice(values, path, index, repair, notes)

    return load


def _masked_loader(path: Path, stack: LazyStack, mask: Mask, given: bool, notes: list[str]) -> Load:
    """Slices that are zero outside the mask: cut by a given mask, refused for a derived one."""

    def load(index: int) -> NDArray[Any]:
        values = stack[index]
        if not given:
            require_inside(values, mask, path, index)
            return values
        note = "the samples outside 'mask' are not zero: left out"
        if note not in notes and (values[:, ~np.broadcast_to(mask, values.shape[1:])] != 0).any():
            notes.append(note)
        return np.where(mask, values, np.complex64(0))

    return load


def _recon_shape(
    shape: tuple[int, ...], header: Header | None, reference: LazyStack | None, notes: list[str]
) -> tuple[int, int]:
    height, width = shape[-2:]
    if reference is not None:
        wanted = reference.shape[1:]
    elif header is not None:
        wanted = header.recon[:2]
    else:
        return height, width
    if wanted[0] > height or wanted[1] > width:
        notes.append(f"image size {wanted[0]} x {wanted[1]} exceeds k-space {height} x {width}")
    return min(wanted[0], height), min(wanted[1], width)


def _level(noise: Any, path: Path) -> float | None:
    if noise is None:
        return None
    if not isinstance(noise, int | float) or not np.isfinite(noise) or noise < 0:
        raise InputError(path, f"attribute 'noise_std' is {noise!r}, expected a number >= 0")
    return float(noise)


def _centre_run(mask: Mask) -> int:
    """Number of adjacent measured columns around the centre."""
    columns = np.logical_and.reduce(np.atleast_2d(mask), axis=0)
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
    claims=lambda content: "kspace" in root_names(content),
    open=read_fastmri,
    options=("repair",),
    called="a fastMRI scan",
)
