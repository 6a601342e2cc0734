"""`restore bench` from stand-in files to tables, tuning and comparison, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from skimage import data as pictures
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restore.bench.results import load
from restore.datasets.open import write
from restore.datasets.picture.images import write_image
from restore.datasets.simulate.phantom import ct_phantom, head_phantom

FEW = "--set", "dds.n_steps=2", "--set", "tv.n_steps=3"


@pytest.fixture(scope="module")
def fastmri(verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two volumes for comparing and one for tuning, made as the documentation says."""
    folder = tmp_path_factory.mktemp("fastmri")
    write(head_phantom((6, 64, 60)), folder / "head.nii.gz")
    for split, number, slices in (("val", 1, "1:3"), ("val", 2, "3:5"), ("train", 3, "2:3")):
        out = folder / f"multicoil_{split}" / f"file100000{number}.h5"
        result = verb("simulate", "mri", folder / "head.nii.gz", "--as", "fastmri", "-o", out, "--coils", 3,
                      "--slices", slices, "--seed", number)  # fmt: skip
        assert result.exit_code == 0, result.stderr
    return folder


def test_fastmri_from_stand_ins_to_a_table(verb, fastmri: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = "zerofilled,cgsense,tv,dds,joint:second_prior=herringbone:n_steps=2"
    call = ("bench", "fastmri", fastmri, "--acceleration", 4, "--samplers", names, *FEW, "-o", run)
    result = verb(*call)
    assert result.exit_code == 0, result.stderr
    assert len(result.stderr.splitlines()) == 11  # one line a row, and the end
    for words in (
        "4x",
        "psnr",
        "zerofilled",
        "target:",
        "data range:",
        "mask:",
        "mask seed:",
        "noise:",
    ):
        assert words in result.stdout
    again = verb(*call, "--json")
    assert again.exit_code == 0
    assert "0 rows made, 10 were there already" in again.stderr
    lines = json.loads(again.stdout)
    assert {line["method"] for line in lines} == {"zerofilled", "cgsense", "tv", "dds", "joint"}

    # The evaluation of the fastMRI package, written out: it accepts the files and gives the same figures.
    for row in load(run):
        with h5py.File(run / "reconstructions" / "4x" / row.method / row.volume) as file:
            image = file["reconstruction"][()]
        with h5py.File(fastmri / "multicoil_val" / row.volume) as file:
            target = file["reconstruction_rss"][()]
        side = target.shape[-1]
        top = (target.shape[-2] - side) // 2
        target, image = (a[:, top : top + side] for a in (target, image))
        peak = target.max()
        assert row.psnr == pytest.approx(
            peak_signal_noise_ratio(target, image, data_range=peak), abs=1e-5
        )
        assert row.nmse == pytest.approx(
            np.linalg.norm(target - image) ** 2 / np.linalg.norm(target) ** 2, rel=1e-5
        )
        likeness = [
            structural_similarity(t, x, data_range=peak) for t, x in zip(target, image, strict=True)
        ]
        assert row.ssim == pytest.approx(np.mean(likeness), abs=1e-6)


def test_inversebench_on_the_same_folder(verb, fastmri: Path, tmp_path: Path) -> None:
    result = verb("bench", "fastmri", fastmri, "--protocol", "inversebench-mri", "--acceleration", 4,
                  "--measurements", "raw,simulated", "--samplers", "zerofilled,cgsense", "--volumes", 1,
                  "-o", tmp_path / "run")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = load(tmp_path / "run")
    assert {(r.setting, r.method) for r in rows} == {
        (f"4x-{kind}", method)
        for kind in ("raw", "simulated")
        for method in ("zerofilled", "cgsense")
    }
    for row in rows:
        assert row.target.startswith("MVUE")
        assert row.per_slice["psnr"] == pytest.approx([row.psnr] * 2, abs=6)
        assert (row.noise_std is None) == row.setting.endswith("simulated")


def test_tuning_on_other_volumes_and_comparing(verb, fastmri: Path, tmp_path: Path) -> None:
    tuned, a, b = tmp_path / "tuned", tmp_path / "a", tmp_path / "b"
    result = verb("bench", "tune", "fastmri-volume", fastmri, "--acceleration", 4, "--samplers", "tv,cgsense",
                  "--grid", "tv.weight=1e-4,3e-2", "--grid", "cgsense.n_steps=1,8", "-o", tuned)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "tuned.json" in result.stdout
    record = json.loads((tuned / "tuned.json").read_text())
    assert record["volumes"] == ["file1000003.h5"]
    call = ("bench", "fastmri", fastmri, "--acceleration", 4, "--samplers", "tv")
    assert verb(*call, "-o", a, "--tuned", tuned).exit_code == 0
    assert verb(*call, "-o", b, "--set", "tv.weight=0.5").exit_code == 0
    chosen = next(c["value"] for c in record["chosen"] if c["method"] == "tv")
    assert {r.settings["weight"] for r in load(a)} == {float(chosen)}
    compared = json.loads(verb("bench", "compare", a, b, "--json").stdout)
    psnr = next(c for c in compared if c["figure"] == "psnr")["difference"]
    assert psnr["n"] == 2
    assert psnr["mean"] == pytest.approx(
        np.mean([r.psnr for r in load(a)]) - np.mean([r.psnr for r in load(b)])
    )
    shown = verb("bench", "compare", f"{a}:tv", f"{b}:tv")
    assert "95 % interval" in shown.stdout
    left_out = verb(*call, "--split", "train", "-o", tmp_path / "c", "--tuned", tuned)
    assert left_out.exit_code == 3
    assert "excluded" in left_out.stderr


def test_ct_volumes(verb, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(ct_phantom((8, 40, 36)), tmp_path / "data" / "chest.nii.gz")
    run = tmp_path / "run"
    result = verb(
        "bench",
        "ct",
        tmp_path / "data",
        "--views",
        "8,30",
        "--samplers",
        "fbp,tv",
        *FEW[2:],
        "-o",
        run,
    )
    assert result.exit_code == 0, result.stderr
    rows = load(run)
    assert {r.setting for r in rows} == {"views-8", "views-30", "limited-90"}
    assert all({"psnr_axial", "psnr_coronal", "psnr_sagittal"} <= set(r.extra) for r in rows)
    assert verb("bench", "table", run).stdout.count("fbp") == 3


def test_photographs(verb, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = pictures.astronaut()[100:164, 180:244].transpose(2, 0, 1) / 255
    write_image(photo.astype(np.float32), tmp_path / "photos" / "face.png")
    run = tmp_path / "run"
    result = verb("bench", "images", tmp_path / "photos", "--tasks", "inpaint,superres,denoise", "--crop", 48,
                  "--samplers", "bicubic,tv", *FEW[2:], "-o", run)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    done = {(r.setting, r.method) for r in load(run)}
    assert ("superres-0", "bicubic") in done
    assert ("denoise-0.05", "tv") in done
    assert ("inpaint-0", "bicubic") not in done
    assert "bicubic is left out under inpaint-0" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fastmri", "nowhere", "-o", "run"), 3, "nowhere"),
        (("fastmri", ".", "-o", "run", "--protocol", "other"), 2, "no protocol 'other'"),
        (("fastmri", ".", "-o", "run", "--acceleration", "four"), 2, "whole numbers"),
        (("fastmri", ".", "-o", "run", "--part", "3"), 2, "K/N"),
        (("images", ".", "-o", "run", "--tasks", "paint"), 2, "paint"),
        (("tune", "other", ".", "-o", "run"), 2, "no protocol 'other'"),
        (("table", "nowhere"), 3, "results"),
        (("compare", "nowhere", "elsewhere"), 3, "nowhere"),
    ],
)
def test_slips_are_named(verb, tmp_path: Path, monkeypatch, arguments, code, words) -> None:
    monkeypatch.chdir(tmp_path)
    result = verb("bench", *arguments)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert not (tmp_path / "run").exists()


def test_some_failures_have_a_code_of_their_own(verb, fastmri: Path, tmp_path: Path) -> None:
    root = tmp_path / "multicoil_val"
    root.mkdir()
    whole = (fastmri / "multicoil_val" / "file1000001.h5").read_bytes()
    (root / "file1000001.h5").write_bytes(whole)
    (root / "file1000002.h5").write_bytes(whole[: len(whole) // 2])
    result = verb(
        "bench",
        "fastmri",
        tmp_path,
        "--acceleration",
        4,
        "--samplers",
        "zerofilled",
        "-o",
        tmp_path / "run",
    )
    assert result.exit_code == 8, result.stderr
    assert "1 of 2 runs failed" in result.stderr
    assert str(tmp_path) not in (tmp_path / "run" / "results.csv").read_text()


def test_test_files_become_a_submission(verb, tmp_path: Path) -> None:
    write(head_phantom((4, 56, 52)), tmp_path / "head.nii.gz")
    for number, rate in ((1, 4), (2, 8)):
        out = tmp_path / "multicoil_test" / f"file100000{number}.h5"
        made = verb("simulate", "mri", tmp_path / "head.nii.gz", "--as", "fastmri", "-o", out, "--coils", 3,
                    "--slices", "1:3", "--test", rate, "--center-fraction", 0.12)  # fmt: skip
        assert made.exit_code == 0, made.stderr
    run, folder = tmp_path / "run", tmp_path / "submission"
    result = verb(
        "bench", "fastmri", tmp_path / "multicoil_test", "--samplers", "zerofilled", "-o", run
    )
    assert result.exit_code == 0, result.stderr
    rows = load(run)
    assert {(r.volume, r.setting, r.psnr) for r in rows} == {
        ("file1000001.h5", "4x", None), ("file1000002.h5", "8x", None),
    }  # fmt: skip
    assert {r.mask for r in rows} == {"stored in the file"}
    call = ("bench", "submission", run, "--method", "zerofilled", "--knee-v2", "-o", folder)
    assert verb(*call).exit_code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["file1000001_v2.h5", "file1000002_v2.h5"]
    with h5py.File(folder / "file1000001_v2.h5") as file:
        assert list(file) == ["reconstruction"]
        assert (file["reconstruction"].shape, file["reconstruction"].dtype) == (
            (2, 56, 52),
            np.float32,
        )
    assert verb(*call).exit_code == 5
    assert (
        "has no method 'dds'"
        in verb("bench", "submission", run, "--method", "dds", "-o", tmp_path / "x").stderr
    )
