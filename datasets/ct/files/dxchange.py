"""Read parallel-beam scans of synchrotrons in Data Exchange HDF5 (DXchange), slice by slice.

May be called by `open.open_scan`; touches the one file it is given. De Carlo et al.: "Scientific data exchange: a
schema for HDF5-based storage of raw and analyzed data", J. Synchrotron Rad. 21, 2014.

    exchange/data                (views, rows, columns) counts
    exchange/data_white, _dark   frames (n, rows, columns) without the object, without the beam
    exchange/theta               (views,) angles, degrees or radians by the attribute `units`
    measurement/instrument/...   size of a pixel, in one of the places below

Which way the stage turned, and whether row 0 is at the top, no such file says: a picture may be mirrored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.ct.detector.counts import line_integrals, mean_frame
from restore.datasets.ct.detector.lost_rays import bridged
from restore.datasets.ct.files.angle_units import DEGREES_FROM, span_of, turn_in_radians
from restore.datasets.ct.files.row_blocks import rows_as_slices
from restore.datasets.ct.parallel_slices import parallel_scan
from restore.datasets.ct.scan import CTScan
from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import (
    attribute,
    find_dataset,
    find_group,
    names,
    open_hdf5,
    root_names,
)
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import InputError

AXES = "theta:y:x"
_RESOLUTION = "measurement/instrument/detection_system/objective/resolution"
_MAGNIFICATION = "measurement/instrument/detection_system/objective/magnification"
_PIXEL_X, _PIXEL_Y = (f"measurement/instrument/detector/{axis}_pixel_size" for axis in "xy")
_MM = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "meters": 1e3, "mm": 1.0, "millimeter": 1.0, "um": 1e-3, "micron": 1e-3,
    "microns": 1e-3, "micrometer": 1e-3, "µm": 1e-3, "nm": 1e-6, "microns per pixel": 1e-3,
}  # fmt: skip
_SMALLEST_MM, _LARGEST_MM = 1e-6, 50.0


def read_dxchange(
    path: str | Path, repair: str = "", detector_pixel: float | None = None, grid: str = ""
) -> CTScan:
    """Open a DXchange file; rows are read when asked for, row k of the detector as slice k.

    detector_pixel: pitch in mm at the object, in the place of the file's. grid as in `parallel_slices.parallel_scan`.
    repair as in `scan.open_scan`. Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    notes: list[str] = []
    with open_hdf5(path) as file:
        views, rows, columns = _shape(file, path)
        angles = _angles(file, path, views, notes)
        flat = _frame(file, path, "data_white", (rows, columns))
        dark = _frame(file, path, "data_dark", (rows, columns))
        pixel = _pixel_mm(file, path, notes) if detector_pixel is None else (detector_pixel,) * 2
    if flat is None:
        raise InputError(
            path, "holds no 'exchange/data_white': counts without the frames of the open beam",
            "store them, or line integrals as `sinogram` (docs/scan-files.md)",
        )  # fmt: skip
    if dark is None:
        notes.append("no 'exchange/data_dark': the detector's dark level is taken as 0")
    counts = _counts(path, (views, rows, columns), repair, notes)
    sinogram = line_integrals(counts, flat, dark, path, True, notes)
    return parallel_scan(path, sinogram, angles, pixel, "dxchange", notes, grid=grid)


def _counts(path: Path, shape: tuple[int, int, int], repair: str, notes: list[str]) -> LazyStack:
    """(rows, views, columns) float64. Raises InputError, also for values that are not finite, when a row is read."""

    def read_rows(first: int, stop: int) -> NDArray[Any]:
        with open_hdf5(path) as file:
            data = find_dataset(file, "exchange/data")
            if data is None:
                raise InputError(
                    path, "'exchange/data' is gone", "do not change a file that is read"
                )
            return np.asarray(data[:, first:stop, :])

    stored = rows_as_slices(shape, read_rows)
    return LazyStack(
        stored.shape, lambda k: checked_slice(stored[k], path, k, repair, notes, bridged)
    )


def _shape(file: h5py.File, path: Path) -> tuple[int, int, int]:
    data = find_dataset(file, "exchange/data")
    if data is None:
        group = find_group(file, "exchange")
        raise InputError(path, f"no 'exchange/data'; 'exchange' holds {names(group or file)}")
    if data.ndim != 3 or 0 in data.shape or data.dtype.kind not in "fiu":
        raise InputError(
            path, f"'exchange/data' has shape {data.shape} and type {data.dtype}",
            "expected real numbers (views, rows, columns)",
        )  # fmt: skip
    axes = attribute(data, "axes")
    if isinstance(axes, str) and axes.replace(" ", "") not in (AXES, "theta:y:x:"):
        raise InputError(
            path, f"the axes of 'exchange/data' are {axes!r}, read is {AXES!r}", "reorder them"
        )
    views, rows, columns = map(int, data.shape)
    return views, rows, columns


