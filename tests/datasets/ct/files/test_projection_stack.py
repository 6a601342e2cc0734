"""Folders of frames with a YAML: written by hand with tifffile, a sphere on a turntable in closed form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ct_spheres import MU, RADIUS, on_a_turntable, seen

from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.errors import InputError, NotFoundError, RestoreError
from restore.operators.ct.orbits import reduced_parallel

SHAPE, PITCH, NEAR, FAR, VIEWS = (10, 24), 2.0, 100.0, 150.0, 12
TURNED = np.arange(VIEWS) * 30.0
COUNTED = 1e-3  # counts near 2e4 rounded to whole ones: 1e-4 seen
EXACT = 1e-6  # float32 of line integrals below 1

CONE = {
    "kind": "cone", "projections": "frames", "arc_deg": 360, "source_turns": "clockwise", "source_object_mm": NEAR,
    "source_detector_mm": FAR, "det_spacing_mm": PITCH,
}  # fmt: skip


def yaml(folder: Path, **changes: object) -> Path:
    """A YAML of the cone with some keys in the place of others, None to leave one out."""
    lines = [f"{k}: {v}" for k, v in (CONE | changes).items() if v is not None]
    (folder / "scan.yaml").write_text("# of a turntable\n" + "\n".join(lines) + "\n")
    return folder / "scan.yaml"


def frames(folder: Path, values: np.ndarray, name: str = "frames") -> None:
    """TIFF files with numbers without leading zeros."""
    (folder / name).mkdir()
    for k, frame in enumerate(values):
        tifffile.imwrite(folder / name / f"view_{k}.tif", frame)


def counts(folder: Path) -> np.ndarray:
    """The turntable as counts with flats and darks; the line integrals."""
    lines = on_a_turntable(TURNED, SHAPE, PITCH, NEAR, FAR)
    light = 20_000 + 4_000 * np.random.default_rng(0).random(SHAPE)
    frames(folder, np.rint(light * np.exp(-lines) + 100).astype(np.uint16))
    frames(folder, np.stack([light + 90, light + 110]).astype(np.float32), "flats")
    frames(folder, np.full((2, *SHAPE), 100, np.uint16), "darks")
    return lines


def test_the_yaml_of_the_documentation(tmp_path: Path) -> None:
    counts(tmp_path)
    page = Path(__file__).parents[4] / "docs" / "scan-files.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "scan.yaml").write_text(block)
    scan = open_scan(tmp_path / "scan.yaml")
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=COUNTED)


def test_counts_of_a_turntable(tmp_path: Path) -> None:
    counts(tmp_path)
    scan = open_scan(yaml(tmp_path, flats="flats", darks="darks", mu_water=0.02, photons=2e4))
    assert isinstance(scan, BeamScan)
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=COUNTED)
    assert (scan.mu_water, scan.noise_std) == (0.02, 2e4**-0.5)
    assert len(scan.files) == VIEWS + 4
    assert scan.grid.shape[0] == SHAPE[0]


@pytest.mark.parametrize("name", ["pages", "raw", "mirrored", "table"])
def test_other_ways_of_storing_frames(tmp_path: Path, name: str) -> None:
    lines = on_a_turntable(TURNED, SHAPE, PITCH, NEAR, FAR).astype(np.float32)
    told: dict[str, object] = {"values": "line_integrals"}
    if name == "pages":
        tifffile.imwrite(tmp_path / "all.tif", lines, photometric="minisblack")
        told["projections"] = "all.tif"
    elif name == "raw":
        for k, frame in enumerate(lines):
            (tmp_path / f"v{k}.raw").write_bytes(b"HEAD" + frame.astype(">f4").tobytes())
        shape = f"[{SHAPE[0]}, {SHAPE[1]}]"
        layout = f"{{shape: {shape}, type: float32, byte_order: big, header_bytes: 4}}"
        told |= {"projections": "v*.raw", "raw": layout}
    elif name == "mirrored":
        frames(tmp_path, lines[:, ::-1, ::-1])
        told |= {"first_row": "bottom", "seen_from": "detector"}
    else:
        frames(tmp_path, np.exp(-lines))
        np.savetxt(tmp_path / "a.txt", np.deg2rad(TURNED), header="angles")
        told = {"values": "transmission", "arc_deg": None}
        told |= {"angles_file": "a.txt", "angles_unit": "radians"}
    scan = open_scan(yaml(tmp_path, **told))
    np.testing.assert_allclose(scan.projections[:], seen(scan.geometry.reduced()), atol=EXACT)


def test_frames_without_a_yaml_are_told_that_they_need_one(tmp_path: Path) -> None:
    frames(tmp_path, np.ones((2, *SHAPE), np.uint16))
    for path in (tmp_path / "frames", tmp_path / "frames" / "view_0.tif"):
        with pytest.raises(InputError, match="need a YAML that says where their rays run"):
            open_scan(path)


def test_vectors_of_every_view(tmp_path: Path) -> None:
    counts(tmp_path)
    cone = open_scan(yaml(tmp_path, flats="flats", darks="darks")).geometry.reduced()
    np.savetxt(tmp_path / "v.txt", cone.vectors)
    free = yaml(tmp_path, kind="vectors", vectors_file="v.txt", flats="flats", darks="darks", arc_deg=None,
                source_object_mm=None, source_detector_mm=None, det_spacing_mm=None)  # fmt: skip
    scan = open_scan(free)
    np.testing.assert_allclose(scan.geometry.reduced().vectors, cone.vectors)


def test_parallel_rows_are_slices(tmp_path: Path) -> None:
    """Rays from a source far away: each row of the detector is a slice, and a grid may be told."""
    far = 1e7
    frames(tmp_path, on_a_turntable(TURNED / 2, SHAPE, PITCH, far, far))
    scan = open_scan(
        yaml(tmp_path, kind="parallel", arc_deg=180, values="line_integrals", shape="[20, 30]", voxel_mm=1.5,
             source_object_mm=None, source_detector_mm=None)
    )  # fmt: skip
    assert isinstance(scan, CTScan)
    assert (scan.shape, scan.image_shape) == ((SHAPE[0], VIEWS, SHAPE[1]), (20, 30))
    views = reduced_parallel(scan.geometry)
    middle = (SHAPE[0] - 1) / 2
    # Slice k lies (k - middle) pitch above the axis' middle, row 0 of `seen` at z = 0: the sphere's disc there.
    for k in (4, 6):
        u = np.arange(SHAPE[1]) - (SHAPE[1] - 1) / 2
        away = (
            u * PITCH
            - (2 * np.cos(scan.geometry.angles) + 3 * np.sin(scan.geometry.angles))[:, None]
        )
        disc = RADIUS**2 - ((k - middle) * PITCH - 1) ** 2
        wanted = 2 * MU * np.sqrt(np.maximum(disc - away**2, 0))
        np.testing.assert_allclose(
            scan.sinogram[k], wanted, atol=2e-4
        )  # the source's distance: 1e-5 seen
    assert len(views) == VIEWS


def test_one_row_is_a_fan_and_many_with_a_note(tmp_path: Path) -> None:
    frames(tmp_path, on_a_turntable(TURNED, (1, SHAPE[1]), PITCH, NEAR, FAR))
    scan = open_scan(yaml(tmp_path, kind="fan", values="line_integrals"))
    assert scan.shape == (1, VIEWS, SHAPE[1])
    np.testing.assert_allclose(scan.projections[0], seen(scan.geometry.reduced())[:, 0], atol=EXACT)
    assert len(scan.grid.shape) == 2
    (tmp_path / "more").mkdir()
    frames(tmp_path / "more", on_a_turntable(TURNED, SHAPE, PITCH, NEAR, FAR))
    notes = open_scan(yaml(tmp_path / "more", kind="fan", values="line_integrals")).notes
    assert any("a fan in a plane of its own" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flats": None}, "'values' is ''"),
        ({"values": "counts", "flats": None}, "'counts' without the light"),
        ({"values": "line_integrals", "flats": None, "darks": None}, "seem to be intensities"),
        ({"arc_deg": None}, "tells the angles 0 times"),
        ({"angles_deg": "[0, 30]"}, "tells the angles 2 times"),
        ({"arc_deg": None, "angles_deg": "[0, 30]"}, "tells 2 angles, and there are 12 projections"),
        ({"arc_deg": None, "angles_rad": str(TURNED.tolist())}, "look like degrees"),
        ({"projections": "nowhere"}, "no files of frames"),
        ({"projections": "x" * 300}, "no name that a file can have"),
        ({"projections": None}, "names no 'projections'|no scan|not a scan"),
        ({"source_objekt_mm": 3}, "'source_objekt_mm' is no key"),
        ({"kind": "spiral"}, "'kind' is 'spiral'"),
        ({"det_spacing_mm": "wide"}, "'det_spacing_mm' is 'wide'"),
        ({"source_object_mm": 400}, "the detector lies before the axis"),
        ({"det_offset_mm": "[0, 900]"}, "source lies inside the volume"),
        ({"kind": "helical"}, "without 'pitch_mm'"),
        ({"shape": "[4, 8, 8]"}, "go together"),
        ({"raw": "{type: uint16}"}, "'shape' of 'raw'"),
        ({"first_deg": 3, "arc_deg": None, "angles_deg": "[1]"}, "'first_deg' without 'arc_deg'"),
        ({"flat_level": 9}, "'flats' and 'flat_level'"),
        ({"values": "transmission"}, "'transmission' and flats or darks"),
        ({"kind": "parallel"}, "'source_object_mm' means nothing for the kind 'parallel'"),
        ({"arc_deg": 6.2832}, "in degrees span 6.283, a turn in radians"),
        ({"mu_water": -1}, "'mu_water' is -1"),
    ],
)  # fmt: skip
def test_what_a_yaml_leaves_open_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    counts(tmp_path)
    with pytest.raises(RestoreError, match=words):
        open_scan(yaml(tmp_path, **({"flats": "flats", "darks": "darks"} | changes)))


def test_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    counts(tmp_path)
    path = yaml(tmp_path, flats="flats", darks="darks")
    file = tmp_path / "frames" / "view_10.tif"
    for values, words in (
        (np.ones((9, 24), np.uint16), "9 x 24, those of view_0.tif 10 x 24"),
        (np.ones((10, 24, 3), np.uint8), "3 channels"),
    ):
        tifffile.imwrite(file, values)
        with pytest.raises(InputError, match=words):
            open_scan(path)
    tifffile.imwrite(file, np.ones(SHAPE, np.uint16), photometric="miniswhite")
    with pytest.raises(InputError, match="photometric interpretation is 0"):
        open_scan(path)
    tifffile.imwrite(file, np.ones((3, *SHAPE), np.float32), imagej=True, truncate=True)
    with pytest.raises(InputError, match="one header for 3 frames"):
        open_scan(path)
    file.write_bytes(b"II*\0 cut")
    with pytest.raises(InputError, match="damaged or unusual TIFF"):
        open_scan(path)
    file.unlink()
    with pytest.raises(InputError, match="12 angles, and there are 11 projections"):
        open_scan(yaml(tmp_path, flats="flats", arc_deg=None, angles_deg=str(TURNED.tolist())))
    tifffile.imwrite(tmp_path / "flats" / "view_1.tif", np.ones((3, 3)))
    with pytest.raises((InputError, NotFoundError), match="3 x 3"):
        open_scan(path)
