"""`restore volume` with files that the simulator does not make: one slice, padding, steps of DICOM, whole numbers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from restore.datasets.open import read, write
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.datasets.volume.volume import Volume

FEW = ("--steps", "2", "--device", "cpu")
AFFINE = np.diag([-2.0, 2.0, 2.5, 1.0])


def save(data: np.ndarray, path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.T, AFFINE), path)
    return path


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT series of 6 slices in steps of 2 HU, padding around a circle named by its tag; slice 3 lost."""
    folder = tmp_path_factory.mktemp("padded")
    data = np.round(ct_phantom((6, 24, 24)).data / 2)
    i, j = np.indices((24, 24)) - 11.5
    data[:, np.hypot(i, j) > 12], data[3] = -1000, -1000
    write(Volume(data.astype(np.float32), AFFINE, "CT", "HU"), folder / "series")
    for path in (folder / "series").iterdir():
        image = pydicom.dcmread(path)
        stored = -1000 - int(image.RescaleIntercept)
        image.add_new(0x00280120, "SS" if image.PixelRepresentation else "US", stored)
        image.RescaleSlope, image.RescaleIntercept = 2, 2 * int(image.RescaleIntercept)
        image.save_as(path)
    source = read(folder / "series")
    lost = np.zeros(source.data.shape, np.float32)
    at = 3 if (source.data[3] == -2000).all() else 2  # series may run the other way
    lost[at], lost[0, 10:12, 10:12] = 1, 1
    write(source.with_data(lost), folder / "lost.nii.gz")
    return folder


def test_inpainting_keeps_stored_numbers_and_padding_and_makes_whole_steps(
    padded: Path, verb, tmp_path: Path
) -> None:
    mask = ("--mask", padded / "lost.nii.gz")
    out = tmp_path / "whole"
    done = verb("volume", padded / "series", "--task", "inpaint", *mask, "-o", out, *FEW)
    assert done.exit_code == 4  # planes through 6 slices show nothing of a whole lost one
    assert "is lost as a whole" in done.stderr
    lost = nibabel.load(padded / "lost.nii.gz")
    part = np.asarray(lost.dataobj).copy()
    part[0] = 0  # a column of the lost slice is known
    nibabel.save(nibabel.Nifti1Image(part, lost.affine), tmp_path / "part.nii.gz")
    mask = ("--mask", tmp_path / "part.nii.gz")
    done = verb("volume", padded / "series", "--task", "inpaint", *mask, "-o", out, *FEW)
    assert done.exit_code == 0, done.stderr
    assert "were never measured (padding): they stay as they are" in words(done.stderr)
    before, after = read(padded / "series"), read(out)
    made = part.T != 0
    np.testing.assert_array_equal(after.data[~made], before.data[~made])
    assert (before.data[~made] == -2000).any()
    assert (after.data[made] > -1500).all()  # what was lost is no padding, whatever stood there
    assert (after.data[made] % 2 == 0).all()
    for path in out.iterdir():
        assert pydicom.dcmread(path).RescaleSlope == 2


def test_denoising_leaves_padding_alone(padded: Path, verb, tmp_path: Path) -> None:
    told = ("--task", "denoise", "--noise", "gaussian", "--noise-level", "20")
    done = verb("volume", padded / "series", *told, "-o", tmp_path / "clean.nii.gz")
    assert done.exit_code == 0, done.stderr
    before, after = (
        read(padded / "series").data,
        nibabel.load(tmp_path / "clean.nii.gz").get_fdata().T,
    )
    np.testing.assert_array_equal(after[before == -2000], -2000)
    assert (after[before != -2000] > -1200).all()


