"""Simulated fans, cones and helices: exact line integrals, counts, and the commands of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.open import open_scan, write
from restore.datasets.simulate.ct_beams import BeamSettings, simulate_beams
from restore.datasets.simulate.phantom import ct_phantom
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.operators.ct.geometry import MU_WATER_PER_MM
from restore.operators.ct.x_ray_transform import XRayTransform

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scan-files.md"
QUIET = 1e12  # photons: noise of 1e-6
THROUGH = 0.02  # of 20 mm of water: bins of 1 mm average the chord; 0.6 % seen on a coarser grid


def slab() -> Volume:
    """Water 20 mm deep along y between air, (6, 16, 16) voxels of 2 mm."""
    hu = np.full((6, 16, 16), -1000.0)
    hu[:, 3:13, 2:14] = 0
    return Volume(hu.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), "CT", "HU")


SCANS = {
    "fan": BeamSettings("fan", "24@2.0", 4, photons=QUIET, source_object=2e3, source_detector=3e3),
    "cone": BeamSettings("cone", "8x24@2.0", 4, photons=QUIET, source_object=2e3, source_detector=3e3),
    "helical": BeamSettings("helical", "8x24@2.0", 4, pitch=2.0, photons=QUIET, source_object=2e3, source_detector=3e3),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCANS)
def test_the_middle_of_the_first_view_looks_through_the_slab(kind: str) -> None:
    scan = simulate_beams(slab(), SCANS[kind])
    middle = scan.projections[0][0, 11:13] if kind == "fan" else scan.projections[0][3:5, 11:13]
    assert middle == pytest.approx(20 * MU_WATER_PER_MM, rel=THROUGH)
    assert scan.projections.shape == ((6, 4, 24) if kind == "fan" else (4, 8, 24))
    assert scan.reference is not None
    np.testing.assert_array_equal(scan.reference[:], slab().data)


@pytest.mark.parametrize("kind", SCANS)
def test_it_agrees_with_the_projector_but_is_not_it(kind: str) -> None:
    """From a finer grid: close to the model of the reconstruction (also which way is up), not equal to it."""
    import torch

    hu = slab().data.copy()
    hu[:2, 8:] = -1000
    volume = Volume(hu, slab().affine, "CT", "HU")
    scan = simulate_beams(volume, SCANS[kind])
    mu = torch.from_numpy(MU_WATER_PER_MM * (1 + hu / 1000))
    model = XRayTransform(scan.geometry, scan.grid)(mu).numpy()
    difference = np.linalg.norm(scan.projections[:] - model) / np.linalg.norm(model)
    assert 1e-4 < difference < 0.1


def test_counts_have_their_noise_and_slices_their_own() -> None:
    settings = BeamSettings(
        "fan", "40@2.0", 30, photons=1e4, source_object=2e3, source_detector=3e3
    )
    scan = simulate_beams(slab(), settings)
    air = scan.projections[1][:, [0, 1, 38, 39]]
    assert air.std() == pytest.approx(0.01, rel=0.3)  # 120 rays: 6 % by chance
    alone = simulate_beams(slab(), settings, slices=slice(1, 2))
    np.testing.assert_array_equal(alone.projections[0], scan.projections[1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (BeamSettings("cone", "64@1.0"), r"detector of a cone scan is '64@1.0', expected such as 256x256@1.0"),
        (BeamSettings("fan", "64x64@1"), r"expected such as 512@1.0"),
        (BeamSettings("helical", "8x8@1"), "a helix needs one other than 0"),
        (BeamSettings("cone", "8x8@1", pitch=3), "the others have none"),
        (BeamSettings("cone", "8x8@1", source_object=10), "source lies inside the volume"),
        (BeamSettings("cone", "8x8@1", photons=0), "photons must lie above 0"),
    ],
)  # fmt: skip
def test_settings_that_make_no_scan_are_refused(settings: BeamSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulate_beams(slab(), settings)


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of docs/scan-files.md in order, on a small head."""
    monkeypatch.chdir(tmp_path)
    head = ct_phantom((6, 24, 24))
    write(head, tmp_path / "volume.nii.gz")
    text = PAGE.read_text(encoding="utf-8").partition("### Fans, cones")[2]
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for command in block.splitlines():
        done = CliRunner().invoke(app, command.split()[1:])
        assert done.exit_code == 0, f"{command}\n{done.stderr}"
    scan = open_scan(tmp_path / "cone.h5")
    assert isinstance(scan, BeamScan)
    np.testing.assert_array_equal(scan.image_of(3), head.data[3])
    inside = head.data > -500
    for name in ("fdk", "sirt", "dds", "helix"):
        image = nibabel.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_allclose(image.affine, head.affine, atol=1e-4)  # float32 in the header
        found = np.transpose(image.get_fdata(), (2, 1, 0))[2:4]
        assert np.corrcoef(found.ravel(), head.data[2:4].ravel())[0, 1] > 0.8, name
        assert found[inside[2:4]].mean() > found[~inside[2:4]].mean() + 500


def test_options_of_beams_are_refused_for_parallel_rays(tmp_path: Path) -> None:
    write(slab(), tmp_path / "v.nii.gz")
    for options, words in (
        (["--pitch", "3"], "--pitch needs --geometry"),
        (["--geometry", "cone"], "needs --detector"),
    ):
        done = CliRunner().invoke(
            app,
            ["simulate", "ct", str(tmp_path / "v.nii.gz"), "-o", str(tmp_path / "s.h5"), *options],
        )
        assert done.exit_code != 0
        assert words in " ".join(done.stderr.replace("│", " ").split())
