"""The beam of a fan or a cone with its axis of rotation where `--center` puts it.

Called by `beam_scan`; reads the projections that it is given.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.rotation_axis.centre import told_centre
from restore.datasets.ct.rotation_axis.centre_choice import AUTO, Told, centred, evenly_spaced
from restore.datasets.ct.rotation_axis.opposite_rays import told_by_opposite_rays
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, ParallelBeam3D
from restore.operators.ct.geometry import ParallelBeam


def beam_about(center: str, beam: Beam, projections: LazyStack, path: Path) -> tuple[Beam, str]:
    """The beam of a scan with the detector offset that `center` says, and what is said of it.

    center: AUTO or a number of mm along the columns of the detector. AUTO takes opposite rays of the slices of a fan
    and of the row in the plane of a cone's source, and what `told_centre` takes of parallel rays. Raises ConfigError
    for a beam without a detector offset, and AUTO of a helix (whose opposite rays lie at other heights) or of a turned
    panel; InputError where the data do not tell it.
    """
    if isinstance(beam, FanBeam):
        fan = beam
        offset, sentence = centred(
            center, beam.det_offset_mm, (beam.det_spacing_mm, beam.n_det), path,
            lambda: [told_by_opposite_rays(projections[i], fan) for i in evenly_spaced(len(projections))],
        )  # fmt: skip
        return dataclasses.replace(beam, det_offset_mm=offset), sentence
    if not isinstance(beam, ConeBeam | ParallelBeam3D):
        raise ConfigError(f"{path}: center is for beams with a det_offset_mm, not for {beam.kind}")
    if center == AUTO and isinstance(beam, ConeBeam):
        _require_level(path, beam)
    v, u = beam.det_offset_mm
    pitch = beam.det_spacing_mm[1]
    offset, sentence = centred(
        center, u, (pitch, beam.detector[1]), path, lambda: [_told(beam, projections, path)]
    )
    return dataclasses.replace(beam, det_offset_mm=(v, offset)), sentence


def _require_level(path: Path, beam: ConeBeam) -> None:
    turned = [n for n in ("pitch_mm", "tilt_deg", "slant_deg", "skew_deg") if getattr(beam, n)]
    turned += ["source_offset_mm"] if any(beam.source_offset_mm) else []
    if turned:
        raise ConfigError(
            f"{path}: center=auto needs opposite rays in the plane of the source, which a scan with "
            f"{', '.join(turned)} does not measure; give det_offset_mm as --center MM"
        )


def _told(beam: ConeBeam | ParallelBeam3D, projections: LazyStack, path: Path) -> Told:
    """What the row in the plane of the source says; of parallel rays the middle row."""
    (rows, columns), (row_mm, column_mm) = beam.detector, beam.det_spacing_mm
    v, u = beam.det_offset_mm
    if isinstance(beam, ParallelBeam3D):
        parallel = ParallelBeam(beam.angles, columns, column_mm, (columns, columns), column_mm, u)
        return told_centre(_row(projections, rows // 2), parallel)
    place = (rows - 1) / 2 - v / row_mm
    if not 0 <= place <= rows - 1:
        raise ConfigError(
            f"{path}: center=auto looks at the row in the plane of the source, which this panel does not see; "
            "give det_offset_mm as --center MM"
        )
    fan = FanBeam(
        beam.angles, columns, column_mm, beam.source_object_mm, beam.source_detector_mm, u
    )
    return told_by_opposite_rays(_row(projections, place), fan)


def _row(projections: LazyStack, place: float) -> NDArray[np.float64]:
    """One row of all views, (views, columns), between two rows where it lies there."""
    lower = min(int(place), projections.shape[1] - 1)
    upper, part = min(lower + 1, projections.shape[1] - 1), place - lower
    views = (projections[k] for k in range(projections.shape[0]))
    return np.stack([(1 - part) * view[lower] + part * view[upper] for view in views]).astype(
        np.float64
    )
