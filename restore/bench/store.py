"""The images of a benchmark: one HDF5 file for each (setting, method, volume), in the fastMRI submission layout.

    RUN/reconstructions/SETTING/METHOD/VOLUME.h5     data set `reconstruction`, and `std` where samples were drawn
    RUN/reconstructions/SETTING/input/VOLUME.h5      what a reader of the measurement sees first (zero-filled, FBP, ...)
    RUN/reconstructions/reference/VOLUME.h5          the target

Written by the runner, read by the report; the fastMRI evaluator reads the folders as they are. Shape (slices, H, W), or
(channels, H, W) for photographs. Attributes place the image: affine, modality, units, slices.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.atomic import atomic_file, make_folder
from restore.datasets.hdf5_guard import attribute, find_dataset, open_hdf5
from restore.datasets.hdf5_stack import written_hdf5
from restore.datasets.scan import Scan
from restore.errors import InputError

FOLDER, REFERENCE, INPUT = "reconstructions", "reference", "input"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an image lies: affine voxel (W, H, slice) -> RAS mm or None, modality "MR", "CT" or "photograph", units
    of the intensities, and the numbers of its slices in the source."""

    modality: str
    units: str = ""
    affine: tuple[tuple[float, ...], ...] | None = None
    slices: tuple[int, ...] = ()


def place_of(scan: Scan) -> Place:
    """Where the image of a scan lies."""
    affine = None if scan.affine is None else tuple(tuple(map(float, row)) for row in scan.affine)
    return Place(scan.modality, scan.units or "arbitrary", affine, tuple(scan.slice_indices))


@dataclasses.dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as stored: float32 (slices or channels, H, W), its standard deviation or None, its place."""

    image: NDArray[np.float32]
    std: NDArray[np.float32] | None
    place: Place


def slug(name: str) -> str:
    """The name as part of a path: itself where it is harmless, else cleaned and made unique by a short hash."""
    if _PLAIN.fullmatch(name):
        return name
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "file"
    mark = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return f"{clean}-{mark[:8]}"


def image_path(run: Path, setting: str, method: str, volume: str) -> Path:
    """The file of one image. setting is "" for the reference, which is the same for all settings."""
    name = slug(volume)
    folders = [slug(part) for part in (setting, method) if part]
    return run.joinpath(FOLDER, *folders, name if name.endswith(".h5") else name + ".h5")


def save(path: Path, image: NDArray[Any], place: Place, std: NDArray[Any] | None = None) -> None:
    """Write an image atomically, its folder made where it is missing. Raises OutputError."""
    make_folder(path.parent)
    stacks = {"reconstruction": image} | ({} if std is None else {"std": std})
    size = sum(np.asarray(a).size * 4 for a in stacks.values())
    with atomic_file(path, size + (1 << 16)) as partial, written_hdf5(partial) as file:
        for key, values in stacks.items():
            file.create_dataset(key, data=np.asarray(values, np.float32))
        file.attrs["modality"], file.attrs["units"] = place.modality, place.units
        file.attrs["slices"] = np.asarray(place.slices, np.int64)
        if place.affine is not None:
            file.attrs["affine"] = np.asarray(place.affine, np.float64)


def load(path: Path) -> StoredImage:
    """Read an image. Raises NotFoundError, InputError."""
    with open_hdf5(path) as file:
        image = find_dataset(file, "reconstruction")
        if image is None or image.ndim != 3:
            raise InputError(path, "holds no stack 'reconstruction' of three axes")
        std = find_dataset(file, "std")
        values = np.asarray(image[()], np.float32)
        spread = None if std is None else np.asarray(std[()], np.float32)
        place = Place(
            str(attribute(file, "modality") or ""), str(attribute(file, "units") or ""),
            _affine(file), tuple(int(i) for i in np.ravel(file.attrs.get("slices", ()))),
        )  # fmt: skip
    return StoredImage(values, spread, place)


def _affine(file: h5py.File) -> tuple[tuple[float, ...], ...] | None:
    values = file.attrs.get("affine")
    if values is None or np.shape(values) != (4, 4):
        return None
    return tuple(tuple(float(v) for v in row) for row in values)
