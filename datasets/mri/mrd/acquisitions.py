"""The acquisitions of an ISMRMRD file: headers, samples and coordinates, checked, chosen by their counters.

May be called by the readers of raw data; touches the one file it is given. The format is that of Inati et al., MRM
77:411, 2017; records are read as they lie, nothing in them is executed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.hdf5_guard import find_group, open_hdf5
from restore.errors import ConfigError, InputError

NOISE, REVERSE = 1 << 18, 1 << 21
"""Flags of a noise measurement, and of a readout that runs backwards."""

CALIBRATION, CALIBRATION_AND_IMAGE = 1 << 19, 1 << 20
"""Flags of lines for the calibration of parallel imaging, and of those that are lines of the image too."""

APART = ("separate", "external")
"""Words of the header for calibration lines that were not measured as the image."""

NO_IMAGE = sum(1 << (bit - 1) for bit in (23, 24, 26, 27, 28, 29, 30, 31))
"""Flags of navigators, phase correction, feedback, dummies, coil correction and phase stabilisation."""

COUNTERS = ("average", "contrast", "phase", "repetition", "set", "slice")
"""What an image may be chosen by; where none is, averages are averaged and all slices read."""

MAGIC = ("head", "traj", "data")


@dataclasses.dataclass(frozen=True, eq=False)
class Acquisitions:
    """Of images alone. level: of the noise measurements where these were sampled as fast as the image, else None.
    heads: structured array (n,). data: each complex64 (coils, samples). points: each float32 (samples, dimensions),
    of none where there are no coordinates. noise: (coils, n), or None. xml: the header."""

    heads: NDArray[Any]
    data: list[NDArray[np.complex64]]
    points: list[NDArray[np.float32]]
    noise: NDArray[np.complex128] | None
    level: float | None
    xml: str


def group_of(file: h5py.File) -> str | None:
    """The name of the first group that holds acquisitions and their header, None where there is none."""
    for name in file.keys():
        if isinstance(name, str) and isinstance(file.get(name, getlink=True), h5py.HardLink):
            if file.get(name, getclass=True) is not h5py.Group:
                continue
            group = find_group(file, name)
            if group is not None and {"xml", "data"} <= set(group.keys()):
                return name
    return None


def read_acquisitions(path: Path, select: str, notes: list[str]) -> Acquisitions:
    """All acquisitions of one image, or of the slices of one.

    select: "repetition=1,contrast=0" and so on, of COUNTERS. Raises InputError for damaged or unusual records,
    ConfigError for another text.
    """
    with open_hdf5(path) as file:
        name = group_of(file)
        if name is None:
            raise InputError(path, "holds no group with 'xml' and 'data'", "is it ISMRMRD?")
        stored, xml = (_hard(file, f"{name}/{part}", path) for part in ("data", "xml"))
        if stored.dtype.names != MAGIC or stored.ndim != 1 or not len(stored):
            raise InputError(
                path,
                f"ISMRMRD raw data whose '{name}/data' is no list of acquisitions, but of shape {stored.shape}",
            )
        # Samples of any length lie elsewhere in the file, which holds them all.
        check_budget(4 * path.stat().st_size, path)
        records = stored[()]
        text = xml[()] if xml.ndim == 0 else xml[0]
    header = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return chosen_acquisitions(records, select, path, notes, header)


def chosen_acquisitions(
    records: NDArray[Any], select: str, path: Path, notes: list[str], xml: str = ""
) -> Acquisitions:
    """Those of one image of records (n,) with `head`, `traj` and `data`, wherever they were read.

    Raises InputError for damaged or unusual records, ConfigError for another text.
    """
    wanted = _selection(select)
    heads = records["head"]
    flags = heads["flags"]
    noise = _noise(records[(flags & NOISE) != 0], path)
    records = records[(flags & (NOISE | NO_IMAGE)) == 0]
    if (records["head"]["flags"] & REVERSE).any():
        raise InputError(
            path,
            "readouts run backwards (EPI)",
            "correct alternate lines first: such as by Gadgetron or bart",
        )
    records = _chosen(records, wanted, path, notes)
    data, points = [], []
    for record in records:
        samples, coordinates = _samples(record, path)
        data.append(samples)
        points.append(coordinates)
    if len({len(d) for d in data}) != 1:
        raise InputError(
            path,
            f"acquisitions have {sorted({len(d) for d in data})} channels, expected one number",
        )
    level = _level(noise, heads[(flags & NOISE) != 0], records["head"])
    return Acquisitions(records["head"], data, points, noise, level, xml)


def without_calibration(
    found: Acquisitions, mode: str, path: Path, notes: list[str]
) -> Acquisitions:
    """Those that are lines of the image: calibration lines of a separate scan have another contrast.

    mode: the header's word for how they were measured. Raises InputError where no line is left.
    """
    flags = found.heads["flags"]
    apart = ((flags & CALIBRATION) != 0) & ((flags & CALIBRATION_AND_IMAGE) == 0)
    if mode not in APART or not apart.any():
        return found
    if apart.all():
        raise InputError(path, "holds calibration lines alone", "give the file of the image")
    kept = np.flatnonzero(~apart)
    notes.append(f"{int(apart.sum())} readouts of a separate calibration scan are not used")
    data, points = [found.data[k] for k in kept], [found.points[k] for k in kept]
    return dataclasses.replace(found, heads=found.heads[kept], data=data, points=points)


def _hard(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A data set of this very file. Raises InputError."""
    link = file.get(name, getlink=True)
    found = file.get(name) if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise InputError(path, f"'{name}' is no data set of this file")
    return found


