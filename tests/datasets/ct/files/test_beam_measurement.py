"""Files of CT projections: written, read, reconstructed by the command line, refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.files.beam_measurement import read_beam_measurement, write_beam_measurement
from restore.datasets.open import open_scan
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam
from restore.operators.ct.geometry import MU_WATER_PER_MM, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform

WATER_HU = 60.0  # HU: a coarse cylinder of 24 views; 20 seen

GRID, IMAGE = VoxelGrid((6, 24, 24), (2.0, 1.5, 1.5), (1.0, 0.0, 0.0)), VoxelGrid((24, 24), 1.5)
CONE = ConeBeam(equispaced(24, 360), (12, 32), (2.0, 1.8), 100.0, 150.0, (0.5, -0.4), tilt_deg=2.0)
BEAMS: dict[str, Beam] = {
    "cone": CONE,
    "helical": dataclasses.replace(CONE, pitch_mm=4.0),
    "vectors": FreeBeam(CONE.reduced().vectors, CONE.detector),
    "fan": FanBeam(equispaced(24, 360), 32, 1.8, 100.0, 150.0, detector_shape="equiangular"),
}


def scan_of(name: str) -> BeamScan:
    """A cylinder of water; two slices of it for a fan."""
    beam, grid = BEAMS[name], IMAGE if BEAMS[name].in_plane else GRID
    place = (np.arange(24) - 11.5) * 1.5
    disc = torch.from_numpy(MU_WATER_PER_MM * (np.hypot(place[:, None], place) < 12)).float()
    image = disc.expand(2, 24, 24) if grid.in_plane else disc.expand(6, 24, 24)
    y = XRayTransform(beam, grid)(image).numpy()
    return BeamScan(
        path=Path("simulated"), projections=LazyStack(y.shape, lambda i: y[i]), geometry=beam, grid=grid,
        mu_water=MU_WATER_PER_MM, photons=1e6, noise_std=1e-3, slice_indices=tuple(range(len(image))),
    )  # fmt: skip


@pytest.mark.parametrize("name", BEAMS)
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    scan = scan_of(name)
    write_beam_measurement(scan, tmp_path / "a.h5")
    found = open_scan(tmp_path / "a.h5")
    assert isinstance(found, BeamScan)
    assert (found.geometry, found.grid) == (scan.geometry, scan.grid)
    assert (found.photons, found.mu_water) == (1e6, MU_WATER_PER_MM)
    np.testing.assert_array_equal(found.projections[:], scan.projections[:])


@pytest.mark.parametrize(
    ("name", "sampler"), [("cone", "fdk"), ("helical", "sirt"), ("helical", "fdk"), ("fan", "fbp")]
)
def test_the_command_line_reconstructs(tmp_path: Path, name: str, sampler: str) -> None:
    write_beam_measurement(scan_of(name), tmp_path / "a.h5")
    options = ["--set", "n_steps=25"] if sampler == "sirt" else []
    out = tmp_path / "out.nii"
    done = CliRunner().invoke(
        app, ["recon", str(tmp_path / "a.h5"), "-o", str(out), "--sampler", sampler, *options]
    )
    assert done.exit_code == 0, done.output
    image = nibabel.load(out)
    values = image.get_fdata()
    assert values.shape == ((24, 24, 2) if name == "fan" else (24, 24, 6))
    middle = values[9:15, 9:15, values.shape[2] // 2]
    assert middle.mean() == pytest.approx(0, abs=WATER_HU)
    assert values[1:3, 1:3, values.shape[2] // 2].mean() < -700  # air is -1000
    np.testing.assert_allclose(
        image.header.get_zooms(), GRID.voxel_mm[::-1] if name != "fan" else 1.5
    )


def test_what_cannot_be_rebinned_of_a_helix_is_noted(tmp_path: Path) -> None:
    helix = scan_of("helical")
    short = dataclasses.replace(CONE, angles=CONE.angles[:16], pitch_mm=23.0)
    scan = dataclasses.replace(helix, geometry=short)
    scan.check()
    ends = [note for note in scan.notes if "ends of the helix" in note]
    assert len(ends) == 1
    assert "of 6 slices" in ends[0]
    steep = dataclasses.replace(
        helix, geometry=dataclasses.replace(CONE, pitch_mm=60.0), grid=VoxelGrid((40, 24, 24), 2.0)
    )
    steep.check()
    assert any("too large for rebinning: 12 detector rows" in note for note in steep.notes)
    assert "backprojects" not in steep.abilities


def test_dds_takes_a_volume(tmp_path: Path) -> None:
    """Slices of a cone beam go through the network of images."""
    write_beam_measurement(scan_of("cone"), tmp_path / "a.h5")
    out = tmp_path / "out.nii"
    done = CliRunner().invoke(
        app,
        ["recon", str(tmp_path / "a.h5"), "-o", str(out), "--sampler", "dds", "--set", "n_steps=3"],
    )
    assert done.exit_code == 0, done.output
    assert nibabel.load(out).get_fdata()[9:15, 9:15, 3].mean() == pytest.approx(0, abs=WATER_HU)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "spiral"}, "kind of 'geometry' is 'spiral', expected one of fan, cone"),
        ({"source_object_mm": 5.0}, "source lies inside the volume"),
        ({"det_offset_mm": (0.0, 500.0)}, "no ray meets the volume"),
        ({"shape": (24, 24)}, "expected 2 numbers"),
        ({"source_detector_mm": None}, "unusable geometry.*source_detector_mm"),
        ({"angles_rad": np.arange(0, 360, 15.0)}, "look like degrees"),
        ({"angles_rad": np.arange(23) / 5}, "expected one entry a view"),
    ],
)
def test_files_that_describe_no_scan_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    path = tmp_path / "a.h5"
    write_beam_measurement(scan_of("cone"), path)
    with h5py.File(path, "r+") as file:
        group = file["geometry"]
        for name, value in change.items():
            if name == "angles_rad":
                del group[name]
                group[name] = value
            elif value is None:
                del group.attrs[name]
            else:
                group.attrs[name] = value
    with pytest.raises(InputError, match=words):
        read_beam_measurement(path)


def counted(path: Path, name: str, **changes: np.ndarray | None) -> Path:
    """The scan as uint16 counts of uneven pixels, two flats and a dark; a pixel is dead."""
    scan = scan_of(name)
    write_beam_measurement(scan, path)
    lines = scan.projections[:].astype(np.float64)
    panel = (lines.shape[0], lines.shape[2]) if name == "fan" else lines.shape[1:]
    light = 20_000 + 5_000 * np.random.default_rng(0).random(panel)
    dead = (1, 20)
    dark = np.full(panel, 100.0)
    shown = light[:, None] if name == "fan" else light
    counts = np.rint(shown * np.exp(-lines) + 100)
    (counts[1, :, 20] if name == "fan" else counts[:, 1, 20])[:] = 100
    light[dead] = 0
    with h5py.File(path, "r+") as file:
        del file["projections"], file.attrs["photons"], file.attrs["noise_std"]
        parts = {
            "counts": counts.astype(np.uint16),
            "flat": np.stack([light + 90, light + 110]),
            "dark": dark,
        }
        for key, values in {**parts, **changes}.items():
            if values is not None:
                file[key] = values
    return path


@pytest.mark.parametrize("name", ["fan", "cone"])
def test_counts_become_line_integrals(tmp_path: Path, name: str) -> None:
    found = open_scan(counted(tmp_path / "a.h5", name))
    assert isinstance(found, BeamScan)
    live = np.ones(found.projections.shape[-1], bool)
    live[20] = False
    # Half a count of 10 000, the fewest that are left here: 5e-5, and the rounding of the simulated float32.
    wanted = scan_of(name).projections[:]
    np.testing.assert_allclose(found.projections[:][..., live], wanted[..., live], atol=5e-4)
    of_dead = found.projections[1][:, 20] if name == "fan" else found.projections[5][1, 20]
    beside = wanted[1][:, [19, 21]] if name == "fan" else wanted[5][[1, 1, 0, 2], [19, 21, 20, 20]]
    assert np.abs(np.ravel(of_dead)[0] - np.ravel(beside)).min() < 5e-4
    assert any("1 dead pixel" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flat": None}, "'counts' without 'flat'"),
        ({"flat": np.ones((3, 3))}, r"'flat' has shape \(3, 3\).*expected one frame \(12, 32\)"),
        ({"dark": np.full((12, 32), 6e4)}, "not above 'dark' in 100% of the pixels.*exchanged"),
        ({"projections": np.ones((24, 12, 32), np.float32)}, "'projections' and 'counts'"),
        ({"flat": np.full((12, 32), 3e3)}, "brighter than 'flat'"),
    ],
)
def test_counts_that_cannot_be_used_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_beam_measurement(counted(tmp_path / "a.h5", "cone", **changes)).projections[0]


def test_a_ray_without_counts_is_noted(tmp_path: Path) -> None:
    scan = read_beam_measurement(
        counted(tmp_path / "a.h5", "cone", counts=np.full((24, 12, 32), 99, np.uint16))
    )
    assert np.isfinite(scan.projections[0]).all()
    assert any("taken as half a count" in note for note in scan.notes)
