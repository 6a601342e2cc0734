"""The group `restore` inside our scan files: where the slices lie and how they were made.

May be called by the readers and writers of scan files; touches the open file it is given. Layout:
docs/scan-files.md. Holds geometry and settings only, never a name, a date or a path of the source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import attribute, find_group
from restore.datasets.json_text import parse_json, plain
from restore.datasets.scan import Scan
from restore.errors import InputError

GROUP = "restore"
VERSION = 1


@dataclass(frozen=True)
class Record:
    """What the group holds; fields as in `Scan`."""

    slice_indices: tuple[int, ...]
    affine: NDArray[np.float64] | None = None
    source: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_record(file: h5py.File, path: Path, slices: int) -> Record:
    """The record of a file with `slices` slices; a plain 0, 1, 2, ... without geometry where it is
    absent.

    Raises InputError for entries of a wrong kind or shape.
    """
    group = find_group(file, GROUP)
    if group is None:
        return Record(tuple(range(slices)))
    affine = attribute(group, "affine")
    if affine is not None:
        affine = _affine(affine, path)
    indices = np.asarray(range(slices) if (i := attribute(group, "slice_indices")) is None else i)
    if indices.shape != (slices,) or indices.dtype.kind not in "iu":
        raise InputError(path, f"'slice_indices' must hold {slices} integers, got {indices.shape}")
    source, settings = (_json(group, key, path) for key in ("source", "settings"))
    notes = settings.pop("notes", [])
    return Record(tuple(map(int, indices)), affine, source, settings, [str(note) for note in notes])


def write_record(file: h5py.File, scan: Scan) -> None:
    """Write the record of a scan."""
    group = file.create_group(GROUP)
    group.attrs["version"] = VERSION
    group.attrs["slice_indices"] = np.asarray(scan.slice_indices, np.int64)
    if scan.affine is not None:
        group.attrs["affine"] = np.asarray(scan.affine, np.float64)
    group.attrs["modality"] = str(scan.source.get("modality", ""))
    group.attrs["units"] = str(scan.source.get("units", ""))
    group.attrs["source"] = json.dumps(plain(scan.source))
    group.attrs["settings"] = json.dumps(plain({**scan.settings, "notes": scan.notes}))


def _affine(value: Any, path: Path) -> NDArray[np.float64]:
    affine = np.asarray(value)
    if affine.shape != (4, 4) or affine.dtype.kind not in "fiu":
        raise InputError(path, f"'affine' must be 4 x 4 numbers, got {affine.shape} {affine.dtype}")
    affine = affine.astype(np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) == 0:
        raise InputError(path, "'affine' is singular or not finite")
    return affine


def _json(group: h5py.Group, key: str, path: Path) -> dict[str, Any]:
    text = attribute(group, key)
    if text is None:
        return {}
    try:
        value = parse_json(str(text))
    except ValueError as error:
        where = f"attribute '{key}' of group '{GROUP}'"
        raise InputError(path, f"{where} is no JSON text ({error})") from error
    if not isinstance(value, dict):
        raise InputError(path, f"attribute '{key}' of group '{GROUP}' is no JSON object")
    return value
