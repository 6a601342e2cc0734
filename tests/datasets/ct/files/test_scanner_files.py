"""Scans of Nikon and SkyScan: the vendors' layouts by hand, a sphere on a turntable in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from ct_spheres import on_a_turntable, seen

from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.errors import InputError

SHAPE, NEAR, FAR, PITCH, VIEWS = (11, 24), 100.0, 150.0, 2.0, 10
COUNTED = 1e-3  # grey values near 6e4 rounded to whole ones: 3e-5 seen
WHITE = 60_000

NIKON = {
    "Name": "ball", "SrcToObject": NEAR, "SrcToDetector": FAR, "DetectorPixelsX": SHAPE[1],
    "DetectorPixelsY": SHAPE[0], "DetectorPixelSizeX": PITCH, "DetectorPixelSizeY": PITCH, "DetectorOffsetX": 0,
    "Units": "mm", "Projections": VIEWS, "InitialAngle": 20, "AngularStep": 36, "ObjectOffsetX": 0.7,
    "CentreOfRotationTop": 0, "CentreOfRotationBottom": 0, "WhiteLevel": WHITE,
}  # fmt: skip
SKYSCAN = {
    "Filename Prefix": "ball_", "Number Of Files": VIEWS, "Number Of Rows": SHAPE[0], "Number Of Columns": SHAPE[1],
    "Optical Axis (line)": 4, "Object to Source (mm)": NEAR, "Camera to Source (mm)": FAR,
    "Image Pixel Size (um)": 1000 * PITCH * NEAR / FAR, "Image Format": "TIFF", "Depth (bits)": 16,
    "Reference Intensity": WHITE, "Rotation Step (deg)": 36.0, "Use 360 Rotation": "YES",
    "Flat Field Correction": "ON", "Rotation Direction": "CC", "Scanning Trajectory": "ROUND",
}  # fmt: skip


def stored(lines: np.ndarray, folder: Path, name: str, digits: int) -> None:
    for k, frame in enumerate(lines):
        grey = np.rint(WHITE * np.exp(-frame)).astype(np.uint16)
        tifffile.imwrite(folder / f"{name}{k:0{digits}d}.tif", grey)


def nikon(folder: Path, **changes: object) -> Path:
    """A scan whose camera looks at the source; the object turns so that the source goes round counterclockwise."""
    turned = -(20 + 36.0 * np.arange(VIEWS) - 180)
    lines = on_a_turntable(turned, SHAPE, PITCH, NEAR, FAR, axis_at_mm=-0.7)[:, :, ::-1]
    stored(lines, folder, "ball_", 4)
    said = "\n".join(f"{k}={v}" for k, v in (NIKON | changes).items() if v is not None)
    (folder / "ball.xtekct").write_text(f"[XTekCT]\n{said}\n[Xrays]\nXraykV=80\n")
    return folder / "ball.xtekct"


def skyscan(folder: Path, **changes: object) -> Path:
    """A scan whose optical axis meets line 4 from the bottom."""
    turned = 36.0 * np.arange(VIEWS)
    lines = on_a_turntable(turned, SHAPE, PITCH, NEAR, FAR, up_mm=((SHAPE[0] - 1) / 2 - 4) * PITCH)
    stored(lines, folder, "ball_", 8)
    values = SKYSCAN | {k.replace("_", " "): v for k, v in changes.items()}
    said = "\n".join(f"{k}= {v}" for k, v in values.items() if v is not None)
    system = "[System]\nScanner=SkyScan1275\nCamera Pixel Size (um)=2000.0\n"
    (folder / "ball.log").write_text(
        f"{system}[Acquisition]\n{said}\n[Reconstruction]\nPostalignment=3\n"
    )
    return folder / "ball.log"


def test_nikon(tmp_path: Path) -> None:
    scan = open_scan(nikon(tmp_path))
    assert isinstance(scan, BeamScan)
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=COUNTED)
    assert len(scan.files) == VIEWS


def test_nikon_measured_angles_and_floats(tmp_path: Path) -> None:
    """The angles of a table in the other sense and from another start; frames as raw floats."""
    path = nikon(tmp_path)
    for file in tmp_path.glob("*.tif"):
        file.with_suffix(".float").write_bytes(tifffile.imread(file).astype("<f4").tobytes())
        file.unlink()
    rows = "\n".join(f"{k + 1}\t{(300 - 36.0 * k) % 360:.3f}\t1.5" for k in range(VIEWS))
    (tmp_path / "_ctdata.txt").write_text(
        f"Projs\tFrames\n10\t1\nProjection\tAngle(deg)\tTime(s)\n{rows}\n"
    )
    scan = open_scan(path)
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=COUNTED)
    assert scan.files[-1].name == "_ctdata.txt"


@pytest.mark.parametrize("named", ["log", "folder"])
def test_skyscan(tmp_path: Path, named: str) -> None:
    path = skyscan(tmp_path)
    scan = open_scan(path if named == "log" else tmp_path)
    assert isinstance(scan, BeamScan)
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=COUNTED)
    notes = " ".join(scan.notes)
    for words in ("axis of rotation is taken", "Postalignment=3) is not applied"):
        assert words in notes


def test_skyscan_far_away_and_over_a_whole_turn(tmp_path: Path) -> None:
    changes = {
        "Object to Source (mm)": 1e5, "Camera to Source (mm)": None, "Reference Intensity": None,
        "Rotation Step (deg)": 40.0, "Image Pixel Size (um)": 5.0,
    }  # fmt: skip
    scan = open_scan(skyscan(tmp_path, **changes))
    assert isinstance(scan, CTScan)
    assert scan.shape == (SHAPE[0], VIEWS - 1, SHAPE[1])
    assert scan.geometry.det_spacing_mm == pytest.approx(0.005)
    notes = " ".join(scan.notes)
    for words in ("repeats the first", "air is taken as 60000"):
        assert words in notes


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (nikon, {"Projections": 12}, "tells 12 projections, and there are 10, without the numbers 10, 11"),
        (nikon, {"DetectorPixelsX": 30}, "tells 11 x 30 pixels, and the projections have 11 x 24"),
        (nikon, {"SrcToObject": None}, "tells no 'SrcToObject'"),
        (nikon, {"WhiteLevel": 0}, "'WhiteLevel' is 0"),
        (nikon, {"AngularStep": 0}, "'AngularStep' is 0"),
        (nikon, {"Units": "inch"}, "lengths are in inch"),
        (nikon, {"ObjectTilt": 0.3}, "leans along the beam"),
        (nikon, {"SrcToDetector": 50}, "the detector lies before the axis"),
        (nikon, {"InputFolderName": "raw"}, "no folder here"),
        (nikon, {"WhiteLevel": 20_000}, "brighter than"),
        (skyscan, {"Number Of Files": 9}, "tells 9 projections, and there are 10"),
        (skyscan, {"Number Of Rows": 12}, "tells 12 x 24 pixels"),
        (skyscan, {"Flat Field Correction": "OFF"}, "without flat field"),
        (skyscan, {"Partial Width": "ON"}, "a part of the detector"),
        (skyscan, {"Scanning Trajectory": "SPIRAL"}, "moves along a spiral"),
        (skyscan, {"Rotation Step (deg)": "slow"}, "'Rotation Step \\(deg\\)' is 'slow'"),
        (skyscan, {"Image Format": "BMP"}, "projections are BMP"),
        (skyscan, {"Optical Axis (line)": 40}, "is 40 of 11 rows"),
        (skyscan, {"Filename Prefix": "other"}, "no projections 'otherNUMBER'"),
    ],
)  # fmt: skip
def test_scans_that_do_not_fit_are_refused(tmp_path: Path, make, changes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_scan(make(tmp_path, **changes)).projections[0]


def test_a_table_of_other_angles(tmp_path: Path) -> None:
    path = nikon(tmp_path)
    table = tmp_path / "ball.ang"
    table.write_text("Proj\tAngle(deg)\n" + "".join(f"{k}\t{36 * k}\n" for k in range(9)))
    with pytest.raises(InputError, match="holds 9 angles, and there are 10 projections"):
        open_scan(path)
    table.write_text("Proj\tAngle(deg)\n" + "".join(f"{k}\t{30 * k}\n" for k in range(10)))
    assert any("beside even steps: taken as measured" in note for note in open_scan(path).notes)
