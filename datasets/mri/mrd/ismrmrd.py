"""Read raw data in the ISMRMRD (MRD) format: acquisitions sorted into k-space by their counters, or along a
trajectory.

May be called by `open_scan`; touches the one file it is given. Rows of the image run along the readout, columns
along the phase encoding, as in fastMRI files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.content import Content
from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import is_hdf5, open_hdf5
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.fastmri_files.fastmri_header import Header, parse_header
from restore.datasets.mri.files.given_points import checked_points
from restore.datasets.mri.mrd.acquisitions import (
    Acquisitions,
    group_of,
    read_acquisitions,
    without_calibration,
)
from restore.datasets.mri.mrd.mrd_images import write_images
from restore.datasets.mri.mrd.mrd_place import affine_of, check_directions
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.oversampling import remove_readout_oversampling
from restore.datasets.mri.partitions import are_partitions, come_apart, slices_of
from restore.datasets.mri.pattern.sampling import compact, sampling_pattern
from restore.datasets.mri.receivers.noise_estimation import middle_noise_std
from restore.datasets.mri.scan import MRIScan, unit_maps
from restore.datasets.stack import LazyStack
from restore.errors import InputError

OUTSIDE = 0.1
"""Of the energy beyond the image's field of view along the readout, from which the object reaches there."""

SAME = 1e-3
"""Relative difference of lengths that is rounding of a header."""


def read_ismrmrd(path: str | Path, select: str = "") -> MRIScan | EncodedScan:
    """Open an ISMRMRD file; all of its acquisitions are read.

    select: which average, contrast, phase, repetition, set or slice, "repetition=1" (averages are averaged by default,
    all slices read, of the others the first is taken, and noted). Noise measurements become the scan's `noise_scan`;
    Cartesian readouts lose their oversampling; positions and directions become the affine. Raises NotFoundError,
    InputError, ConfigError.
    """
    path, notes = Path(path), list[str]()
    found = read_acquisitions(path, select, notes)
    try:
        header = parse_header(found.xml)
    except ValueError as cause:
        raise InputError(
            path, f"its header cannot be used: {cause}", "expected ISMRMRD XML"
        ) from cause
    found = without_calibration(found, header.calibration, path, notes)
    return scan_of_acquisitions(found, header, path, notes, "ismrmrd")


def scan_of_acquisitions(
    found: Acquisitions, header: Header, path: Path, notes: list[str], kind: str
) -> MRIScan | EncodedScan:
    """The scan of acquisitions, sorted by their counters. kind: of the source, for its record. Raises InputError."""
    spaces = found.heads["encoding_space_ref"]
    if (spaces != spaces[0]).any():
        raise InputError(path, "acquisitions of several encoding spaces", "keep those of one image")
    slices = sorted({int(n) for n in found.heads["idx"]["slice"]})
    check_directions(found.heads, slices, path)
    common = {
        "path": path, "slice_indices": tuple(slices), "noise_scan": found.noise, "notes": notes,
        "dwell_s": _dwell(found.heads),
        "source": {"kind": kind, "modality": "MR", "units": "arbitrary"},
    }  # fmt: skip
    if found.noise is not None and len(found.noise) != len(found.data[0]):
        raise InputError(path, f"noise of {len(found.noise)} channels for {len(found.data[0])}")
    if header.trajectory in ("", "cartesian"):
        return _cartesian(found, header, slices, common)
    return _along(found, header, slices, common)


def _cartesian(
    found: Acquisitions, header: Header, slices: list[int], common: dict[str, Any]
) -> MRIScan | EncodedScan:
    path, notes = common["path"], common["notes"]
    partitions = _partitions(found, header, slices, path, notes)
    kspace, measured, times = _sorted(found, header, slices, path, notes)
    kspace, samples = _without_oversampling(kspace, measured, header, notes)
    rows = kspace.shape[-2]
    if common["dwell_s"] is not None:
        common["dwell_s"] *= header.encoded[0] / rows
    pitch = (
        min(header.encoded_fov_mm[0], header.fov_mm[0]) / rows if rows < header.encoded[0]
        else header.encoded_fov_mm[0] / header.encoded[0],
        header.encoded_fov_mm[1] / header.encoded[1],
    )  # fmt: skip
    shape = _image_shape(kspace.shape[-2:], header, pitch)
    stack = LazyStack(kspace.shape, lambda index: kspace[index].copy())
    maps = unit_maps(kspace.shape) if kspace.shape[1] == 1 else None
    common |= {
        "recon_shape": shape, "settings": {},
        "affine": affine_of(found.heads, slices, shape, pitch, header, notes, partitions),
    }  # fmt: skip
    if partitions > 1:
        common["slice_indices"] = tuple(range(partitions))
        are_partitions(stack, partitions, "3d", path, notes)
        if not come_apart(samples):
            level = None if found.level is None else found.level / times**0.5
            return CartesianVolumeScan(
                partitions=stack, mask=compact(samples), slice_maps=maps, noise_std=level, **common
            )
        stack = slices_of(stack, samples, path, notes)
        samples = np.broadcast_to(samples.any(axis=0), samples.shape)
    mask = sampling_pattern(samples)
    noise = middle_noise_std(stack, mask) if found.level is None else found.level / times**0.5
    return MRIScan(
        kspace=stack, mask=mask, noise_std=noise, noise_estimated=found.level is None, maps=maps, **common
    )  # fmt: skip


