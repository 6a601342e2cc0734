"""`restore simulate mri` and `restore simulate ct`, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.scan import CTScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan

runner = CliRunner()
AFFINE = np.array([[2.0, 0, 0, -10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def mr(tmp_path: Path) -> Path:
    """An MR-like NIfTI volume, x 24, y 20, z 10."""
    return written(tmp_path / "mr.nii.gz", 900 * np.random.default_rng(0).random((24, 20, 10)))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """A water cylinder with a bone core in air, in HU, x 24, y 20, z 10."""
    x, y = np.meshgrid(np.arange(24) - 11.5, np.arange(20) - 9.5, indexing="ij")
    plane = np.where(np.hypot(x, y) < 8, 0.0, -1000.0) + 800.0 * (np.hypot(x, y) < 3)
    return written(tmp_path / "ct.nii", np.repeat(plane[..., None], 10, axis=2))


def written(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), AFFINE), path)
    return path


def simulate(*arguments: object):
    return runner.invoke(app, ["simulate", *map(str, arguments)])


def test_mri_with_the_options_of_the_manual(mr, tmp_path):
    out = tmp_path / "scan.h5"
    result = simulate(
        "mri", mr, "-o", out, "--coils", 8, "--acceleration", 4, "--center-fraction", 0.08,
        "--mask", "random", "--noise", 0.005, "--slices", "2:9:3", "--seed", 7,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 3 slices, 8 coils, 20 x 24, acceleration 4.00")
    scan = open_scan(out)
    assert isinstance(scan, MRIScan)
    assert scan.shape == (3, 8, 20, 24)
    assert scan.slice_indices == (2, 5, 8)
    assert scan.mask.sum() == 6
    volume = np.asarray(nibabel.load(mr).dataobj)
    assert scan.noise_std == pytest.approx(0.005 * volume.max(), rel=1e-6)
    np.testing.assert_array_equal(scan.reference[1], volume[:, :, 5].T)
    np.testing.assert_allclose(scan.affine @ [1, 2, 1, 1], AFFINE @ [1, 2, 5, 1])


def test_ct_with_the_options_of_the_manual(ct, tmp_path):
    out = tmp_path / "scan.h5"
    result = simulate(
        "ct", ct, "-o", out, "--views", 30, "--arc", 180, "--photons", "1e5", "--slices", "4:6",
        "--seed", 7,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "2 slices, 30 views over 180 degrees" in result.stdout
    scan = open_scan(out)
    assert isinstance(scan, CTScan)
    assert scan.shape[:2] == (2, 30)
    assert scan.photons == 1e5
    centre = scan.sinogram[0][:, scan.shape[2] // 2].mean()
    assert centre == pytest.approx(0.0195 * 2 * (16 + 6 * 0.8), rel=0.1)


def test_ct_as_a_synchrotrons_file(ct, tmp_path):
    words = ("ct", ct, "-o", tmp_path / "a.h5", "--views", 9, "--slices", "4:6", "--as", "dxchange")
    assert simulate(*words).exit_code == 0
    scan = open_scan(tmp_path / "a.h5")
    assert (scan.source["kind"], scan.shape[:2]) == ("dxchange", (2, 9))
    assert "already done" in simulate(*words).stderr


def test_json_says_what_was_written(mr, ct, tmp_path):
    record = json.loads(simulate("mri", mr, "-o", tmp_path / "a.h5", "--json").stdout)
    assert record["kind"] == "mri"
    assert record["acceleration"] == 4
    assert record["slices"] == list(range(10))
    command = ["ct", ct, "-o", tmp_path / "b.h5", "--views", 8, "--json", "--slices", -1]
    record = json.loads(simulate(*command).stdout)
    assert (record["kind"], record["slices"]) == ("ct", [9])


def test_the_same_seed_gives_the_same_scan(mr, tmp_path):
    scans = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert simulate("mri", mr, "-o", tmp_path / name, "--seed", seed).exit_code == 0
        with h5py.File(tmp_path / name) as file:
            scans.append(file["kspace"][()])
    np.testing.assert_array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])


def test_a_dicom_folder(samples, tmp_path):
    out = tmp_path / "scan.h5"
    result = simulate("mri", samples / "dicom_mr", "-o", out, "--slices", "1:5:3")
    assert result.exit_code == 0, result.stderr
    scan = open_scan(out)
    assert (scan.slice_indices, scan.source["modality"]) == ((1, 4), "MR")


def test_an_existing_scan_is_kept_unless_told(mr, tmp_path):
    out = tmp_path / "scan.h5"
    out.write_text("precious")
    result = simulate("mri", mr, "-o", out)
    assert result.exit_code == 5
    assert "exists already" in result.stderr
    assert out.read_text() == "precious"
    assert simulate("mri", mr, "-o", out, "--overwrite").exit_code == 0
    assert open_scan(out).n_slices == 10


def test_the_source_is_never_overwritten(mr):
    before = mr.read_bytes()
    result = simulate("mri", mr, "-o", mr, "--overwrite")
    assert (result.exit_code, mr.read_bytes()) == (5, before)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--slices", "10:20"], 2, "slices 0 to 9"),
        (["--slices", "12"], 2, "slices 0 to 9"),
        (["--slices", "1-3"], 2, "cannot be understood"),
        (["--slices", "1:5:0"], 2, "step must not be 0"),
        (["--mask", "spiral"], 2, "unknown mask 'spiral'"),
        (["--coils", "0"], 2, "--coils"),
        (["--acceleration", "0.5"], 2, "--acceleration"),
        (["--acceleration", "4", "--center-fraction", "0.9"], 2, ""),
        (["--noise", "nan"], 2, "noise"),
        (["--index", "3"], 2, "index"),
        (["--series", "3"], 2, "series is for DICOM"),
    ],
)
def test_settings_that_cannot_work(mr, tmp_path, options, code, words):
    out = tmp_path / "scan.h5"
    result = simulate("mri", mr, "-o", out, *options)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--photons", "0"],
        ["--photons", "nan"],
        ["--arc", "0"],
        ["--as", "dxchange", "--geometry", "fan", "--detector", "32@1"],
        ["--as", "dxchange", "--photons", "1e12", "--views", "2", "--slices", "4"],
    ],
)
def test_ct_settings_that_cannot_work(ct, tmp_path, options):
    assert simulate("ct", ct, "-o", tmp_path / "scan.h5", *options).exit_code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.nii"]


def test_volumes_that_cannot_be_read(tmp_path):
    out = tmp_path / "scan.h5"
    assert simulate("mri", tmp_path / "missing.nii", "-o", out).exit_code == 3
    text = tmp_path / "text.nii.gz"
    text.write_text("hello")
    assert simulate("mri", text, "-o", out).exit_code == 4
    zero = written(tmp_path / "zero.nii", np.zeros((8, 8, 8)))
    assert simulate("mri", zero, "-o", out).exit_code == 4
    assert not out.exists()


def test_a_missing_folder_is_found_before_the_work(mr, tmp_path):
    result = simulate("mri", mr, "-o", tmp_path / "no" / "scan.h5")
    assert result.exit_code == 5
    assert "there is no such folder" in result.stderr


def test_a_stand_in_for_a_published_file(mr, tmp_path):
    out = tmp_path / "fastmri" / "multicoil_val" / "file1000001.h5"
    result = simulate(
        "mri", mr, "--as", "fastmri", "-o", out, "--coils", 8, "--slices", "2:9:3", "--seed", 7,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 3 slices, 8 coils, 20 x 24, complete")
    scan = open_scan(out)
    assert isinstance(scan, MRIScan)
    assert (scan.shape, scan.slice_indices) == ((3, 8, 20, 24), (2, 5, 8))
    assert scan.mask.all()
    assert scan.maps is None
    volume = np.asarray(nibabel.load(mr).dataobj)[:, :, 5].T
    # Per pixel the root sum of squares has about the noise of one coil, and a bias in the dark.
    assert np.abs(scan.reference[1] - volume).max() < 6 * 0.005 * 900
    np.testing.assert_allclose(scan.affine @ [1, 2, 1, 1], AFFINE @ [1, 2, 5, 1])
    result = simulate("mri", mr, "--as", "fastmri", "-o", out)
    assert result.exit_code == 5


def test_variants_of_stand_ins(mr, tmp_path):
    single = tmp_path / "singlecoil_val" / "file1.h5"
    single.parent.mkdir()
    common = ["mri", mr, "--as", "fastmri", "--slices", "3:5", "--oversampling", 2, "--columns", 20]
    record = json.loads(simulate(*common, "-o", single, "--coils", 1, "--json").stdout)
    assert (record["kind"], record["acceleration"]) == ("fastmri", None)
    with h5py.File(single) as file:
        assert file["kspace"].shape == (2, 40, 24)
        assert file["reconstruction_esc"].shape == (2, 20, 24)
    test = tmp_path / "file2.h5"
    command = [*common, "-o", test, "--test", 4, "--mask", "equispaced_fraction"]
    assert simulate(*command).exit_code == 0
    with h5py.File(test) as file:
        assert (file.attrs["acceleration"], file.attrs["num_low_frequency"]) == (4, 2)
        assert "reconstruction_rss" not in file
        assert not file["kspace"][..., ~file["mask"][()]].any()
    assert simulate(*command, "--overwrite", "--center-fraction", 0.2).exit_code == 0
    with h5py.File(test) as file:
        assert file.attrs["num_low_frequency"] == 5


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--oversampling", 2], 2, "needs --as fastmri"),
        (["--columns", 20], 2, "needs --as fastmri"),
        (["--test", 4], 2, "needs --as fastmri"),
        (["--as", "fastmri", "--acceleration", 4], 2, "--test ACC undersamples"),
        (["--as", "fastmri", "--mask", "random"], 2, "give --test ACC"),
        (["--as", "fastmri", "--columns", 25], 2, "24 of a slice"),
        (["--as", "fastmri", "--test", 4, "--mask", "gaussian1d"], 2, "unknown fastMRI mask"),
        (["--as", "nifti"], 2, "--as"),
    ],
)
def test_stand_in_settings_that_cannot_work(mr, tmp_path, options, code, words):
    out = tmp_path / "scan.h5"
    result = simulate("mri", mr, "-o", out, *options)
    assert result.exit_code == code, result.stderr
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("folder", "options", "right"),
    [
        ("multicoil_val", ["--coils", 1], "singlecoil_val"),
        ("singlecoil_train", [], "multicoil_val"),
        ("multicoil_val", ["--test", 4], "multicoil_test"),
        ("multicoil_challenge", [], "multicoil_val"),
    ],
)
def test_stand_ins_go_where_they_belong(mr, tmp_path, folder, options, right):
    out = tmp_path / folder / "file1.h5"
    result = simulate("mri", mr, "--as", "fastmri", "-o", out, *options)
    assert result.exit_code == 5
    assert f"write it to {right}" in result.stderr
    assert not out.parent.exists()


def test_only_the_folders_of_the_layout_are_made(mr, tmp_path):
    for path in ("no/file1.h5", "no/no/multicoil_val/file1.h5"):
        assert simulate("mri", mr, "--as", "fastmri", "-o", tmp_path / path).exit_code == 5
    assert [p.name for p in tmp_path.iterdir()] == ["mr.nii.gz"]
