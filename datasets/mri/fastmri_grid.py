"""What the header of a fastMRI file means for its data: trajectory, matrix sizes, pixel pitch, kz.

May be called by the fastMRI reader; touches nothing but its arguments and the open file it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.budget import check_budget
from restore.datasets.hdf5_guard import find_text
from restore.datasets.mri.fastmri_header import Header, parse_header
from restore.datasets.mri.sampling import Mask, measured_samples, share
from restore.datasets.stack import LazyStack
from restore.errors import InputError

CARTESIAN = ("", "cartesian")

SAME = 0.02
"""Two sizes count as one within this part: fields of view are rounded to tenths of a millimetre."""

CONCENTRATED = 0.3
"""Share of all energy in the middle of kz from which partitions count as not transformed (and twice an even share)."""


FULL = 0.99
"""Share of the samples of all partitions that each must hold: one that vanishes by chance is none that was left out."""


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


def along_z(stack: LazyStack, header: Header | None, path: Path, notes: list[str]) -> LazyStack:
    """Slices of a three-dimensional scan: partitions of kz are transformed, what is transformed already stays.

    Told by the energy: before the transform nearly all of it lies in the middle partition. The transform is the centred
    orthonormal inverse FFT, so that white noise keeps its level. Raises InputError where partitions are sampled
    differently, or are not as many as the header says, OutOfMemory.
    """
    depth = 1 if header is None else header.encoded[2]
    if depth < 2:
        return stack
    energy = np.array([_energy(stack[i]) for i in range(len(stack))])
    middle = float(energy.max() / max(float(energy.sum()), np.finfo(float).tiny))
    centred = abs(int(energy.argmax()) - len(stack) // 2) <= 1
    gathered = middle > max(CONCENTRATED, 2 / len(stack))
    if gathered and not centred and int(energy.argmax()) in (0, len(stack) - 1):
        raise InputError(
            path,
            f"a three-dimensional scan whose energy lies in partition {int(energy.argmax())}: the zero "
            "frequency of kz is "
            f"not in the middle, at {len(stack) // 2}",
            "store the partitions in the order of numpy.fft.fftshift along the first axis, or transform "
            "them along z first",
        )
    if not (centred and gathered):
        notes.append(
            f"a three-dimensional scan of {depth} partitions; no middle one of the {len(stack)} stored "
            "holds most of the "
            "energy, so they are taken to be transformed along z already"
        )
        return stack
    if len(stack) != depth:
        raise InputError(
            path,
            f"a three-dimensional scan: the header says {depth} partitions along kz, the file holds {len(stack)}",
            "store all partitions (zeros where none was measured), or transform them along z first",
        )
    measured = measured_samples(stack)
    filled = measured[measured.any(axis=(1, 2))]
    union = filled.any(axis=0)
    if any(share(part, union) < FULL for part in filled):
        raise InputError(
            path,
            "a three-dimensional scan, undersampled along kz: its partitions are sampled at different places",
            "slices are reconstructed one by one here: transform along z what is complete, or use a 3-D reconstruction",
        )
    check_budget(int(np.prod(stack.shape)) * 16, path)
    missing = len(stack) - len(filled)
    notes.append(
        f"three-dimensional scan: {depth} partitions transformed along z"
        + (f", {missing} of them not measured and taken as zeros" if missing else "")
    )
    return _transformed(stack)


def _energy(values: NDArray[Any]) -> float:
    return float(np.square(np.abs(np.where(np.isfinite(values), values, 0)), dtype=float).sum())


def _transformed(stack: LazyStack) -> LazyStack:
    """The whole stack transformed when the first slice is asked for, and kept."""
    kept: list[NDArray[Any]] = []

    def load(index: int) -> NDArray[Any]:
        if not kept:
            spectrum = fft.ifft(fft.ifftshift(stack[:], axes=0), axis=0, norm="ortho")
            kept.append(fft.fftshift(spectrum, axes=0).astype(np.complex64, copy=False))
        return kept[0][index].copy()

    return LazyStack(stack.shape, load)
