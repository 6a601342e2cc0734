"""Geometries of RTK: its own projection of a sphere is ours, on a circle and with tilts and offsets of every view."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ct_spheres import seen

from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.open import open_scan
from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.ct.beams import ConeBeam, FreeBeam
from restore.operators.ct.x_ray_transform import XRayTransform

DATA = Path(__file__).parents[3] / "data"
ROUNDED = 1e-6  # of line integrals up to 0.36, stored in single precision: 1.5e-8 seen


@pytest.mark.parametrize(("name", "kind"), [("circle", ConeBeam), ("free", FreeBeam)])
def test_a_sphere_is_seen_as_rtk_sees_it(name: str, kind: type) -> None:
    scan = open_scan(DATA / f"rtk_{name}.xml", projections=DATA / f"rtk_{name}.mha")
    assert isinstance(scan, BeamScan)
    assert isinstance(scan.geometry, kind)
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=ROUNDED)
    assert scan.files == (DATA / f"rtk_{name}.mha",)


def test_the_volume_that_is_seen_is_the_default() -> None:
    given = {"projections": DATA / "rtk_circle.mha"}
    scan = open_scan(DATA / "rtk_circle.xml", **given)
    assert isinstance(XRayTransform(scan.geometry, scan.grid), XRayTransform)
    assert any("--grid for others" in note for note in scan.notes)
    asked = open_scan(DATA / "rtk_circle.xml", grid="8x10x10@2.5", **given)
    assert (asked.grid.shape, asked.grid.voxel_mm) == ((8, 10, 10), (2.5, 2.5, 2.5))


def test_voxels_beside_a_header_count(tmp_path: Path) -> None:
    stored = (DATA / "rtk_circle.mha").read_bytes()
    head, _, voxels = stored.partition(b"LOCAL\n")
    (tmp_path / "p.mhd").write_bytes(head + b"p.zraw\n")
    (tmp_path / "p.zraw").write_bytes(voxels)
    scan = open_scan(DATA / "rtk_circle.xml", projections=tmp_path / "p.mhd")
    assert [p.name for p in scan.files] == ["p.mhd", "p.zraw"]


def test_frames_without_a_place(tmp_path: Path) -> None:
    """TIFF files of the pitch that is told, about the detector's origin: here it is not where the middle was."""
    stored = open_scan(DATA / "rtk_circle.xml", projections=DATA / "rtk_circle.mha")
    for k, view in enumerate(stored.projections):
        tifffile.imwrite(tmp_path / f"p{k}.tif", view)
    with pytest.raises(ConfigError, match="--detector-pixel"):
        open_scan(DATA / "rtk_circle.xml", projections=tmp_path)
    scan = open_scan(DATA / "rtk_circle.xml", projections=tmp_path, detector_pixel=3.0)
    np.testing.assert_array_equal(scan.projections[:], stored.projections[:])
    assert scan.geometry.det_offset_mm == (-2.0, 3.0)
    assert any("middle is taken" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("<GantryAngle>5<", "<GantryAngle>six<"), "'GantryAngle' of projection 0 is 'six'"),
        (("<GantryAngle>65<", "<GantryAngle>66<"), "matrix of projection 1 is not that"),
        (("<Matrix>", "<Matrix>7 "), "matrix of projection 0 is not 3 x 4"),
        (
            ("<SourceOffsetX>", "<RadiusCylindricalDetector>150</RadiusCylindricalDetector><SourceOffsetX>"),
            "cylindrical detector",
        ),
        (("<SourceOffsetX>", "<CollimationUInf>3</CollimationUInf><SourceOffsetX>"), "jaws"),
        (("</RTKThreeDCircularGeometry>", ""), "damaged XML"),
        (("<!DOCTYPE RTKGEOMETRY>", "<!DOCTYPE RTKGEOMETRY [<!ENTITY a 'b'>]>"), "entities of its own"),
    ],
)  # fmt: skip
def test_geometries_that_are_none_are_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    text = (DATA / "rtk_circle.xml").read_text()
    assert change[0] in text
    (tmp_path / "a.xml").write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=words):
        open_scan(tmp_path / "a.xml", projections=DATA / "rtk_circle.mha")


def test_projections_of_another_scan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give them with --projections"):
        open_scan(DATA / "rtk_circle.xml")
    with pytest.raises(NotFoundError, match="no such file"):
        open_scan(DATA / "rtk_circle.xml", projections=tmp_path / "none.mha")
    text = (DATA / "rtk_circle.xml").read_text()
    (tmp_path / "a.xml").write_text(
        text[: text.rindex("<Projection>")] + "</RTKThreeDCircularGeometry>"
    )
    with pytest.raises(InputError, match=r"holds 5 projections, and rtk_circle\.mha 6"):
        open_scan(tmp_path / "a.xml", projections=DATA / "rtk_circle.mha")
    turned = (
        (DATA / "rtk_circle.mha").read_bytes().replace(b"1 0 0 0 1 0 0 0 1", b"0 1 0 1 0 0 0 0 1")
    )
    (tmp_path / "t.mha").write_bytes(turned)
    with pytest.raises(InputError, match="do not run along the detector"):
        open_scan(DATA / "rtk_circle.xml", projections=tmp_path / "t.mha")
    shutil.copy(DATA / "rtk_circle.xml", tmp_path / "p.mha")
    with pytest.raises(InputError, match="no projections"):
        open_scan(DATA / "rtk_circle.xml", projections=tmp_path / "p.mha")