def test_one_slice_is_restored_in_its_plane_with_a_note(verb, tmp_path: Path) -> None:
    """Stored as whole numbers with a slope, as NIfTI often is."""
    one = head_phantom((5, 24, 24)).data[2:3]
    image = nibabel.Nifti1Image(one.T, AFFINE, dtype=np.int16)
    nibabel.save(image, tmp_path / "one.nii.gz")
    lost = np.zeros(one.shape, np.float32)
    lost[0, 8:10, 8:10] = 255
    mask = save(lost, tmp_path / "lost.nii.gz")
    source = tmp_path / "one.nii.gz"
    for task in (
        ("--task", "inpaint", "--mask", mask),
        ("--task", "deblur", "--psf", "3,3,0", "--noise-level", "20"),
        ("--task", "denoise", "--noise-level", "20"),
    ):
        done = verb("volume", source, *task, "-o", tmp_path / f"{task[1]}.nii.gz", *FEW)
        assert done.exit_code == 0, done.stderr
        assert "the slices alone" in done.stderr
    found = nibabel.load(tmp_path / "inpaint.nii.gz").get_fdata().T
    np.testing.assert_array_equal(found[lost == 0], read(source).data[lost == 0])
    for task, told in (
        (
            (
                "--task",
                "superres",
            ),
            "one slice holds nothing of what lies beside it",
        ),
        (("--task", "deblur", "--psf", "3", "--noise-level", "20"), "too large for 1 x 24 x 24"),
    ):
        done = verb("volume", source, *task, "-o", tmp_path / "no.nii.gz")
        assert done.exit_code == 4
        assert told in words(done.stderr)


@pytest.mark.parametrize(
    "task", [("deblur", "--psf", "3"), ("denoise",), ("superres", "--spacing", "1.25")]
)
def test_a_replay_gives_the_same_volume(task: tuple[str, ...], verb, tmp_path: Path) -> None:
    """Of inpainting it stands in test_volume.py."""
    rng = np.random.default_rng(0)
    head = head_phantom((6, 20, 18)).data + 30 * rng.standard_normal((6, 20, 18))
    source = save(head.astype(np.float32), tmp_path / "head.nii.gz")
    given = ("--task", *task, "--noise-level", "30", *FEW)
    done = verb("volume", source, *given, "-o", tmp_path / "a.nii.gz")
    assert done.exit_code == 0, done.stderr
    done = verb("volume", "--config", tmp_path / "a.json", "-o", tmp_path / "b.nii.gz")
    assert done.exit_code == 0, done.stderr
    a, b = (nibabel.load(tmp_path / f"{n}.nii.gz").get_fdata() for n in "ab")
    np.testing.assert_array_equal(a, b)
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
    assert first["sampler"] == second["sampler"]


@pytest.mark.parametrize("task", [("deblur", "--psf", "3"), ("inpaint",), ("superres",)])
def test_noise_above_all_intensities_is_refused(
    task: tuple[str, ...], verb, tmp_path: Path
) -> None:
    data = head_phantom((6, 20, 18)).data.astype(np.float32)
    source = save(data, tmp_path / "head.nii.gz")
    mask = save((data > 500).astype(np.float32), tmp_path / "mask.nii.gz")
    told = ("--mask", mask) if task[0] == "inpaint" else ()
    done = verb(
        "volume", source, "--task", *task, *told, "--noise-level", "1e6", "-o", tmp_path / "o.nii"
    )
    assert done.exit_code == 4, done.stderr
    assert "is stronger than what it hides" in words(done.stderr)


def test_a_mask_that_was_interpolated_is_taken_whole_and_noted(verb, tmp_path: Path) -> None:
    data = head_phantom((6, 20, 18)).data.astype(np.float32)
    source, lost = save(data, tmp_path / "head.nii.gz"), np.zeros_like(data)
    lost[2:4, 5:9, 5:9], lost[3, 5:9, 9] = 255, 0.25
    mask = save(lost, tmp_path / "mask.nii.gz")
    told = ("--task", "inpaint", "--mask", mask, "-o", tmp_path / "o.nii", "--dry-run")
    done = verb("volume", source, *told)
    assert done.exit_code == 0, done.stderr
    assert "11.1 % of what the mask marks are fractions" in words(done.stderr)  # 4 of 36
    assert "lost_voxels: 36" in done.stderr + done.stdout
