"""`restore volume --task superres`, from files to files: NIfTI, DICOM, several views, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from restore.datasets.open import read, write
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume

FEW = ("--steps", "2", "--device", "cpu")
PLACE_MM = 1e-6
HEAD = head_phantom((24, 26, 20)).data.astype(np.float32)
THIN = np.array([[1.0, 0, 0, -9], [0, 1, 0, -13], [0, 0, 1, -12], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head in axial slices of 4 mm (NIfTI and DICOM), in sagittal ones, and what is not of it."""
    folder = tmp_path_factory.mktemp("superres")
    axial = THIN.copy()
    axial[:3, 2] *= 4
    axial[2, 3] += 1.5
    means = HEAD.reshape(6, 4, 26, 20).mean(1)
    save(means, axial, folder / "axial.nii.gz")
    sagittal = np.eye(4)
    sagittal[:3, :3] = [[0, 0, 4], [1, 0, 0], [0, 1, 0]]
    sagittal[:3, 3] = THIN[:3, 3] + [1.5, 0, 0]
    save(
        HEAD.reshape(24, 26, 5, 4).mean(3).transpose(2, 0, 1), sagittal, folder / "sagittal.nii.gz"
    )
    noise = np.random.default_rng(0).random((6, 26, 20)).astype(np.float32)
    save(noise, axial, folder / "noise.nii.gz")
    far = axial.copy()
    far[:3, 3] += 300
    save(means, far, folder / "far.nii.gz")
    sheared = axial.copy()
    sheared[0, 2] = 1.0
    save(means, sheared, folder / "sheared.nii.gz")
    for name in ("series", "stranger"):
        write(
            Volume(np.rint(means), axial, "MR"), folder / name
        )  # frames of reference of their own
        for path in (folder / name).glob("*.dcm"):
            one = pydicom.dcmread(path)
            one.SliceThickness = "3.5"
            one.save_as(path)
    return folder


def save(data: np.ndarray, affine: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(data.T, affine), path)


def test_thin_slices_lie_where_the_thick_ones_did(
    folder: Path, verb, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "thin.nii.gz"
    words = ("--task", "superres", "--spacing", "1", "-o", out, *FEW)
    done = verb("volume", folder / "axial.nii.gz", *words)
    assert done.exit_code == 0, done.stderr
    assert "taken as 4 mm, without a gap" in " ".join(done.stderr.split())
    found = nibabel.load(out)
    np.testing.assert_allclose(found.affine, THIN, atol=PLACE_MM)
    data = found.get_fdata().T
    assert data.shape == HEAD.shape
    means = data.reshape(6, 4, 26, 20).mean(1)
    wanted = HEAD.reshape(6, 4, 26, 20).mean(1)
    assert np.linalg.norm(means - wanted) < 0.02 * np.linalg.norm(wanted)  # 0.005 seen
    record = json.loads((tmp_path / "thin.json").read_text())
    assert record["stacks"][0]["thickness_mm"] == 4.0
    assert 0 < record["chunks"][0]["misfit"] < 3
    again = verb("volume", folder / "axial.nii.gz", *words)
    assert "already done" in again.stdout
    monkeypatch.chdir(folder)  # where the record's files are looked for: not every folder beside is
    replayed = verb("volume", "--config", tmp_path / "thin.json", "-o", tmp_path / "again.nii.gz")
    assert replayed.exit_code == 0, replayed.stderr
    np.testing.assert_array_equal(nibabel.load(tmp_path / "again.nii.gz").get_fdata().T, data)


def test_dicom_in_dicom_out(folder: Path, verb, tmp_path: Path) -> None:
    out = tmp_path / "derived"
    words = ("--task", "superres", "--spacing", "1", "-o", out, *FEW)
    done = verb("volume", folder / "series", *words)
    assert done.exit_code == 0, done.stderr
    found, source = read(out), read(folder / "series")
    np.testing.assert_allclose(found.affine, THIN, atol=PLACE_MM)
    one, other = found.header.slices[0], source.header.slices[0]
    assert one.FrameOfReferenceUID == other.FrameOfReferenceUID
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert float(one.SliceThickness) == float(one.SpacingBetweenSlices) == 1.0
    record = json.loads((tmp_path / "derived.json").read_text())
    (stack,) = record["stacks"]
    assert (stack["thickness_mm"], stack["gap_mm"]) == (3.5, 0.5)
    assert stack["thickness_from"] == "SliceThickness"


@pytest.mark.slow
def test_views_are_fused_with_a_deviation(folder: Path, verb, tmp_path: Path) -> None:
    out = tmp_path / "fused.nii.gz"
    inputs = (folder / "axial.nii.gz", folder / "sagittal.nii.gz")
    words = ("--task", "superres", "--spacing", "1", "--samples", "2", "-o", out, *FEW)
    done = verb("volume", *inputs, *words)
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "fused.json").read_text())
    assert [stack["file"] for stack in record["stacks"]] == ["axial.nii.gz", "sagittal.nii.gz"]
    assert record["stacks"][1]["registered"]["correlation"] > 0.9
    assert record["planes"] == [2, 1, 0]
    assert (nibabel.load(tmp_path / "fused_std.nii.gz").get_fdata() > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("axial.nii.gz", "--spacing", "5"), 2, "coarser than the slices"),
        (("axial.nii.gz", "--spacing", "4"), 2, "lie so far apart already"),
        (("axial.nii.gz", "--spacing", "-1"), 2, "spacing"),
        (("axial.nii.gz", "--profile", "gaus"), 2, "did you mean 'gauss'"),
        (("axial.nii.gz", "--thickness", "3", "--gap", "2"), 2, "give one of the two"),
        (("axial.nii.gz", "--register", "no"), 2, "register"),
        (("axial.nii.gz", "--mask", "axial.nii.gz"), 2, "--mask is for --task inpaint"),
        (("sheared.nii.gz",), 4, "not stacked along their normal"),
        (("axial.nii.gz", "far.nii.gz"), 4, "shares 0 % of its field of view"),
        (("axial.nii.gz", "noise.nii.gz"), 4, "could not be laid on axial.nii.gz"),
        (("series", "stranger"), 4, "of another frame of reference"),
        (("axial.nii.gz",) * 4, 2, "takes 1 to 3 volume(s), got 4"),
    ],
)
def test_what_is_refused_before_the_work(
    words: tuple[str, ...], code: int, told: str, folder: Path, verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    spacing = () if "--spacing" in words else ("--spacing", "1")
    done = verb("volume", *words, *spacing, "--task", "superres", "-o", tmp_path / "out.nii.gz")
    assert done.exit_code == code, done.stderr
    assert told in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())
