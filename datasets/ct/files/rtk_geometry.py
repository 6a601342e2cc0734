"""The geometry file of RTK (ThreeDCircularGeometry, XML) as one of ours.

Called by `rtk`; reads the one file. Rit et al.: "The Reconstruction Toolkit (RTK)", J. Phys. Conf. Ser. 489, 2014.
RTK's world (X, Y, Z) turns about Y; with x = X, y = -Z and z = Y a gantry angle is our angle of a view, source and
panel included (its documentation, "3D circular projection geometry"). Lengths are mm, angles degrees.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import DOWNLOAD_AGAIN
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import Beam, ConeBeam, FreeBeam, ParallelBeam3D

ROOT = "RTKThreeDCircularGeometry"
NAMES = (
    "SourceToIsocenterDistance", "SourceToDetectorDistance", "SourceOffsetX", "SourceOffsetY", "ProjectionOffsetX",
    "ProjectionOffsetY", "InPlaneAngle", "OutOfPlaneAngle", "GantryAngle", "RadiusCylindricalDetector",
)  # fmt: skip
_COLLIMATION = "Collimation"
_LARGEST_BYTES = 1 << 26
_SAME = 1e-9  # relative: numbers are written with 15 digits
_MATRIX = 1e-4  # of the largest entry: matrices are written with as few as 6 digits
_TO_OURS = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


@dataclasses.dataclass(frozen=True)
class Panel:
    """Pixels of a projection: shape (rows, columns), pitch_mm (row, column), and where its middle lies (v, u) in mm."""

    shape: tuple[int, int]
    pitch_mm: tuple[float, float]
    middle_mm: tuple[float, float]


def read_views(path: Path) -> list[dict[str, float]]:
    """The nine parameters of every projection by their names. Raises InputError."""
    root = _parsed(path)
    common = _parameters(path, root, "the file")
    views = []
    for number, element in enumerate(root.iter("Projection")):
        view = (
            dict.fromkeys(NAMES, 0.0) | common | _parameters(path, element, f"projection {number}")
        )
        _check_matrix(path, element, view, number)
        views.append(view)
    if not views:
        raise InputError(path, "a geometry of RTK without projections", DOWNLOAD_AGAIN)
    if any(view["RadiusCylindricalDetector"] for view in views):
        raise InputError(
            path, "a cylindrical detector (RadiusCylindricalDetector)",
            "only flat ones are read: a curved one is not the flat one of the same numbers",
        )  # fmt: skip
    return views


def beam_of(path: Path, views: list[dict[str, float]], panel: Panel) -> Beam:
    """A circle where all views share their distances and offsets, else free vectors. Raises InputError."""
    table = {name: np.array([view[name] for view in views]) for name in NAMES}
    parallel = table["SourceToDetectorDistance"] == 0
    if parallel.any() and not parallel.all():
        raise InputError(path, "some of its views are parallel and some are not", "split them")
    shared = all(
        np.ptp(table[name]) <= _SAME * max(1.0, float(np.abs(table[name]).max()))
        for name in NAMES
        if name != "GantryAngle"
    )
    upright = not (table["InPlaneAngle"].any() or table["OutOfPlaneAngle"].any())
    try:
        if shared and upright:
            return _circle(views[0], table["GantryAngle"], panel, bool(parallel[0]))
        return _free(views, panel, bool(parallel[0]))
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}") from error


def _circle(
    view: dict[str, float], gantry_deg: NDArray[np.float64], panel: Panel, parallel: bool
) -> Beam:
    angles = tuple(np.deg2rad(gantry_deg).tolist())
    offset = (
        view["ProjectionOffsetY"] + panel.middle_mm[0],
        view["ProjectionOffsetX"] + panel.middle_mm[1],
    )
    if parallel:
        return ParallelBeam3D(angles, panel.shape, panel.pitch_mm, offset)
    return ConeBeam(
        angles, panel.shape, panel.pitch_mm, view["SourceToIsocenterDistance"], view["SourceToDetectorDistance"],
        det_offset_mm=offset, source_offset_mm=(view["SourceOffsetY"], view["SourceOffsetX"]),
    )  # fmt: skip


def _free(views: list[dict[str, float]], panel: Panel, parallel: bool) -> Beam:
    vectors = []
    for view in views:
        turn = _TO_OURS @ _rotation(view).T  # from RTK's turned coordinates to ours
        source = (view["SourceOffsetX"], view["SourceOffsetY"], view["SourceToIsocenterDistance"])
        u, v = turn[:, 0] * panel.pitch_mm[1], turn[:, 1] * panel.pitch_mm[0]
        across = view["ProjectionOffsetX"] + panel.middle_mm[1]
        up = view["ProjectionOffsetY"] + panel.middle_mm[0]
        depth = view["SourceToIsocenterDistance"] - view["SourceToDetectorDistance"]
        middle = turn @ (across, up, 0.0 if parallel else depth)
        start = -turn[:, 2] if parallel else turn @ source
        vectors.append((*start, *middle, *u, *v))
    return FreeBeam(tuple(vectors), panel.shape, parallel=parallel)


def _rotation(view: dict[str, float]) -> NDArray[np.float64]:
    """From RTK's world to the coordinates turned with the detector."""
    i, o, g = (np.deg2rad(-view[n]) for n in ("InPlaneAngle", "OutOfPlaneAngle", "GantryAngle"))
    about_z = np.array([[np.cos(i), -np.sin(i), 0], [np.sin(i), np.cos(i), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(o), -np.sin(o)], [0, np.sin(o), np.cos(o)]])
    about_y = np.array([[np.cos(g), 0, np.sin(g)], [0, 1, 0], [-np.sin(g), 0, np.cos(g)]])
    return about_z @ about_x @ about_y


