"""Read scans of Nikon (X-Tek) micro-CT: `.xtekct` and the projections beside it, angles of `.ang` or `_ctdata.txt`.

May be called by `open.open_scan`, given the `.xtekct`; touches these files. Written after files as they are shown in
public and the conventions of the Core Imaging Library's reader (Jorgensen et al., Phil. Trans. R. Soc. A 379, 2021); no
scanner's own files were at hand. Frames are divided by their flats already: `WhiteLevel` is air. They are seen from
the detector, and the object turns so that the source goes round by `AngularStep`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import volume_scan
from restore.datasets.ct.detector.counts import line_integrals
from restore.datasets.ct.files.frames import TIFF_SUFFIXES, RawLayout, frames_of
from restore.datasets.ct.files.scanner_log import ScannerLog, numbered, read_angle_table, read_log
from restore.datasets.formats import Format
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import ConeBeam

_RAW = {".float": "<f4", ".raw": "<u2"}
_HALF_TURN = 180.0
_SMALLEST_TILT_DEG = 0.005  # moves the end of a detector of 2000 rows by a tenth of a row
_STEPS_AWAY = 1.0  # by which measured angles may leave the even ones without a word


def read_nikon(path: str | Path, grid: str = "") -> BeamScan:
    """Open the scan of an .xtekct; frames are read when asked for. grid: "SHAPE@MM". Raises InputError, ConfigError."""
    path = Path(path)
    notes: list[str] = []
    log = read_log(path)
    units = log.text("Units").lower()
    if units not in ("", "mm"):
        raise InputError(path, f"its lengths are in {units}", "expected mm")
    shape = (log.count("DetectorPixelsY"), log.count("DetectorPixelsX"))
    files, frames = _frames(log, shape)
    if frames.shape[1:] != shape:
        raise InputError(
            path, f"it tells {shape[0]} x {shape[1]} pixels, and the projections have {frames.shape[1]} x "
            f"{frames.shape[2]}", "keep the file of these projections",
        )  # fmt: skip
    table, angles = _angles(log, len(frames), notes)
    flat = np.full(shape, log.positive("WhiteLevel"))
    lines = line_integrals(frames, flat, None, path, False, notes)
    seen = LazyStack(lines.shape, lambda k: np.ascontiguousarray(lines[k][::-1, ::-1]))
    beam = _beam(log, shape, angles)
    return volume_scan(path, seen, beam, "nikon", notes, grid=grid, files=(*files, *table))


def _frames(log: ScannerLog, shape: tuple[int, int]) -> tuple[list[Path], LazyStack]:
    folder = log.path.parent / log.text("InputFolderName")
    try:
        there = folder.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise InputError(
            log.path, f"'InputFolderName' is {log.text('InputFolderName')!r}: no folder here"
        )
    prefix = log.text("Name") or log.path.stem
    held = {p.suffix.lower() for p in folder.iterdir() if p.stem.startswith(prefix)}
    kind = next((s for s in _RAW if s in held), "") if not held & set(TIFF_SUFFIXES) else ""
    suffixes = (kind,) if kind else TIFF_SUFFIXES
    files = numbered(log.path, folder, prefix, suffixes, log.count("Projections"))
    raw = RawLayout(shape, np.dtype(_RAW[kind])) if kind else None
    return files, frames_of(files, raw)


def _angles(
    log: ScannerLog, views: int, notes: list[str]
) -> tuple[tuple[Path, ...], NDArray[np.float64]]:
    """The file they were measured in, if any, and angles of the source in radians, those between views as measured."""
    step = log.number("AngularStep")
    if step == 0:
        raise InputError(log.path, "'AngularStep' is 0", "expected the angle between views")
    turned = step * np.arange(views)
    start = log.number("InitialAngle", 0.0) - _HALF_TURN
    folder = log.path.parent
    tables = [*sorted(folder.glob("*.ang")), *sorted(folder.glob("*_ctdata.txt"))]
    if not tables:
        return (), np.deg2rad(start + turned)
    found = np.array(read_angle_table(tables[0]))
    if len(found) != views:
        raise InputError(
            tables[0], f"it holds {len(found)} angles, and there are {views} projections",
            "keep the table of this scan, or take it away: the angles are even then",
        )  # fmt: skip
    measured = np.rad2deg(np.unwrap(np.deg2rad(found - found[0])))
    if views > 1 and np.sign(measured[-1]) != np.sign(step):
        measured = -measured  # some programs count the other way
    away = float(np.abs(measured - turned).max())
    if away > _STEPS_AWAY * abs(step):
        notes.append(
            f"the angles of {tables[0].name} lie up to {away:.3g} degrees beside even steps: taken as measured"
        )
    return (tables[0],), np.deg2rad(start + measured)


def _beam(log: ScannerLog, shape: tuple[int, int], angles: NDArray[np.float64]) -> ConeBeam:
    near, far = log.positive("SrcToObject"), log.positive("SrcToDetector")
    pitch = (log.positive("DetectorPixelSizeY"), log.positive("DetectorPixelSizeX"))
    tilt = log.number("ObjectTilt", 0.0)
    if abs(tilt) > _SMALLEST_TILT_DEG:
        raise InputError(
            log.path, f"its axis of rotation leans along the beam (ObjectTilt={tilt:g})", "give the vectors of "
            "its views in a YAML (docs/scan-files.md)",
        )  # fmt: skip
    top, bottom = log.number("CentreOfRotationTop", 0.0), log.number("CentreOfRotationBottom", 0.0)
    beside = log.number("ObjectOffsetX", (top + bottom) / 2 * near / far)
    lean = math.degrees(-math.atan2(top - bottom, shape[0] * pitch[0]))
    roll = log.number("ObjectRoll", lean)
    down, across = log.number("DetectorOffsetY", 0.0), log.number("DetectorOffsetX", 0.0)
    try:
        return ConeBeam(
            tuple(angles.tolist()), shape, pitch, near, far, det_offset_mm=(down, beside + across),
            source_offset_mm=(0.0, beside), skew_deg=roll,
        )  # fmt: skip
    except ConfigError as error:
        raise InputError(log.path, f"unusable geometry: {error}") from error


def _claims(content: Content) -> bool:
    return content.kind == "a text file" and b"[xtekct]" in content.head.lower()


FORMAT = Format(
    name="Nikon",
    holds="scan",
    files=".xtekct beside TIFF, .float or .raw",
    ways="cone projections of Nikon's micro-CT in",
    claims=_claims,
    open=read_nikon,
    options=("grid",),
    called="a scan of Nikon",
)
