"""Read a folder of TIFF or raw projections with a YAML that says where their rays run (docs/scan-files.md).

May be called by `open.open_scan`, given the YAML; touches that file and the files that it names. Frames are seen from
the source with row 0 at the top, unless it says otherwise; inside, row 0 lies at -z as everywhere in this package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import refuse_counts, volume_scan
from restore.datasets.ct.detector.counts import line_integrals
from restore.datasets.ct.files.frames import (
    TIFF_SUFFIXES,
    RawLayout,
    frame_files,
    frames_of,
    mean_of,
)
from restore.datasets.ct.files.row_blocks import sliced
from restore.datasets.ct.files.stack_settings import (
    GEOMETRY,
    KINDS,
    LAYOUT,
    RAW,
    RAW_TYPES,
    TURNED,
    VALUES,
    Settings,
    angles_rad,
    read_settings,
    read_table,
)
from restore.datasets.ct.parallel_slices import parallel_scan
from restore.datasets.ct.scan import CTScan
from restore.datasets.formats import Format
from restore.datasets.plain_yaml import LARGEST_BYTES
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam
from restore.operators.ct.grid import VoxelGrid

SUFFIXES = (".yaml", ".yml")
RAW_SUFFIXES = (".raw", ".bin", ".float", ".dat")
_MARK = re.compile(r"^projections\s*:", re.MULTILINE)


def read_projection_stack(path: str | Path, grid: str = "") -> CTScan | BeamScan:
    """Open the projections of a YAML; frames are read when asked for.

    grid: "SHAPE@MM" in the place of the file's. Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    notes: list[str] = []
    said = read_settings(path)
    raw = _raw_layout(said)
    files, frames = _frames(said, "projections", raw)
    beside, lines = _line_integrals(said, raw, frames, notes)
    read = (*files, *beside, *(p for n in ("angles_file", "vectors_file") if (p := said.file(n))))
    kind = said.word("kind", KINDS)
    common: dict[str, Any] = {
        **{name: _positive(said, name) for name in ("mu_water", "photons", "noise_std")}, "files": tuple(read),
    }  # fmt: skip
    lines = _upright(said, lines)
    if kind == "parallel":
        pitch, offset = _pitch(said), said.numbers("det_offset_mm") or 0.0
        offset_mm = offset[-1] if isinstance(offset, tuple) else offset
        asked = grid or _grid_words(said)
        angles = angles_rad(said, len(lines))
        return parallel_scan(
            path, sliced(lines), angles, pitch, "stack", notes, grid=asked, offset_mm=offset_mm, **common
        )  # fmt: skip
    beam = _beam(said, kind, lines.shape)
    if beam.in_plane and lines.shape[1] > 1:
        notes.append(
            "each row of the frames is taken as a fan in a plane of its own, not as part of a cone"
        )
    return volume_scan(
        path, sliced(lines) if beam.in_plane else lines, beam, "stack", notes, grid=grid,
        stored_grid=_stored_grid(said), **common,
    )  # fmt: skip


def _frames(said: Settings, name: str, raw: RawLayout | None) -> tuple[list[Path], LazyStack]:
    where = said.file(name)
    files = frame_files(where or Path(), TIFF_SUFFIXES if raw is None else RAW_SUFFIXES)
    return files, frames_of(files, raw)


def _line_integrals(
    said: Settings, raw: RawLayout | None, frames: LazyStack, notes: list[str]
) -> tuple[list[Path], LazyStack]:
    """The files of flats and darks, and line integrals (views, rows, columns)."""
    lit = said.has("flats") or said.has("flat_level")
    values = said.word("values", VALUES, "counts" if lit else "")
    if values != "counts" and (lit or said.has("darks") or said.has("dark_level")):
        raise said.fault(
            f"'{values}' and flats or darks", "these are for counts: leave one of the two out"
        )
    if values == "line_integrals":
        refuse_counts(said.path, frames, notes)
        return [], LazyStack(frames.shape, lambda k: frames[k].astype(np.float32))
    panel = (frames.shape[1], frames.shape[2])
    read: list[Path] = []
    found: dict[str, NDArray[np.float64] | None] = {}
    for key, level in (("flats", "flat_level"), ("darks", "dark_level")):
        if said.has(key):
            files, stack = _frames(said, key, raw)
            read += files
            found[key] = mean_of(stack, panel, said.file(key) or said.path)
        elif said.has(level):
            found[key] = np.full(panel, said.number(level))
        else:
            found[key] = None
    flat = np.ones(panel) if values == "transmission" else found["flats"]
    if flat is None:
        raise said.fault(
            "'counts' without the light that they are a share of", "name 'flats' or 'flat_level'"
        )
    if found["darks"] is None and values == "counts":
        notes.append("no 'darks': the detector's dark level is taken as 0")
    return read, line_integrals(frames, flat, found["darks"], said.path, False, notes)