def _angles(file: h5py.File, path: Path, views: int, notes: list[str]) -> NDArray[np.float64]:
    """In radians. Their units are told by the attribute, else by their span where it leaves no doubt."""
    found = find_dataset(file, "exchange/theta")
    if found is None or found.ndim != 1 or len(found) != views or found.dtype.kind not in "fiu":
        shape = None if found is None else found.shape
        raise InputError(
            path, f"'exchange/theta' has shape {shape} and 'exchange/data' {views} views",
            "expected one angle a view; leave frames without one out",
        )  # fmt: skip
    values = np.asarray(found[()], np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            path, "'exchange/theta' holds NaN or infinite values", "leave such views out"
        )
    span = span_of(values)
    said = str(attribute(found, "units") or "").lower()
    turn = turn_in_radians(span)
    unit = next((u for u in ("deg", "rad") if said.startswith(u)), "")
    if (unit == "deg" and turn) or (unit == "rad" and span > DEGREES_FROM):
        other = f"radians of {turn}" if turn else "degrees"
        raise InputError(
            path, f"the units of 'exchange/theta' are {said!r}, and its values span {span:.4g}, as of {other}",
            "correct the attribute `units`",
        )  # fmt: skip
    if not unit:
        if not turn and span <= DEGREES_FROM:
            raise InputError(
                path, f"'exchange/theta' has no units, and spans {span:.4g}: degrees or radians?",
                "set its attribute `units` to 'degrees' or 'radians'",
            )  # fmt: skip
        unit = "rad" if turn else "deg"
        told = f"radians: they span {turn}" if turn else "degrees"
        notes.append(f"angles without units span {span:.4g}: taken as {told}")
    return np.deg2rad(values) if unit == "deg" else values


def _frame(
    file: h5py.File, path: Path, key: str, panel: tuple[int, int]
) -> NDArray[np.float64] | None:
    name = f"exchange/{key}"
    found = find_dataset(file, name)
    return None if found is None else mean_frame(found, path, name, panel)


def _pixel_mm(file: h5py.File, path: Path, notes: list[str]) -> tuple[float, float]:
    """(row pitch, column pitch) at the object: the objective's resolution, else the detector's, demagnified."""
    seen = _length_mm(file, path, _RESOLUTION, "microns")
    if seen is not None:
        return seen, seen
    across = _length_mm(file, path, _PIXEL_X, "m")
    if across is None:
        notes.append(
            "the file tells no size of a pixel: 1 mm assumed, so that lengths, 1/mm and HU mean nothing "
            "(--detector-pixel MM)"
        )
        return 1.0, 1.0
    down = _length_mm(file, path, _PIXEL_Y, "m") or across
    times = _number(file, _MAGNIFICATION)
    if times is None:
        notes.append(
            f"the detector's pixel of {across:.4g} mm is taken as that at the object: no magnification is told"
        )
    return down / (times or 1.0), across / (times or 1.0)


def _length_mm(file: h5py.File, path: Path, name: str, usual: str) -> float | None:
    """A length with its units, by the schema's where it tells none. Raises InputError for one that is no pixel's."""
    value = _number(file, name)
    if value is None:
        return None
    found = find_dataset(file, name)
    unit = str((None if found is None else attribute(found, "units")) or usual).lower()
    if unit not in _MM or not _SMALLEST_MM <= value * _MM[unit] <= _LARGEST_MM:
        raise InputError(
            path, f"'{name}' is {value:g} {unit}, which is no size of a pixel",
            "correct it, or give --detector-pixel MM",
        )  # fmt: skip
    return value * _MM[unit]


def _number(file: h5py.File, name: str) -> float | None:
    """A positive number, None where there is none: empty entries are usual."""
    found = find_dataset(file, name)
    if found is None or found.size != 1 or found.dtype.kind not in "fiu":
        return None
    value = float(np.asarray(found[()]).reshape(()))
    return value if np.isfinite(value) and value > 0 else None


def _claims(content: Content) -> bool:
    if "exchange" not in root_names(content):
        return False
    with open_hdf5(content.path) as file:
        return find_dataset(file, "exchange/data") is not None


FORMAT = Format(
    name="DXchange",
    holds="scan",
    files=".h5, .hdf5",
    ways="parallel-beam counts of synchrotrons with flats and darks in",
    claims=_claims,
    open=read_dxchange,
    options=("repair", "detector_pixel", "grid"),
    called="a DXchange scan",
)
