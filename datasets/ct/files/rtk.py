"""Read projections with a geometry of RTK: `restore recon geometry.xml --projections projections.mha`.

May be called by `open.open_scan`; touches the geometry and the projections. A volume file (MetaImage, NIfTI) is a
stack of line integrals with the size and the place of its pixels, as RTK writes it; TIFF files have no place, so that
their middle is the detector's origin.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content, look_at
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import refuse_counts, volume_scan
from restore.datasets.ct.files.frames import TIFF_SUFFIXES, frame_files, frames_of
from restore.datasets.ct.files.rtk_geometry import Panel, beam_of, read_views
from restore.datasets.formats import Format
from restore.datasets.stack import LazyStack
from restore.datasets.volume import metaimage, nifti
from restore.datasets.volume.voxel_file import LPS
from restore.errors import ConfigError, InputError, NotFoundError

_MARK = b"RTKThreeDCircularGeometry"
_VOXELS = (".raw", ".zraw", ".img", ".hdr")
_STRAIGHT = 1e-6  # relative: of directions written with 6 digits or more


def read_rtk(
    path: str | Path,
    projections: Path | str | None = None,
    detector_pixel: float | None = None,
    grid: str = "",
) -> BeamScan:
    """Open a geometry and its projections.

    projections: .mha, .mhd or .nii of line integrals (columns, rows, views), or TIFF files (a file, a folder), which
    need detector_pixel in mm. grid: "SHAPE@MM". Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    if projections is None:
        raise ConfigError(
            f"{path}: a geometry of RTK names no projections; give them with --projections, such as projections.mha"
        )
    notes: list[str] = []
    views = read_views(path)
    where = Path(projections)
    lines, panel = _projections(where, detector_pixel, notes)
    refuse_counts(where, lines, notes)
    if len(lines) != len(views):
        raise InputError(
            path, f"it holds {len(views)} projections, and {where.name} {len(lines)}",
            "give the geometry of these projections, or leave out the views that are missing in both",
        )  # fmt: skip
    beam = beam_of(path, views, panel)
    return volume_scan(path, lines, beam, "rtk", notes, grid=grid, files=_files(where))


def _files(where: Path) -> tuple[Path, ...]:
    """What the projections are read from: a header's voxels lie in a file of its name."""
    if where.is_dir():
        return tuple(frame_files(where))
    parts = where.parent.glob(f"{glob.escape(where.stem)}.*")
    return (where, *sorted(p for p in parts if p != where and p.suffix.lower() in _VOXELS))


def _projections(
    where: Path, detector_pixel: float | None, notes: list[str]
) -> tuple[LazyStack, Panel]:
    if not where.exists():
        raise NotFoundError(f"{where}: no such file or folder of projections")
    if where.is_dir() or where.suffix.lower() in TIFF_SUFFIXES:
        if detector_pixel is None or detector_pixel <= 0:
            raise ConfigError(
                f"{where}: TIFF files tell no pitch of the detector; give --detector-pixel MM"
            )
        frames = frames_of(frame_files(where))
        notes.append("TIFF files tell no place: their middle is taken as the detector's origin")
        panel = Panel((frames.shape[1], frames.shape[2]), (detector_pixel,) * 2, (0.0, 0.0))
        return LazyStack(frames.shape, lambda k: frames[k].astype(np.float32)), panel
    content = look_at(where)
    reader = next((f.open for f in (metaimage.FORMAT, nifti.FORMAT) if f.claims(content)), None)
    if reader is None:
        raise InputError(where, f"{content.kind}, no projections", "give .mha, .mhd, .nii or TIFF")
    volume = reader(where)
    affine = np.diag([*np.diag(LPS), 1.0]) @ volume.affine
    turned = affine[:3, :3] - np.diag(np.diag(affine[:3, :3]))
    pitch = np.diag(affine)[:3]
    if np.abs(turned[:2, :2]).max() > _STRAIGHT * pitch[:2].max() or (pitch[:2] <= 0).any():
        raise InputError(
            where, "its rows and columns do not run along the detector's axes (direction of the image)",
            "write the projections with the identity as direction, as RTK does",
        )  # fmt: skip
    data: NDArray[Any] = volume.data
    views, rows, columns = data.shape
    middle = affine[:2, 3] + (np.array([columns, rows]) - 1) / 2 * pitch[:2]
    panel = Panel(
        (rows, columns), (float(pitch[1]), float(pitch[0])), (float(middle[1]), float(middle[0]))
    )
    return LazyStack((views, rows, columns), lambda k: data[k].astype(np.float32)), panel


def _claims(content: Content) -> bool:
    return _MARK in content.head or b"RTKGEOMETRY" in content.head


FORMAT = Format(
    name="RTK geometry",
    holds="scan",
    files=".xml with .mha, .nii or TIFF",
    ways="cone and parallel projections of RTK in (--projections)",
    claims=_claims,
    open=read_rtk,
    options=("projections", "detector_pixel", "grid"),
    called="a geometry of RTK",
)
