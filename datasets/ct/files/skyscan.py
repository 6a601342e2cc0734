"""Read scans of SkyScan (Bruker) micro-CT: the `.log` of a scan and the TIFF projections beside it.

May be called by `open.open_scan`, given the log or its folder; touches these files. Written after logs as they are
shown in public (1275, 3001); no scanner's own files were at hand. What no log says, or none says clearly:

* The middle of the detector is taken for the axis of rotation (the log's `Postalignment` is of the reconstruction).
* `Optical Axis (line)` counts rows from the bottom of the image, as the sections do.
* CC of `Rotation Direction` is taken for an object that turns counterclockwise seen from above; otherwise the image is
  mirrored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import volume_scan
from restore.datasets.ct.detector.counts import line_integrals
from restore.datasets.ct.files.frames import TIFF_SUFFIXES, frames_of
from restore.datasets.ct.files.row_blocks import sliced
from restore.datasets.ct.files.scanner_log import ScannerLog, numbered, read_log
from restore.datasets.ct.parallel_slices import parallel_scan
from restore.datasets.ct.scan import CTScan
from restore.datasets.formats import Format
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import ConeBeam

_PARALLEL_FROM_MM = 1e4
"""Distance of the source from which rays are parallel: the makers' own limit."""
_EDGE = 4  # columns at each side where rays pass the object by
_HALF_A_BIN = 0.5
_SAME = 0.02  # relative: sizes of a pixel that two entries tell
_TURN = 360.0


def read_skyscan(path: str | Path, grid: str = "") -> BeamScan | CTScan:
    """Open the scan of a log; frames are read when asked for. grid: "SHAPE@MM". Raises InputError, ConfigError."""
    given = Path(path)
    log = read_log(_log_of(given) if given.is_dir() else given)
    notes: list[str] = []
    _check(log, notes)
    files = _files(log)
    frames = frames_of(files)
    shape = (log.count("Number of Rows"), log.count("Number of Columns"))
    if frames.shape[1:] != shape:
        raise InputError(
            log.path, f"it tells {shape[0]} x {shape[1]} pixels, and the projections have "
            f"{frames.shape[1]} x {frames.shape[2]}", "keep the log of these projections",
        )  # fmt: skip
    angles = _angles(log, len(frames))
    if len(angles) > 1 and np.isclose(abs(angles[-1] - angles[0]), np.deg2rad(_TURN)):
        notes.append("the last view repeats the first: left out")
        angles, frames = angles[:-1], LazyStack((len(frames) - 1, *shape), frames.load)
    flat = np.full(shape, _light(log, frames, notes))
    lines = line_integrals(frames, flat, None, log.path, False, notes)
    pixel = log.positive("Image Pixel Size (um)") / 1000
    away = log.positive("Object to Source (mm)")
    read = tuple(files) if given == log.path else (log.path, *files)
    _unapplied(log, shape[1], notes)
    notes.append(
        "the axis of rotation is taken to lie in the middle of the projections (--center auto finds it)"
    )
    if away >= _PARALLEL_FROM_MM:
        return parallel_scan(
            given, sliced(lines), angles, (pixel, pixel), "skyscan", notes, grid=grid, files=read
        )
    axis = log.number("Optical Axis (line)", (shape[0] - 1) / 2)
    if not 0 <= axis < shape[0]:
        raise InputError(log.path, f"'Optical Axis (line)' is {axis:g} of {shape[0]} rows")
    try:
        beam = ConeBeam(
            tuple(angles.tolist()), shape, (pixel, pixel), away, away,
            det_offset_mm=(((shape[0] - 1) / 2 - axis) * pixel, 0.0),
        )  # fmt: skip
    except ConfigError as error:
        raise InputError(log.path, f"unusable geometry: {error}") from error
    upright = LazyStack(lines.shape, lambda k: np.ascontiguousarray(lines[k][::-1]))
    return volume_scan(given, upright, beam, "skyscan", notes, grid=grid, files=read)