def _dwell(heads: NDArray[Any]) -> float | None:
    """Seconds between the samples of a readout, None where headers tell none or several."""
    told = {float(t) for t in heads["sample_time_us"]}
    dwell = told.pop()
    return None if told or not (math.isfinite(dwell) and dwell > 0) else 1e-6 * dwell


def _without_oversampling(
    kspace: NDArray[np.complex64], measured: NDArray[np.bool_], header: Header, notes: list[str]
) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """K-space of the image's field of view along the readout, and which of it was measured.

    Readouts that lack samples keep their oversampling: the transform along them needs all.
    """
    width = header.encoded[0]
    rows = round(width * header.fov_mm[0] / header.encoded_fov_mm[0])
    lines = np.asarray(measured.any(axis=1))
    if (measured != lines[:, None, :]).any():
        lacking = int((~np.asarray(measured.any(axis=(0, 2)))).sum())
        notes.append(
            f"readouts lack samples ({lacking} of {width} in all of them): these leave the mask, and oversampling "
            "stays until the image is cut"
        )
        return kspace, measured
    if rows >= width:
        return kspace, measured
    found = remove_readout_oversampling(kspace, rows).astype(np.complex64)
    notes.append(f"readout oversampling removed: {width} to {rows} samples")
    before, after = (float(np.square(np.abs(k), dtype=float).sum()) for k in (kspace, found))
    if before > 0 and 1 - after / before > OUTSIDE:
        notes.append(
            f"what was removed with the oversampling holds {1 - after / before:.0%} of the energy: is the header's "
            "field of view right?"
        )
    return found, np.broadcast_to(lines[:, None, :], (len(found), *found.shape[-2:]))


def _partitions(
    found: Acquisitions, header: Header, slices: list[int], path: Path, notes: list[str]
) -> int:
    """Encoded along kz, 1 of slices. Raises InputError for several slabs, and counters that no header tells of."""
    partitions = header.encoded[2]
    if partitions > 1 and len(slices) > 1:
        raise InputError(
            path, f"{len(slices)} slabs of {partitions} partitions each", "store each slab in a file of its own"
        )  # fmt: skip
    if partitions > 1 and header.encoded_fov_mm[2] > header.fov_mm[2] * (1 + SAME):
        notes.append(
            f"{partitions} partitions cover {header.encoded_fov_mm[2]:g} mm, the header's image {header.fov_mm[2]:g}: "
            "the outer slices are oversampling, and kept"
        )
    if partitions == 1 and found.heads["idx"]["kspace_encode_step_2"].any():
        last = int(found.heads["idx"]["kspace_encode_step_2"].max())
        raise InputError(
            path, f"its acquisitions count partitions up to {last}, and its header tells of one",
            "correct the encoded matrix of the header",
        )  # fmt: skip
    return partitions


def _sorted(
    found: Acquisitions, header: Header, slices: list[int], path: Path, notes: list[str]
) -> tuple[NDArray[np.complex64], NDArray[np.bool_], float]:
    """K-space (slices or partitions, coils, samples, lines), which of it was measured (without coils), and how often,
    in the mean.

    Raises InputError.
    """
    width, lines, partitions = header.encoded
    first = 0 if header.columns is None else header.columns[0]
    places = partitions if partitions > 1 else len(slices)
    shape = (places, len(found.data[0]), width, lines)
    check_budget(16 * math.prod(shape), path)  # with its copy without oversampling
    kspace = np.zeros(shape, np.complex64)
    count, measured = np.zeros((places, lines), int), np.zeros((places, width, lines), bool)
    for head, data in zip(found.heads, found.data, strict=True):
        line = int(head["idx"]["kspace_encode_step_1"]) + first
        index = slices.index(int(head["idx"]["slice"]))
        if partitions > 1:
            index = int(head["idx"]["kspace_encode_step_2"]) + header.partition
        start = width // 2 - (int(head["center_sample"]) - int(head["discard_pre"]))
        inside = 0 <= line < lines and 0 <= index < places
        if not inside or start < 0 or start + data.shape[1] > width:
            where = f"line {line}" + (f" of partition {index}" if partitions > 1 else "")
            raise InputError(
                path,
                f"acquisition {int(head['scan_counter'])} has {data.shape[1]} samples about sample "
                f"{int(head['center_sample'])} in {where}, and the encoded matrix is "
                f"{' x '.join(map(str, header.encoded[: 3 if partitions > 1 else 2]))}",
                "the header's matrix or its encoding limits are not those of the data",
            )
        kspace[index, :, start : start + data.shape[1], line] += data
        measured[index, start : start + data.shape[1], line] = True
        count[index, line] += 1
    if count.max() > 1:
        averages = len({int(a) for a in found.heads["idx"]["average"]})
        if count.max() > averages:
            notes.append(
                f"counters repeat: lines were measured up to {count.max()} times, and are averaged"
            )
        kspace /= np.maximum(count, 1)[:, None, None, :]
    lacking = lines - int((count > 0).any(axis=0).sum())
    if lacking:
        notes.append(f"{lacking} of {lines} lines were not measured")
    return kspace, measured, float(count[count > 0].mean())


