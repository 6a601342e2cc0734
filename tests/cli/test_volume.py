"""`restore volume`, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from restore.datasets.open import read, write
from restore.datasets.simulate.phantom import head_phantom

FEW = ("--steps", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a head of 20 slices, and masks of some of its voxels."""
    folder = tmp_path_factory.mktemp("volume")
    data = head_phantom((20, 24, 22)).data.astype(np.float32)
    lost = np.zeros(data.shape, np.float32)
    lost[9], lost[3:5, 6:10, 6:10] = 1, 1
    for name, values in (
        ("head", data),
        ("lost", lost),
        ("all", np.ones_like(lost)),
        ("none", 0 * lost),
    ):
        save(values, folder / f"{name}.nii.gz")
    save(lost, folder / "moved.nii.gz", origin=0.4)
    return folder


def save(data: np.ndarray, path: Path, origin: float = 0.0) -> None:
    affine = np.diag([-2.0, 2.0, 2.5, 1.0])
    affine[0, 3] = origin
    image = nibabel.Nifti1Image(data.T, affine)
    image.set_sform(affine, code=4)
    nibabel.save(image, path)


def test_inpainting_makes_lost_voxels_anew_and_leaves_the_others(
    head: Path, verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "whole.nii.gz"
    mask = ("--mask", head / "lost.nii.gz")
    done = verb("volume", head / "head.nii.gz", "--task", "inpaint", *mask, "-o", out, *FEW)
    assert done.exit_code == 0, done.stderr
    before, after = nibabel.load(head / "head.nii.gz"), nibabel.load(out)
    lost = nibabel.load(head / "lost.nii.gz").get_fdata() != 0
    a, b = before.get_fdata(), after.get_fdata()
    np.testing.assert_array_equal(a[~lost], b[~lost])
    assert np.linalg.norm((a - b)[lost]) < 0.5 * np.linalg.norm(a[lost])  # 0.2 seen, of two steps
    np.testing.assert_array_equal(before.affine, after.affine)
    assert int(after.header["sform_code"]) == 4
    record = json.loads((tmp_path / "whole.json").read_text())
    assert record["status"] == "done"
    assert record["lost_slices"] == [9]
    again = verb("volume", head / "head.nii.gz", "--task", "inpaint", *mask, "-o", out, *FEW)
    assert "already done" in again.stdout
    other = tmp_path / "other.nii.gz"
    monkeypatch.chdir(head)  # where the record's files are looked for: not every folder beside is
    replayed = verb("volume", "--config", tmp_path / "whole.json", "-o", other)
    assert replayed.exit_code == 0, replayed.stderr
    np.testing.assert_array_equal(b, nibabel.load(other).get_fdata())


def test_several_samples_have_a_deviation_and_an_interval(head: Path, verb, tmp_path: Path) -> None:
    out = tmp_path / "mean.nii.gz"
    done = verb(
        "volume", head / "head.nii.gz", "--task", "inpaint", "--mask", head / "lost.nii.gz", "-o", out,
        "--samples", "2", "--report", "--sampler", "dds", *FEW,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "nominal" in done.stderr
    lost = nibabel.load(head / "lost.nii.gz").get_fdata() != 0
    std, width = (
        nibabel.load(tmp_path / f"mean_{n}.nii.gz").get_fdata() for n in ("std", "interval")
    )
    assert (std[~lost] == 0).all()
    assert (std[lost] > 0).mean() > 0.9
    assert (width[lost] >= std[lost]).all()
    assert (tmp_path / "mean_report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--task", "inpaint"), 2, "needs --mask"),
        (("--task", "paint"), 2, "did you mean 'inpaint'"),
        (("--task", "inpaint", "--mask", "all.nii.gz"), 4, "marks every voxel"),
        (("--task", "inpaint", "--mask", "none.nii.gz"), 4, "marks no voxel"),
        (("--task", "inpaint", "--mask", "moved.nii.gz"), 4, "another grid than the volume"),
        (("--task", "inpaint", "--mask", "missing.nii.gz"), 3, "missing.nii.gz"),
        (
            ("--task", "denoise", "--mask", "lost.nii.gz"),
            2,
            "--mask is for --task inpaint, not for denoise",
        ),
        (("--task", "denoise", "--noise-map", "moved.nii.gz"), 4, "another grid than the volume"),
        (
            ("--task", "denoise", "--noise-map", "lost.nii.gz"),
            4,
            "deviations of noise are above zero",
        ),
        (("--task", "denoise", "--noise-region", "none.nii.gz"), 4, "holds 0 patches"),
        (("--task", "denoise", "--noise-level", "5000"), 4, "stronger than what it hides"),
        (("--task", "denoise", "--noise", "rayleigh"), 2, "noise"),
        (
            ("--task", "denoise", "--noise", "rician", "--noise-region", "lost.nii.gz"),
            2,
            "rician noise is white",
        ),
        (("--task", "denoise", "--modality", "MRT"), 2, "MRT"),
        (
            ("--task", "inpaint", "--mask", "lost.nii.gz", "head.nii.gz"),
            2,
            "takes 1 volume(s), got 2",
        ),
    ],
)
def test_what_is_refused_before_the_work(
    words: tuple[str, ...],
    code: int,
    told: str,
    head: Path,
    verb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(head)
    done = verb("volume", "head.nii.gz", *words, "-o", tmp_path / "out.nii.gz")
    assert done.exit_code == code, done.stderr
    assert told in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_magnitudes_lose_their_noise_and_what_it_adds_where_there_is_nothing(
    head: Path, verb, tmp_path: Path
) -> None:
    """Rician noise, found by itself: intensities and air are right again on the average; a replay gives the same."""
    truth = nibabel.load(head / "head.nii.gz").get_fdata().T
    std = 0.05 * truth.max()
    a, b = std * np.random.default_rng(0).standard_normal((2, *truth.shape))
    noisy = np.hypot(truth + a, b).astype(np.float32)
    save(noisy, tmp_path / "mr.nii.gz")
    out = tmp_path / "clean.nii.gz"
    done = verb(
        "volume", tmp_path / "mr.nii.gz", "--task", "denoise", "-o", out, "--modality", "MR"
    )
    assert done.exit_code == 0, done.stderr
    assert "Rician" in done.stderr
    found = nibabel.load(out).get_fdata().T
    assert np.std(found - truth) < 0.75 * np.std(noisy - truth)  # 0.61 seen: the level is too high
    air = truth == 0
    assert noisy[air].mean() > 1.2 * std
    assert found[air].mean() < 0.3 * std  # 0.1 seen: estimates of no signal lie at zero or above
    record = json.loads((tmp_path / "clean.json").read_text())
    assert record["noise"] == "rician"
    # 24 x 22 voxels show little but edges, which wavelets take for noise: 1.25 times the true level seen.
    assert record["noise_std"] == pytest.approx(std, rel=0.5)
    again = tmp_path / "again.nii.gz"
    assert verb("volume", "--config", tmp_path / "clean.json", "-o", again).exit_code == 0
    np.testing.assert_array_equal(nibabel.load(again).get_fdata().T, found)


def test_a_dicom_series_becomes_a_series_derived_from_it(head: Path, verb, tmp_path: Path) -> None:
    volume = read(head / "head.nii.gz", modality="MR")
    noisy = volume.data + 30 * np.random.default_rng(0).standard_normal(volume.data.shape)
    write(volume.with_data(np.abs(noisy).astype(np.float32)), tmp_path / "series")
    told = ("--task", "denoise", "--noise-level", "30", "--noise", "gaussian")
    done = verb("volume", tmp_path / "series", *told, "-o", tmp_path / "derived")
    assert done.exit_code == 0, done.stderr
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "series").iterdir())]
    found = pydicom.dcmread(tmp_path / "derived" / "0003.dcm")
    referred = found.SourceImageSequence[0].ReferencedSOPInstanceUID
    (source,) = (image for image in images if image.SOPInstanceUID == referred)
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    assert list(found.ImagePositionPatient) == list(source.ImagePositionPatient)
    within = verb("volume", tmp_path / "series", *told, "-o", tmp_path / "series" / "derived")
    assert within.exit_code == 5
    assert "within or around the source" in within.stderr


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (np.full((4, 9, 9), 7.0), "every voxel is 7"),
        (np.full((4, 9, 9), np.nan), "not finite"),
        (np.arange(4 * 81).reshape(4, 9, 9) + 1j, "a complex volume"),
        (np.arange(4 * 81).reshape(4, 9, 9) * 1e30, "reach 3.23e+32"),
        (np.arange(4 * 81).reshape(4, 9, 9) * 1e-20, "reach 3.23e-18"),
    ],
)
def test_volumes_that_are_none_to_restore(
    data: np.ndarray, told: str, head: Path, verb, tmp_path: Path
) -> None:
    save(
        data.astype(np.complex64 if np.iscomplexobj(data) else np.float32), tmp_path / "odd.nii.gz"
    )
    done = verb(
        "volume",
        tmp_path / "odd.nii.gz",
        "--task",
        "inpaint",
        "--mask",
        head / "lost.nii.gz",
        "-o",
        tmp_path / "o.nii",
    )
    assert done.exit_code == 4
    assert told in " ".join(done.stderr.split())