def _selection(select: str) -> dict[str, int]:
    """Counters to numbers. Raises ConfigError."""
    wanted = {}
    for part in filter(None, (p.strip() for p in select.split(","))):
        name, _, number = part.partition("=")
        if name.strip() not in COUNTERS or not number.strip().isdecimal():
            known = ", ".join(COUNTERS)
            raise ConfigError(
                f"--select: {part!r}, expected NAME=NUMBER with a name of {known}, from 0"
            )
        wanted[name.strip()] = int(number)
    return wanted


def _chosen(
    records: NDArray[Any], wanted: dict[str, int], path: Path, notes: list[str]
) -> NDArray[Any]:
    """Those of one image: as wanted, else the first of each counter; all averages. Raises InputError."""
    for name in COUNTERS:
        numbers = records["head"]["idx"][name]
        there = sorted({int(n) for n in numbers})
        if name in wanted:
            if wanted[name] not in there:
                raise InputError(
                    path,
                    f"holds no {name} {wanted[name]}",
                    f"there are {', '.join(map(str, there))}",
                )
            records = records[numbers == wanted[name]]
        elif len(there) > 1 and name == "average":
            notes.append(f"{len(there)} averages: averaged")
        elif len(there) > 1 and name != "slice":
            records = records[numbers == there[0]]
            notes.append(
                f"{len(there)} of the counter '{name}': the first is read; --select {name}=N for another of {there}"
            )
    if not len(records):
        raise InputError(path, "holds no acquisitions of an image", "noise and navigators alone")
    return records


def _samples(record: Any, path: Path) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """(coils, samples) and (samples, dimensions) without what is to be discarded. Raises InputError."""
    head = record["head"]
    channels, count = int(head["active_channels"]), int(head["number_of_samples"])
    dimensions = int(head["trajectory_dimensions"])
    data, points = np.asarray(record["data"], np.float32), np.asarray(record["traj"], np.float32)
    if data.size != 2 * channels * count or not data.size or points.size != dimensions * count:
        raise InputError(
            path,
            f"acquisition {int(head['scan_counter'])} holds {data.size} numbers and {points.size} coordinates, its "
            f"header says {channels} channels of {count} samples in {dimensions} dimensions",
            "the file is damaged",
        )
    kept = slice(int(head["discard_pre"]), count - int(head["discard_post"]))
    values = np.ascontiguousarray(data).view(np.complex64).reshape(channels, count)[:, kept]
    if not values.size or not np.isfinite(values).all():
        raise InputError(path, f"acquisition {int(head['scan_counter'])} is empty, NaN or infinite")
    return values, points.reshape(count, dimensions)[kept]


def _level(
    noise: NDArray[np.complex128] | None, noise_heads: NDArray[Any], heads: NDArray[Any]
) -> float | None:
    """Per real channel; None where another bandwidth let in other noise."""
    if noise is None or (noise_heads["sample_time_us"] != heads["sample_time_us"][0]).any():
        return None
    return float(np.sqrt(np.square(np.abs(noise)).mean() / 2))


def _noise(records: NDArray[Any], path: Path) -> NDArray[np.complex128] | None:
    """Samples of all noise measurements side by side, (coils, n)."""
    parts = [_samples(record, path)[0] for record in records]
    if not parts or len({len(p) for p in parts}) != 1:
        return None
    return np.concatenate(parts, axis=1).astype(np.complex128)
