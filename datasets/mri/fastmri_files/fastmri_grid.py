"""What the header of a fastMRI file means for its data: trajectory, matrix sizes, pixel pitch.

May be called by the fastMRI reader; touches nothing but its arguments and the open file it is given.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import find_text
from restore.datasets.mri.fastmri_files.fastmri_header import Header, parse_header
from restore.datasets.mri.pattern.sampling import Mask
from restore.datasets.stack import LazyStack
from restore.errors import InputError

CARTESIAN = ("", "cartesian")

SAME = 0.02
"""Two sizes count as one within this part: fields of view are rounded to tenths of a millimetre."""

FIELD_MM = (1.0, 3000.0)
"""The larger side of a field of view; what lies outside was hardly meant in mm."""

FILLED = 0.8
"""Share of the columns that are not zero from which a header that tells of parallel imaging is not followed by
k-space."""


def read_header(
    file: h5py.File, path: Path, shape: tuple[int, int, int, int], notes: list[str]
) -> Header | None:
    """The header, turned where its readout lies along columns; None where it is missing or unusable, with a note.

    Raises InputError where it says that the first axis of k-space, of `shape` (slices, coils, H, W), is that of coils.
    """
    text = find_text(file, "ismrmrd_header")
    if text is None:
        notes.append("no ismrmrd_header: the size of the pixels is unknown")
        return None
    size = shape[-2], shape[-1]
    try:
        header = parse_header(text, size)
    except ValueError as error:
        notes.append(f"ismrmrd_header left out ({error}): the size of the pixels is unknown")
        return None
    slices, coils = shape[:2]
    if header.channels == slices and coils not in (1, slices):
        raise InputError(
            path,
            f"'kspace' {shape} is read as {slices} slices of {coils} coils, and its header tells of {slices} channels: "
            "the axes of coils and slices are exchanged",
            "store (slices, coils, H, W): numpy.swapaxes(kspace, 0, 1); or correct receiverChannels of the header",
        )
    if header.encodings > 1:
        notes.append(
            f"the header describes {header.encodings} encodings: that of {header.encoded[0]} x "
            f"{header.encoded[1]} taken"
        )
    if header.encoded[:2] == size[::-1] != size:
        notes.append(
            f"k-space is {size[0]} x {size[1]}, the header's matrix {size[1]} x {size[0]}: the readout lies along "
            "columns, pixel sizes are taken accordingly"
        )
        header = header.turned()
    largest = max(header.fov_mm[:2])
    if not FIELD_MM[0] <= largest <= FIELD_MM[1]:
        notes.append(
            f"the header's field of view is {header.fov_mm[0]:g} x {header.fov_mm[1]:g} mm, which is "
            "hardly meant in mm: "
            "do not trust the size of the pixels"
        )
    return header


def note_factor(mask: Mask, header: Header | None, notes: list[str]) -> None:
    """Say where the header tells of parallel imaging and k-space has nearly all of its lines."""
    if header is None or header.factor < 2:
        return
    lines = mask.reshape(-1, mask.shape[-1]).any(axis=0)
    if lines.mean() > FILLED:
        notes.append(
            f"the header says {header.factor:g} times fewer lines were measured, and {lines.mean():.0%} of "
            "them are not "
            "zero: they were filled up before, or the header is of another scan; noise and fit are then not as told"
        )


def note_columns(mask: Mask, columns: tuple[int, int], notes: list[str]) -> None:
    """Say where samples lie outside the columns that the header says were measured. Zero padding is no such sample."""
    lines = np.asarray(mask.reshape(-1, mask.shape[-1]).any(axis=0))
    outside: NDArray[np.bool_] = lines.copy()
    outside[max(columns[0], 0) : max(columns[1], 0)] = False
    if outside.any():
        notes.append(
            f"{int(outside.sum())} of {int(lines.sum())} measured columns lie outside those of the header's encoding "
            "limits, and are not zero: kept"
        )


def require_cartesian(header: Header | None, path: Path) -> None:
    """Raise InputError where the header names another trajectory."""
    if header is not None and header.trajectory not in CARTESIAN:
        raise InputError(
            path,
            f"its header says the trajectory is '{header.trajectory}'; only Cartesian k-space is reconstructed",
            "grid the samples onto a Cartesian matrix first (for EPI correct ramps and alternate lines too), and say "
            "'cartesian' in the header",
        )


def image_size(
    shape: tuple[int, ...], header: Header | None, reference: LazyStack | None, notes: list[str]
) -> tuple[int, int]:
    """(rows, columns) of the image: of the reference, else those that hold the header's field of view.

    shape: (slices, coils, H, W). An image matrix of another pitch is not made: pixels are those of k-space.
    """
    size = shape[-2], shape[-1]
    pitch = None if header is None else header.pitch(size)
    if reference is not None:
        rows, columns = reference.shape[1:]
        if header is not None and pitch is not None:
            _compare_target((rows, columns), pitch, header, notes)
    elif header is not None and pitch is not None:
        rows, columns = (
            n if abs(fov / (n * d) - 1) < SAME else max(1, round(fov / d))
            for fov, n, d in zip(header.fov_mm[:2], header.recon[:2], pitch, strict=True)
        )
        if (rows, columns) != header.recon[:2]:
            notes.append(
                f"the header's image matrix {header.recon[0]} x {header.recon[1]} has other pixels than k-space: left "
                f"on the grid of k-space, {min(rows, size[0])} x {min(columns, size[1])} of {pitch[0]:.4g} x "
                f"{pitch[1]:.4g} mm"
            )
    else:
        return size
    if rows > size[0] or columns > size[1]:
        notes.append(f"image size {rows} x {columns} exceeds k-space {size[0]} x {size[1]}")
    return min(rows, size[0]), min(columns, size[1])


def _compare_target(
    size: tuple[int, int], pitch: tuple[float, float], header: Header, notes: list[str]
) -> None:
    covered = [n * d for n, d in zip(size, pitch, strict=True)]
    if any(abs(mm / fov - 1) > 0.1 for mm, fov in zip(covered, header.fov_mm[:2], strict=True)):
        notes.append(
            f"the reference {size[0]} x {size[1]} covers {covered[0]:.4g} x {covered[1]:.4g} mm with the pixels of "
            f"k-space, the header's image {header.fov_mm[0]:.4g} x {header.fov_mm[1]:.4g} mm"
        )


def note_matrix(shape: tuple[int, ...], header: Header | None, notes: list[str]) -> None:
    """Say where k-space (slices, coils, H, W) is of another size than the header's encoded matrix."""
    if header is None or header.encoded[:2] == shape[-2:]:
        return
    rows, columns = header.pitch((shape[-2], shape[-1]))
    notes.append(
        f"k-space is {shape[-2]} x {shape[-1]}, the header's encoded matrix {header.encoded[0]} x {header.encoded[1]}: "
        f"pixels taken to be {rows:.4g} x {columns:.4g} mm"
    )
