"""Read k-space that BART wrote (NAME.cfl beside NAME.hdr): Cartesian, or along a trajectory in a file of its own.

May be called by `open_scan`; touches the files it is given. Axes are those of BART: 0 readout, 1 and 2 phase
encoding, 3 coils, 13 slices. Rows of the image run along axis 0, columns along axis 1, slices of a volume along axis 2.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.formats import Format
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.checks.axes import check_axes
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.files.bart_write import write_images
from restore.datasets.mri.files.cfl import COILS, SLICES, is_half, read_cfl
from restore.datasets.mri.files.given_points import checked_points, matrix_of
from restore.datasets.mri.files.stored_mask import fitted_mask
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.partitions import are_partitions, come_apart, slices_of
from restore.datasets.mri.pattern.sampling import Mask, compact, measured_samples, sampling_pattern
from restore.datasets.mri.receivers.noise_estimation import middle_noise_std
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack
from restore.errors import InputError

NAMES = {
    4: "sets of maps", 5: "echoes", 6: "coefficients", 10: "times", 11: "times",
    14: "averages",
}  # fmt: skip
"""Of the axes that must have one entry."""

UNPLACED = "a BART file has no geometry: pixels of 1 mm are assumed in the output, NIfTI has sform and qform code 0"


def read_bart(
    path: str | Path, trajectory: str | Path = "", pattern: str | Path = ""
) -> MRIScan | EncodedScan:
    """K-space of slices or of a volume: Cartesian, centred, the mask being what is not zero or the file `pattern`; or,
    with the file `trajectory` (3, samples, readouts), along it. The files are BART's too.

    Raises NotFoundError, InputError.
    """
    path, notes = Path(path), [UNPLACED]
    values = read_cfl(path)
    for axis, size in enumerate(values.shape):
        if size > 1 and axis not in (0, 1, 2, COILS, SLICES):
            raise InputError(
                path, f"has {size} {NAMES.get(axis, 'entries')} along BART's axis {axis}",
                "choose one, such as by `bart slice`, or average them",
            )  # fmt: skip
    slices_first = np.moveaxis(values, (SLICES, COILS), (0, 1))
    samples = slices_first.reshape(values.shape[SLICES], values.shape[COILS], *values.shape[:3])
    if not np.isfinite(samples).all():
        raise InputError(path, "k-space holds NaN or infinite values")
    if trajectory:
        return _along(path, samples, Path(trajectory), notes)
    if samples.shape[4] == 1:
        return _cartesian(path, samples[..., 0], pattern, notes)
    return _of_a_volume(path, samples, pattern, notes)


def _cartesian(path: Path, samples: NDArray[Any], pattern: str | Path, notes: list[str]) -> MRIScan:
    """samples: (slices, coils, H, W)."""
    kspace = np.array(samples)
    stack = LazyStack(kspace.shape, lambda index: kspace[index].copy())
    check_axes(stack, path, notes)
    measured = _measured(stack, path)
    told = _told(pattern, measured, SLICES, notes)
    mask = sampling_pattern(measured) if told is None else compact(told)
    if told is not None:
        kspace *= told[:, None]
    return _of_slices(path, stack, mask, notes)


def _of_slices(path: Path, stack: LazyStack, mask: Mask, notes: list[str]) -> MRIScan:
    """Of k-space (slices, coils, H, W)."""
    return MRIScan(
        path=path, kspace=stack, mask=mask, slice_indices=tuple(range(len(stack))),
        recon_shape=(stack.shape[2], stack.shape[3]),
        noise_std=middle_noise_std(stack, mask), noise_estimated=True,
        maps=unit_maps(stack.shape) if stack.shape[1] == 1 else None,
        source={"kind": "bart", "modality": "MR", "units": "arbitrary"}, notes=notes,
    )  # fmt: skip


def _of_a_volume(
    path: Path, samples: NDArray[Any], pattern: str | Path, notes: list[str]
) -> MRIScan | EncodedScan:
    """samples: (1, coils, H, W, D), phase encoding along the last two axes."""
    if samples.shape[2] == 1:
        raise InputError(
            path, f"{samples.shape[4]} readouts, as of a scan along a trajectory", "give --trajectory FILE.cfl"
        )  # fmt: skip
    if len(samples) > 1:
        raise InputError(
            path, f"{len(samples)} slabs of {samples.shape[4]} partitions", "choose one, by `bart slice 13`"
        )  # fmt: skip
    kspace = np.array(np.moveaxis(samples[0], -1, 0), order="C")
    stack = LazyStack(kspace.shape, lambda index: kspace[index].copy())
    check_axes(stack, path, notes, partitions=True)
    are_partitions(stack, len(kspace), "3d", path, notes)
    measured = _measured(stack, path)
    told = _told(pattern, measured, 2, notes)
    if told is not None:
        kspace *= told[:, None]
        measured = told
    if come_apart(measured):
        slices = slices_of(stack, measured, path, notes)
        return _of_slices(path, slices, compact(np.asarray(measured.any(axis=0))), notes)
    return CartesianVolumeScan(
        path=path, partitions=stack, mask=compact(measured), slice_indices=tuple(range(len(stack))),
        recon_shape=(kspace.shape[2], kspace.shape[3]),
        slice_maps=unit_maps(kspace.shape) if kspace.shape[1] == 1 else None,
        source={"kind": "bart", "modality": "MR", "units": "arbitrary"}, notes=notes,
    )  # fmt: skip


def _measured(stack: LazyStack, path: Path) -> NDArray[np.bool_]:
    """Where samples are not zero, (slices or partitions, H, W). Raises InputError."""
    measured = measured_samples(stack)
    if not measured.any():
        raise InputError(path, "every k-space sample is zero", "there is nothing to reconstruct")
    return measured


def _told(
    pattern: str | Path, measured: NDArray[np.bool_], axis: int, notes: list[str]
) -> NDArray[np.bool_] | None:
    """The mask of a file of its own, (slices or partitions, H, W), None without one.

    axis: BART's, along which slices or partitions lie; a pattern has the lengths of k-space along its axes, or one.
    Raises InputError.
    """
    if not pattern:
        notes.append("mask taken from the samples that are not zero")
        return None
    values = read_cfl(Path(pattern))
    expected = dict(zip((axis, 0, 1), measured.shape, strict=True))
    if any(n not in (1, expected.get(i, 1)) for i, n in enumerate(values.shape)):
        sizes = [expected.get(i, 1) for i in range(max(axis, 1) + 1)]
        raise InputError(
            Path(pattern), f"has shape {values.shape[: len(sizes)]}, expected {tuple(sizes)} as k-space, or ones"
        )  # fmt: skip
    planes = np.moveaxis(values, axis, 0).reshape(values.shape[axis], *values.shape[:2])
    if planes.imag.any():
        raise InputError(Path(pattern), "holds complex numbers", "a pattern is of zeros and ones")
    mask = fitted_mask(np.broadcast_to(planes.real, measured.shape), measured, Path(pattern), notes)
    return np.broadcast_to(mask, measured.shape)


def _along(
    path: Path, samples: NDArray[Any], trajectory: Path, notes: list[str]
) -> NonCartesianScan:
    """samples: (slices, coils, 1, samples, readouts)."""
    told = read_cfl(trajectory)
    if told.shape[0] != 3 or math.prod(told.shape[3:]) != 1:
        raise InputError(
            trajectory,
            f"has shape {told.shape}",
            "expected (3, samples, readouts), as `bart traj` writes",
        )
    points = (
        np.moveaxis(told.reshape(told.shape[:3]).real, 0, -1).transpose(1, 0, 2).astype(np.float64)
    )
    if points[..., 2].any():
        # BART's axes x, y, z are the image's rows, columns and slices.
        points = points[..., [2, 0, 1]]
    else:
        points = points[..., :2]
    kspace = np.ascontiguousarray(samples[:, :, 0].swapaxes(-1, -2))
    matrix = matrix_of(points, notes)
    points = checked_points(points, kspace.shape[2:], matrix, trajectory, notes)
    if len(matrix) == 3 and len(kspace) > 1:
        raise InputError(
            path,
            f"{len(kspace)} slices along a trajectory of three dimensions",
            "choose one volume",
        )
    slices = matrix[0] if len(matrix) == 3 else len(kspace)
    return NonCartesianScan(
        path=path, kspace=LazyStack(kspace.shape, lambda index: kspace[index].copy()), points=points, matrix=matrix,
        recon_shape=(matrix[-2], matrix[-1]), slice_indices=tuple(range(slices)),
        source={"kind": "bart", "modality": "MR", "units": "arbitrary"}, notes=notes,
    )  # fmt: skip


def _claims(content: Content) -> bool:
    """Either of the two files, where the other lies beside it."""
    path = content.path
    if content.is_folder or not is_half(path) or not path.with_suffix(".hdr").is_file():
        return False
    with path.with_suffix(".hdr").open("rb") as stream:
        return stream.read(12) == b"# Dimensions" and path.with_suffix(".cfl").is_file()


FORMAT = Format(
    name="BART",
    holds="scan",
    files=".cfl with .hdr",
    ways="k-space in: Cartesian slices and volumes, or along a trajectory in a file of its own; images out",
    claims=_claims,
    open=read_bart,
    options=("trajectory", "pattern"),
    rank=60,
    save=write_images,
    suffixes=(".cfl",),
    beside=(".hdr",),
)