def _upright(said: Settings, lines: LazyStack) -> LazyStack:
    """Row 0 at -z, column 0 on the left as seen from the source."""
    rows = said.word("first_row", TURNED["first_row"], "top") == "top"
    columns = said.word("seen_from", TURNED["seen_from"], "source") == "detector"
    turn = (slice(None, None, -1 if rows else None), slice(None, None, -1 if columns else None))
    return LazyStack(lines.shape, lambda k: np.ascontiguousarray(lines[k][turn]))


def _beam(said: Settings, kind: str, shape: tuple[int, ...]) -> Beam:
    views, rows, columns = shape
    values = {name: found for name in GEOMETRY if (found := said.numbers(name)) is not None}
    if said.has("detector_shape"):
        values["detector_shape"] = said.word("detector_shape", ("flat", "equiangular"))  # type: ignore[assignment]
    try:
        if kind == "vectors":
            table = read_table(said, "vectors_file")
            return FreeBeam(tuple(map(tuple, table.tolist())), (rows, columns))
        angles = tuple(angles_rad(said, views).tolist())
        if kind == "fan":
            return FanBeam(angles, columns, **values)  # type: ignore[arg-type]
        if kind == "helical" and not values.get("pitch_mm"):
            raise said.fault("'helical' without 'pitch_mm'", "give the way along z in a turn")
        return ConeBeam(angles, (rows, columns), **values)  # type: ignore[arg-type]
    except (ConfigError, TypeError) as error:
        raise said.fault(f"unusable geometry: {error}") from error


def _pitch(said: Settings) -> tuple[float, float]:
    found = said.numbers("det_spacing_mm")
    pair = found if isinstance(found, tuple) else (found, found)
    if len(pair) != 2 or any(p is None or p <= 0 for p in pair):
        raise said.fault(
            f"'det_spacing_mm' is {found}",
            "expected (row pitch, column pitch) in mm, or one number",
        )
    return float(pair[0] or 0), float(pair[1] or 0)


def _stored_grid(said: Settings) -> VoxelGrid | None:
    given = {name: said.numbers(name) for name in ("shape", "voxel_mm", "centre_mm")}
    if given["shape"] is None or given["voxel_mm"] is None:
        if any(value is not None for value in given.values()):
            raise said.fault("'shape' and 'voxel_mm' go together", LAYOUT)
        return None
    try:
        return VoxelGrid(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except (ConfigError, TypeError) as error:
        raise said.fault(f"unusable volume: {error}") from error


def _grid_words(said: Settings) -> str:
    """What a parallel scan says of its pixels, as --grid has it."""
    found = _stored_grid(said)
    if found is None:
        return ""
    if len(set(found.voxel_mm[-2:])) > 1 or any(found.centre_mm):
        raise said.fault("a parallel scan has square pixels round the axis", "leave centre_mm out")
    return "x".join(map(str, found.shape[-2:])) + f"@{found.voxel_mm[-1]!r}"


def _positive(said: Settings, name: str) -> float | None:
    found = said.number(name)
    if found is not None and found <= 0:
        raise said.fault(f"'{name}' is {found:g}", "expected a number above 0")
    return found


def _raw_layout(said: Settings) -> RawLayout | None:
    found = said.values.get("raw")
    if found is None:
        return None
    if not isinstance(found, dict) or set(found) - set(RAW):
        raise said.fault("'raw' is not made of " + ", ".join(RAW))
    part = Settings(said.path, found)
    shape = part.numbers("shape")
    if not isinstance(shape, tuple) or len(shape) != 2 or any(n < 1 or n % 1 for n in shape):
        raise said.fault(f"'shape' of 'raw' is {shape}", "expected [rows, columns]")
    order = {"little": "<", "big": ">"}[part.word("byte_order", ("little", "big"), "little")]
    kind = np.dtype(order + RAW_TYPES[part.word("type", tuple(RAW_TYPES))])
    header = part.number("header_bytes") or 0.0
    if header < 0 or header % 1:
        raise said.fault(
            f"'header_bytes' of 'raw' is {header:g}", "expected how many bytes to skip"
        )
    return RawLayout((int(shape[0]), int(shape[1])), kind, int(header))


def _claims(content: Content) -> bool:
    if content.kind != "a text file" or content.path.suffix.lower() not in SUFFIXES:
        return False
    with content.path.open("rb") as stream:
        text = stream.read(LARGEST_BYTES).decode("utf-8", "replace")
    return _MARK.search(text) is not None


FORMAT = Format(
    name="projection stack",
    holds="scan",
    files=".yaml beside TIFF or raw files",
    ways="projections of any geometry in (docs/scan-files.md)",
    claims=_claims,
    open=read_projection_stack,
    options=("grid",),
    called="a stack of projections",
)