def matrix_of(view: dict[str, float]) -> NDArray[np.float64]:
    """What RTK projects a point (X, Y, Z, 1) with, (3, 4), of the parameters of a view."""
    sox, soy, far = (
        view[n] for n in ("SourceOffsetX", "SourceOffsetY", "SourceToDetectorDistance")
    )
    shift = np.eye(3)
    shift[:2, 2] = sox - view["ProjectionOffsetX"], soy - view["ProjectionOffsetY"]
    project = np.zeros((3, 4))
    project[0, 0] = project[1, 1] = -far
    project[2, 2], project[2, 3] = 1, -view["SourceToIsocenterDistance"]
    if not far:
        project[0, 0] = project[1, 1] = project[2, 3] = 1
        project[2, 2] = 0
    source = np.eye(4)
    source[:2, 3] = -sox, -soy
    turn = np.eye(4)
    turn[:3, :3] = _rotation(view)
    return np.asarray(shift @ project @ source @ turn)


def _check_matrix(path: Path, element: ET.Element, view: dict[str, float], number: int) -> None:
    """Refuse a matrix that contradicts the parameters: one of the two was changed by hand."""
    text = element.findtext("Matrix")
    if text is None or not view["SourceToDetectorDistance"]:
        return
    try:
        stored = np.array([float(word) for word in text.split()]).reshape(3, 4)
    except ValueError as cause:
        raise InputError(path, f"the matrix of projection {number} is not 3 x 4 numbers") from cause
    made = matrix_of(view)
    if not np.abs(made - stored).max() <= _MATRIX * np.abs(made).max():
        raise InputError(
            path, f"the matrix of projection {number} is not that of its angles and distances",
            "one of the two was changed: write the geometry with RTK again",
        )  # fmt: skip


def _parsed(path: Path) -> ET.Element:
    if path.stat().st_size > _LARGEST_BYTES:
        raise InputError(path, f"too large for a geometry: {path.stat().st_size} bytes")
    content = path.read_bytes()
    if b"<!ENTITY" in content:
        raise InputError(path, "an XML file with entities of its own", "write them out")
    try:
        root = ET.fromstring(content)  # noqa: S314  (no entities: nothing outside is read, nothing grows)
    except (ET.ParseError, ValueError, LookupError) as cause:
        raise InputError(path, f"damaged XML ({cause})", DOWNLOAD_AGAIN) from cause
    if root.tag != ROOT:
        raise InputError(path, f"its outermost element is '{root.tag}'", f"expected {ROOT}")
    return root


def _parameters(path: Path, element: ET.Element, where: str) -> dict[str, float]:
    """Its own parameters, not those of elements inside."""
    found = {}
    for child in element:
        if child.tag.startswith(_COLLIMATION):
            raise InputError(
                path, f"{where} tells jaws ({child.tag}), behind which nothing was measured", "crop the projections"
            )  # fmt: skip
        if child.tag not in NAMES:
            continue
        try:
            value = float(child.text or "")
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise InputError(
                path, f"'{child.tag}' of {where} is {child.text!r}", "expected a number"
            )
        found[child.tag] = value
    return found