def _along(
    found: Acquisitions, header: Header, slices: list[int], common: dict[str, Any]
) -> EncodedScan:
    """K-space along a trajectory, of a volume or the same in all slices. Raises InputError."""
    path, notes = common["path"], common["notes"]
    numbers = found.heads["idx"]["slice"]
    groups = [np.flatnonzero(numbers == n) for n in slices]
    if len({len(g) for g in groups}) != 1 or len({d.shape for d in found.data}) != 1:
        raise InputError(
            path,
            "slices or readouts of different lengths along a trajectory",
            "keep those of one length",
        )
    points = [np.stack([found.points[i] for i in g]) for g in groups]
    depth = header.encoded[2]
    if points[0].shape[-1] < (3 if depth > 1 else 2):
        raise InputError(
            path, f"its trajectory is '{header.trajectory}', and its acquisitions have no coordinates of all axes",
            "store them with the acquisitions ('traj')",
        )  # fmt: skip
    if any(not np.array_equal(p, points[0]) for p in points):
        raise InputError(
            path, "slices have trajectories of their own", "store each slice in a file of its own"
        )
    if depth > 1 and len(slices) > 1:
        raise InputError(
            path, f"{len(slices)} volumes along a trajectory", "choose one: --select slice=N"
        )
    rows, columns = header.encoded[:2]
    matrix = (depth, rows, columns) if depth > 1 else (rows, columns)
    # x, y and z of the file are the image's rows, columns and slices.
    plane = points[0][..., [2, 0, 1] if depth > 1 else [0, 1]].astype(np.float64)
    if np.abs(plane).max() <= 0.5 * (1 + SAME):
        plane = plane * np.array(matrix)
        notes.append("coordinates reach half a cycle per pixel: multiplied by the encoded matrix")
    check_budget(64 * math.prod(matrix) * len(found.data[0]), path)
    plane = checked_points(plane, points[0].shape[:2], matrix, path, notes)
    kspace = np.stack([np.stack([found.data[i] for i in g], axis=1) for g in groups])
    pitch = (header.encoded_fov_mm[0] / rows, header.encoded_fov_mm[1] / columns)
    shape = _image_shape((rows, columns), header, pitch)
    if depth > 1:
        common["slice_indices"] = tuple(range(depth))
    return NonCartesianScan(
        kspace=LazyStack(kspace.shape, lambda index: kspace[index].copy()), points=plane, matrix=matrix,
        recon_shape=shape, noise_std=found.level, settings={"trajectory": header.trajectory},
        affine=affine_of(found.heads, slices, shape, pitch, header, notes, depth), **common,
    )  # fmt: skip


def _image_shape(
    size: tuple[int, ...], header: Header, pitch: tuple[float, float]
) -> tuple[int, int]:
    """(rows, columns) of the image that hold the header's field of view."""
    rows, columns = (
        min(n, max(1, round(mm / p)))
        for n, mm, p in zip(size, header.fov_mm[:2], pitch, strict=True)
    )
    return rows, columns


def _claims(content: Content) -> bool:
    """Whether a group of the file holds acquisitions and a header."""
    if not is_hdf5(content):
        return False
    with open_hdf5(content.path) as file:
        return not {"kspace", "#refs#"} & set(file.keys()) and group_of(file) is not None


FORMAT = Format(
    name="ISMRMRD",
    holds="scan",
    files=".h5, .mrd (HDF5)",
    ways="raw data in: Cartesian slices and volumes, and slices along a trajectory; images out",
    claims=_claims,
    open=read_ismrmrd,
    options=("select",),
    called="ISMRMRD raw data",
    rank=60,
    save=write_images,
    suffixes=(".mrd",),
)
