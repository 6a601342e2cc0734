"""Write a circular cone or parallel scan for RTK: its geometry (XML) and the projections beside it (.mha).

Called by the simulation verb; touches the two files of a name. What RTK's numbers mean: `rtk_geometry`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from restore.datasets.atomic import atomic_file
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.files.rtk_geometry import NAMES, ROOT, matrix_of
from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, ParallelBeam3D

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE RTKGEOMETRY>\n'


def rtk_files(path: Path) -> tuple[Path, Path]:
    """The geometry, and the projections that lie beside it under its name."""
    return path, path.with_suffix(".mha")


def check_beam(path: Path, beam: Beam) -> ConeBeam | ParallelBeam3D:
    """The beam, if RTK's circle can say it. Raises ConfigError."""
    if path.suffix.lower() != ".xml":
        raise ConfigError(f"{path}: a geometry of RTK is -o NAME.xml, its projections NAME.mha")
    turned = isinstance(beam, ConeBeam) and any(
        getattr(beam, name) for name in ("tilt_deg", "slant_deg", "skew_deg", "pitch_mm")
    )
    if not isinstance(beam, ConeBeam | ParallelBeam3D) or turned:
        raise ConfigError(
            f"{path}: RTK's geometry is written of circles with upright panels, this is {beam}"
        )
    return beam


def write_rtk(scan: BeamScan, path: str | Path) -> None:
    """Write NAME.xml and NAME.mha, float32 line integrals (columns, rows, views). Raises ConfigError, OutputError."""
    geometry, projections = rtk_files(Path(path))
    beam = check_beam(geometry, scan.geometry)
    views = [_view(beam, angle) for angle in beam.angles]
    lines = [HEAD + f'<{ROOT} version="3">']
    for view in views:
        told = "\n".join(
            f"    <{n}>{view[n]:.15g}</{n}>" for n in NAMES if view[n] or n == "GantryAngle"
        )
        matrix = "\n".join(
            "      " + " ".join(f"{value:.15g}" for value in row) for row in matrix_of(view)
        )
        lines.append(
            f"  <Projection>\n{told}\n    <Matrix>\n{matrix}\n    </Matrix>\n  </Projection>"
        )
    rows, columns = beam.detector
    v, u = beam.det_spacing_mm
    head = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False,
        "CompressedData": False, "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": f"{-(columns - 1) / 2 * u:.15g} {-(rows - 1) / 2 * v:.15g} 0", "CenterOfRotation": "0 0 0",
        "ElementSpacing": f"{u:.15g} {v:.15g} 1", "DimSize": f"{columns} {rows} {len(views)}",
        "ElementType": "MET_FLOAT", "ElementDataFile": "LOCAL",
    }  # fmt: skip
    size = 4 * math.prod(scan.projections.shape)
    with (
        atomic_file(projections, expected_bytes=size) as values,
        atomic_file(geometry) as text,
    ):
        text.write_text("\n".join([*lines, f"</{ROOT}>", ""]), encoding="ascii")
        with values.open("wb") as stream:
            stream.write("".join(f"{k} = {v}\n" for k, v in head.items()).encode("ascii"))
            for index in range(len(views)):
                stream.write(np.asarray(scan.projections[index], "<f4").tobytes())


def _view(beam: ConeBeam | ParallelBeam3D, angle: float) -> dict[str, float]:
    """RTK's parameters of a projection, mm and degrees."""
    view = dict.fromkeys(NAMES, 0.0)
    view["GantryAngle"] = math.degrees(angle)
    view["ProjectionOffsetY"], view["ProjectionOffsetX"] = beam.det_offset_mm
    if isinstance(beam, ConeBeam):
        view["SourceToIsocenterDistance"] = beam.source_object_mm
        view["SourceToDetectorDistance"] = beam.source_detector_mm
        view["SourceOffsetY"], view["SourceOffsetX"] = beam.source_offset_mm
    return view
