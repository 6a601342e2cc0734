"""`restore simulate ct --as rtk`: read back as it was, and by RTK itself where it is installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.ct.files.rtk_write import check_beam, write_rtk
from restore.datasets.open import open_scan, write
from restore.datasets.simulate.phantom import ct_phantom
from restore.errors import ConfigError
from restore.operators.ct.beams import ConeBeam

CONE = ("--geometry", "cone", "--views", 12, "--source-object", 500, "--source-detector", 1000,
        "--detector", "10x24@8.0", "--photons", 1e6)  # fmt: skip


@pytest.fixture
def pair(verb, tmp_path: Path) -> tuple[Path, Path]:
    """The same scan in our layout and in RTK's."""
    write(ct_phantom((6, 20, 20)), tmp_path / "ct.nii.gz")
    for name, layout in (("own.h5", ()), ("cone.xml", ("--as", "rtk"))):
        made = verb("simulate", "ct", tmp_path / "ct.nii.gz", "-o", tmp_path / name, *CONE, *layout)
        assert made.exit_code == 0, made.stderr
    return tmp_path / "own.h5", tmp_path / "cone.xml"


def same(one: ConeBeam, other: ConeBeam) -> None:
    """But for degrees of 15 digits."""
    for field in dataclasses.fields(ConeBeam):
        values = [np.asarray(getattr(beam, field.name), float) for beam in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-12, atol=1e-12)


def test_it_is_read_back_as_it_was(pair, verb, tmp_path):
    own, cone = open_scan(pair[0]), open_scan(pair[1], projections=tmp_path / "cone.mha")
    np.testing.assert_array_equal(np.asarray(cone.projections), np.asarray(own.projections))
    same(cone.geometry, own.geometry)
    again = verb(
        "simulate", "ct", tmp_path / "ct.nii.gz", "-o", pair[1], *CONE, "--as", "rtk"
    )  # fmt: skip
    assert "already" in again.stderr


def test_offsets_of_source_and_panel_are_told(pair, tmp_path):
    """The matrix beside the parameters is held against them when it is read."""
    own = open_scan(pair[0])
    beam = dataclasses.replace(own.geometry, det_offset_mm=(3.0, -2.0), source_offset_mm=(0.5, 1.5))
    write_rtk(dataclasses.replace(own, geometry=beam), tmp_path / "moved.xml")
    found = open_scan(tmp_path / "moved.xml", projections=tmp_path / "moved.mha").geometry
    same(found, beam)


def test_rtk_reads_it(pair, tmp_path):
    """Angles, distances and projections (skipped where itk-rtk is not installed)."""
    itk = pytest.importorskip("itk")
    if not hasattr(itk, "RTK"):
        pytest.skip("itk without RTK (pip install itk-rtk)")
    reader = itk.RTK.ThreeDCircularProjectionGeometryXMLFileReader.New()
    reader.SetFilename(str(pair[1]))
    reader.GenerateOutputInformation()
    geometry = reader.GetOutputObject()
    assert len(geometry.GetGantryAngles()) == 12
    assert geometry.GetSourceToDetectorDistances()[0] == 1000
    stack = itk.imread(str(tmp_path / "cone.mha"))
    own = open_scan(pair[0])
    np.testing.assert_array_equal(itk.array_from_image(stack), np.asarray(own.projections))
    assert tuple(stack.GetSpacing())[:2] == (8.0, 8.0)


def test_what_rtks_circle_cannot_say_is_refused(verb, tmp_path):
    write(ct_phantom((2, 16, 16)), tmp_path / "ct.nii.gz")
    for out, words, found in (
        ("a.xml", (), "--as rtk is for --geometry cone"),
        ("a.xml", ("--geometry", "helical", "--detector", "4x8@8.0"), "--as rtk is for --geometry cone"),
        ("a.h5", CONE, "-o NAME.xml"),
    ):  # fmt: skip
        refused = verb(
            "simulate", "ct", tmp_path / "ct.nii.gz", "-o", tmp_path / out, *words, "--as", "rtk"
        )
        assert refused.exit_code == 2
        assert found in " ".join(refused.stderr.replace("│", "").split())
    tilted = ConeBeam((0.0, 1.0), (4, 4), (1.0, 1.0), 100.0, 200.0, tilt_deg=3.0)
    with pytest.raises(ConfigError, match="circles with upright panels"):
        check_beam(tmp_path / "a.xml", tilted)
