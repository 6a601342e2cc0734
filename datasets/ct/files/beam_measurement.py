"""Read and write CT projections of fans, cones, helices and free vectors as HDF5.

May be called by `open.open_scan` and by simulations; touches the one file it is given. Layout: docs/scan-files.md. A
parallel sinogram is `measurement`'s.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from restore.datasets.content import Content
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import affine_of_grid
from restore.datasets.ct.detector.counts import line_integrals_of_counts
from restore.datasets.ct.detector.lost_rays import bridged
from restore.datasets.ct.files.stored_values import geometry_kind, read_stored, write_stored
from restore.datasets.formats import Format
from restore.datasets.hdf5_guard import (
    attribute,
    find_dataset,
    find_group,
    names,
    open_hdf5,
    root_names,
)
from restore.datasets.hdf5_stack import companion, new_hdf5, read_slice, write_stack
from restore.datasets.scan_record import read_record, write_record
from restore.datasets.stack import LazyStack, checked_slice
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam, ParallelBeam3D
from restore.operators.ct.grid import VoxelGrid

_KINDS: dict[str, type[Beam]] = {
    "fan": FanBeam, "cone": ConeBeam, "helical": ConeBeam, "parallel3d": ParallelBeam3D, "vectors": FreeBeam,
}  # fmt: skip
_GRID = ("shape", "voxel_mm", "centre_mm")
_FIELDS = (
    "det_spacing_mm", "source_object_mm", "source_detector_mm", "det_offset_mm", "source_offset_mm", "tilt_deg",
    "slant_deg", "skew_deg", "pitch_mm", "detector_shape", "parallel",
)  # fmt: skip
_LAYOUT = "see docs/scan-files.md"


def read_beam_measurement(path: str | Path, repair: str = "") -> BeamScan:
    """Open a file of projections; they are read when asked for.

    repair as in `open.open_scan`. Raises NotFoundError, InputError for what is missing, of another shape, or describes
    no scan that sees the volume.
    """
    path = Path(path)
    notes: list[str] = []
    with open_hdf5(path) as file:
        lines = _projections(file, path, notes)
        geometry, grid = _geometry(file, path, lines.shape)
        slices = lines.shape[0] if grid.in_plane else grid.shape[0]
        lead = (slices, *grid.shape[-2:])
        reference = companion(file, path, "reference_hu", lead, 3, np.float32)
        record = read_record(file, path, slices)
        stored = read_stored(file, path)
    projections = _checked(lines, grid.in_plane, path, repair, notes)
    photons, noise, mu_water = stored.completed(lambda: projections[len(projections) // 2], notes)
    notes.extend(record.notes)
    scan = BeamScan(
        path=path, projections=projections, geometry=geometry, grid=grid, mu_water=mu_water, photons=photons,
        noise_std=noise, slice_indices=record.slice_indices,
        affine=affine_of_grid(grid) if record.affine is None else record.affine, reference=reference,
        source=record.source or {"kind": "ct", "modality": "CT", "units": "HU"}, settings=record.settings,
        notes=notes,
    )  # fmt: skip
    try:
        scan.check()
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}", _LAYOUT) from error
    return scan


def write_beam_measurement(scan: BeamScan, path: str | Path) -> None:
    """Write projections view by view, atomically. Raises OutputError where the file cannot be written."""
    stacks = [(scan.projections, np.float32), (scan.reference, np.float32)]
    with new_hdf5(Path(path), stacks) as file:
        write_stack(file, "projections", scan.projections, np.float32)
        if scan.reference is not None:
            write_stack(file, "reference_hu", scan.reference, np.float32)
        stored = scan.geometry.to_dict()
        for name, key in (("angles", "angles_rad"), ("vectors", "vectors")):
            if name in stored:
                file[f"geometry/{key}"] = np.asarray(stored[name], np.float64)
        grid = {name: getattr(scan.grid, name) for name in _GRID}
        write_stored(file, stored | grid, (*_FIELDS, *_GRID), scan)
        write_record(file, scan)


def _checked(
    lines: LazyStack, in_plane: bool, path: Path, repair: str, notes: list[str]
) -> LazyStack:
    """The line integrals without values that are not finite; rows of a panel are bridged along their columns."""
    names = ("slice", "view") if in_plane else ("view", "row")
    mend = functools.partial(bridged, names=names)
    return LazyStack(
        lines.shape,
        lambda k: checked_slice(lines.load(k), path, k, repair, notes, mend, names=names),
    )


def _projections(file: h5py.File, path: Path, notes: list[str]) -> LazyStack:
    """Line integrals as they are stored, or made of counts."""
    stored = companion(file, path, "projections", (), 3, np.float32)
    group = find_group(file, "geometry")
    fan = group is not None and attribute(group, "kind") == "fan"
    made = line_integrals_of_counts(file, path, fan, notes)
    if stored is not None and made is not None:
        raise InputError(path, "holds 'projections' and 'counts'", "leave one of them out")
    found = made
    if stored is not None:
        found = LazyStack(
            stored.shape, lambda k: read_slice(path, "projections", k, np.float32)
        )  # whose lost values are `_checked`
    if found is None:
        raise InputError(
            path, f"no 'projections' and no 'counts'; the file holds {names(file)}", _LAYOUT
        )
    return found


def _geometry(file: h5py.File, path: Path, shape: tuple[int, ...]) -> tuple[Beam, VoxelGrid]:
    group = find_group(file, "geometry")
    kind = None if group is None else attribute(group, "kind")
    if group is None or kind not in _KINDS:
        raise InputError(
            path,
            f"the kind of 'geometry' is {kind!r}, expected one of {', '.join(_KINDS)}",
            f"a parallel beam has a 'sinogram'; {_LAYOUT}",
        )
    values = {name: attribute(group, name) for name in (*_FIELDS, *_GRID)}
    values = {
        k: v.tolist() if isinstance(v, np.ndarray) else v
        for k, v in values.items()
        if v is not None
    }
    placed = {name: values.pop(name) for name in _GRID if name in values}
    key = "vectors" if kind == "vectors" else "angles_rad"
    found = find_dataset(file, f"geometry/{key}")
    views = shape[1] if kind == "fan" else shape[0]
    if found is None or not found.shape or found.shape[0] != views:
        raise InputError(
            path,
            f"'geometry/{key}' has shape {None if found is None else found.shape} and 'projections' {shape}",
            "expected one entry a view; projections are (views, rows, columns), of a fan (slices, views, columns)",
        )
    size = {"n_det": shape[2]} if kind == "fan" else {"detector": shape[1:]}
    try:
        beam = _KINDS[kind](**{key.removesuffix("_rad"): found[()], **size, **_tuples(values)})
        return beam, VoxelGrid(**placed)
    except (ConfigError, TypeError) as error:
        raise InputError(path, f"unusable geometry: {error}", _LAYOUT) from error


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _claims(content: Content) -> bool:
    found = root_names(content)
    if "geometry" not in found or "sinogram" in found or not {"projections", "counts"} & found:
        return False
    return "projections" in found or geometry_kind(content.path) not in (None, "parallel")


FORMAT = Format(
    name="CT projections HDF5",
    holds="scan",
    files=".h5",
    ways="fan, cone, helix and free vectors in (docs/scan-files.md)",
    claims=_claims,
    open=read_beam_measurement,
    options=("repair",),
    called="CT projections",
)
