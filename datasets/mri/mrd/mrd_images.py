"""Write a volume as a series of ISMRMRD (MRD) images in HDF5, one a slice, each with its place; take such a file apart.

May be called by `open.write` and the MRD server; touches the one file it is given, which appears whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_guard import open_hdf5
from restore.datasets.hdf5_stack import joined, new_hdf5
from restore.datasets.mri.mrd.mrd_types import (
    COMPLEX,
    COMPLEX_FLOAT,
    FLOAT,
    GROUP,
    IMAGE_HEAD,
    MAGNITUDE,
    PAIR,
    VERSION,
)
from restore.datasets.stack import LazyStack
from restore.datasets.volume.lps import frame_of
from restore.datasets.volume.volume import Unplaced, Volume
from restore.errors import OutputError

SERIES = "image_0"
MOST = 65535
"""Of slices and pixels, which records count in 16 bits."""


def write_images(volume: Volume, path: str | Path, *, description: str = "") -> Path:
    """Images `dataset/image_0`: float32 magnitudes, or complex64 of complex data, as (slices, 1, 1, columns, rows).

    x, the fastest axis, goes from row to row, along which scanners read; read_dir and phase_dir say how both lie in the
    patient (LPS), the position is that of the pixel (rows // 2, columns // 2) in mm. A volume whose source tells no
    orientation has zeros in the place of directions. description: into the images' comment. Raises OutputError.
    """
    target = Path(path)
    depth, rows, columns = volume.data.shape
    if max(volume.data.shape) > MOST:
        raise OutputError(
            f"{target}: ISMRMRD counts slices and pixels up to {MOST}, this has {volume.data.shape}"
        )
    is_complex = np.iscomplexobj(volume.data)
    stored = PAIR if is_complex else np.dtype(np.float32)
    comment = meta_text({"DataRole": "Image", "ImageComment": description})
    heads = _heads(volume)
    heads["data_type"], heads["image_type"] = (
        (COMPLEX_FLOAT, COMPLEX) if is_complex else (FLOAT, MAGNITUDE)
    )
    heads["attribute_string_len"] = len(comment)
    planes = LazyStack((depth, 1, 1, columns, rows), lambda index: volume.data[index].T[None, None])
    with new_hdf5(target, [(planes, np.complex64 if is_complex else np.float32)]) as file:
        group = file.create_group(f"{GROUP}/{SERIES}")
        # Able to grow, as the format's own programs make them, for those that append.
        group.create_dataset("header", data=heads, maxshape=(None,))
        said = group.create_dataset("attributes", (depth,), h5py.string_dtype(), maxshape=(None,))
        said[:] = comment
        data = group.create_dataset(
            "data", planes.shape, stored, chunks=(1, *planes.shape[1:]), maxshape=(None, *planes.shape[1:])
        )  # fmt: skip
        for index in range(depth):
            kind = np.complex64 if is_complex else np.float32
            data[index] = np.ascontiguousarray(planes[index], kind).view(stored)
    return target


def _heads(volume: Volume) -> np.ndarray:
    """A record for each slice."""
    depth, rows, columns = volume.data.shape
    dx, dy, dz = volume.spacing_mm
    heads = np.zeros(depth, IMAGE_HEAD)
    heads["version"], heads["channels"] = VERSION, 1
    heads["matrix_size"] = rows, columns, 1
    heads["field_of_view"] = rows * dy, columns * dx, dz
    heads["slice"], heads["image_index"] = np.arange(depth), np.arange(1, depth + 1) & MOST
    if not isinstance(volume.header, Unplaced):
        frame = frame_of(volume.affine, volume.data.shape)
        heads["position"] = frame.positions
        heads["read_dir"], heads["phase_dir"], heads["slice_dir"] = (
            frame.read,
            frame.phase,
            frame.through,
        )
    return heads


def meta_text(told: Mapping[str, str | list[str]]) -> str:
    """The text that goes with an image, in the XML of ISMRMRD's meta data; what is empty is left out.

    told: names to a value, or to several in their order.
    """
    entries = []
    for name, values in told.items():
        several = [values] if isinstance(values, str) else values
        inside = "".join(f"<value>{escape(value)}</value>" for value in several if value)
        if inside:
            entries.append(f"<meta><name>{name}</name>{inside}</meta>")
    return f'<?xml version="1.0"?><ismrmrdMeta>{"".join(entries)}</ismrmrdMeta>'


def read_images(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """What `write_images` wrote: records (slices,) of IMAGE_HEAD, values (slices, 1, 1, columns, rows).

    Raises InputError.
    """
    with open_hdf5(path) as file:
        group = file[f"{GROUP}/{SERIES}"]
        return group["header"][()], joined(group["data"][()])