def _check(log: ScannerLog, notes: list[str]) -> None:
    """Refuse what would be wrong unseen."""
    if log.text("Flat Field Correction").upper() == "OFF":
        raise InputError(
            log.path, "its projections were stored without flat field correction", "correct them, or use a "
            "YAML with flats (docs/scan-files.md)",
        )  # fmt: skip
    if log.text("Partial Width").upper() == "ON":
        raise InputError(
            log.path, "its projections are a part of the detector's width (Partial Width=ON)",
            "say where the axis lies in a YAML (docs/scan-files.md)",
        )  # fmt: skip
    trajectory = log.text("Scanning Trajectory").upper()
    if trajectory not in ("", "ROUND"):
        raise InputError(
            log.path, f"its source moves along a {trajectory.lower()}", "round scans are read"
        )
    if log.number("Number Of Horizontal Offset Positions", 1.0) > 1:
        notes.append("projections of several offset positions are taken as joined already")
    if log.number("Number of connected scans", 1.0) > 1:
        notes.append("one of several connected scans: this part alone is read")
    camera, ratio = (
        log.number("Camera Pixel Size (um)", 0.0),
        log.number("Camera to Source (mm)", 0.0),
    )
    binning = log.text("Camera binning").lower().partition("x")[0] or "1"
    if camera > 0 and ratio > 0 and binning.isdecimal():
        seen = camera * int(binning) * log.positive("Object to Source (mm)") / ratio
        stored = log.positive("Image Pixel Size (um)")
        if abs(seen - stored) > _SAME * stored:
            notes.append(
                f"a pixel of {stored:g} um is stored, the camera's is {seen:.4g} um at the object: the former is taken"
            )


def _unapplied(log: ScannerLog, columns: int, notes: list[str]) -> None:
    """Note what the maker's own reconstruction would correct, of which the sense is not known."""
    rotated = log.number("Image Rotation", 0.0)
    if abs(np.deg2rad(rotated)) * columns / 2 > _HALF_A_BIN:
        notes.append(
            f"frames that lie askew (Image Rotation={rotated:g} degrees) are not turned back"
        )
    shift = log.number("Postalignment", 0.0)
    if abs(shift) > _HALF_A_BIN:
        notes.append(
            f"the shift of the reconstruction beside (Postalignment={shift:g}) is not applied"
        )


def _files(log: ScannerLog) -> list[Path]:
    image_format = log.text("Image Format").upper()
    if image_format not in ("", "TIFF", "TIF"):
        raise InputError(log.path, f"its projections are {image_format}", "save them as TIFF")
    return numbered(
        log.path,
        log.path.parent,
        log.text("Filename Prefix"),
        TIFF_SUFFIXES,
        log.count("Number of Files"),
    )


def _angles(log: ScannerLog, views: int) -> NDArray[np.float64]:
    """Of the source, in radians."""
    step = log.number("Rotation Step (deg)")
    if step == 0:
        raise InputError(log.path, "'Rotation Step (deg)' is 0", "expected the angle between views")
    sense = 1.0 if log.text("Rotation Direction").upper() == "CW" else -1.0
    start = log.number("Scanning Start Angle", 0.0)
    return sense * np.deg2rad(start + step * np.arange(views))


def _light(log: ScannerLog, frames: LazyStack, notes: list[str]) -> float:
    """The grey level of air."""
    stored = log.number("Reference Intensity", 0.0)
    if stored > 0:
        return stored
    first = frames[0]
    air = float(np.median(np.concatenate([first[:, :_EDGE], first[:, -_EDGE:]], 1)))
    if air <= 0:
        raise InputError(
            log.path, "it tells no 'Reference Intensity', and the sides of its views are dark"
        )
    notes.append(f"no 'Reference Intensity': air is taken as {air:g}, as at both sides of view 0")
    return air


def _log_of(folder: Path) -> Path:
    """The one log of a scan in a folder. Raises InputError."""
    found = [p for p in sorted(folder.glob("*.log")) if _is_log(p)]
    if len(found) != 1:
        raise InputError(folder, f"it holds {len(found)} logs of scans", "name the log itself")
    return found[0]


def _is_log(path: Path) -> bool:
    with path.open("rb") as stream:
        return _is_head(stream.read(560))


def _is_head(head: bytes) -> bool:
    lower = head.lower()
    return b"[system]" in lower and b"scanner=" in lower.replace(b" ", b"")


def _claims(content: Content) -> bool:
    if content.is_folder:
        return any(_is_log(p) for p in content.path.glob("*.log") if p.is_file())
    return content.kind == "a text file" and _is_head(content.head)


FORMAT = Format(
    name="SkyScan",
    holds="scan",
    files=".log beside TIFF, its folder",
    ways="cone and parallel projections of Bruker's micro-CT in",
    claims=_claims,
    open=read_skyscan,
    options=("grid",),
    called="a scan of SkyScan",
)
