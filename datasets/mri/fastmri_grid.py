"""What the header of a fastMRI file means for its data: trajectory, matrix sizes, pixel pitch, kz.

May be called by the fastMRI reader; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.budget import check_budget
from restore.datasets.mri.fastmri_header import Header
from restore.datasets.mri.sampling import measured_samples, share
from restore.datasets.stack import LazyStack
from restore.errors import InputError

CARTESIAN = ("", "cartesian")

SAME = 0.02
"""Two sizes count as one within this part: fields of view are rounded to tenths of a millimetre."""

CONCENTRATED = 0.3
"""Share of all energy in the middle of kz from which partitions count as not transformed (and twice an even share)."""


FULL = 0.99
"""Share of the samples of all partitions that each must hold: one that vanishes by chance is none that was left out."""


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
    if not (centred and middle > max(CONCENTRATED, 2 / len(stack))):
        notes.append(
            f"a three-dimensional scan of {depth} partitions; the energy is spread over the {len(stack)} slices, so "
            "they are taken to be transformed along z already"
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
