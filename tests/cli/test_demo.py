"""`restore demo`: a small one by default, the whole one among the slow tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restore.datasets.open import read_image
from restore.datasets.sidecar import read_sidecar
from restore.pipelines.demo import Size

SMALL = Size(shape=(8, 64, 64), slices=(1, 4, 2), steps=4, classical_steps=10, views=30)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore.pipelines.demo.FULL", SMALL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_small_demo_from_nothing_to_pictures(small, verb, tmp_path):
    folder = tmp_path / "demo"
    result = verb("demo", "-o", folder)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [tuple(line.split()[:2]) for line in lines[1:9]] == [
        ("mri", "zerofilled"), ("mri", "wavelet"), ("mri", "tv"), ("mri", "dds"),
        ("ct", "fbp"), ("ct", "wavelet"), ("ct", "tv"), ("ct", "dds"),
    ]  # fmt: skip
    for kind in ("mri", "ct"):
        assert f"picture: {folder / kind}.png" in lines
        assert min(read_image(folder / f"{kind}.png").data.shape[-2:]) > 500
    assert "MRI, 8 coils, 4-fold acceleration: dds" in result.stderr
    assert read_sidecar(folder / "summary.json")["status"] == "done"
    assert {"mri_scan.h5", "mri_reference.nii.gz", "mri_dds.json", "ct_fbp.nii.gz"} <= set(
        names(folder)
    )


@pytest.mark.slow
def test_a_second_demo_completes_the_first(small, verb, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    first = json.loads(verb("demo", "-o", folder, "--json").stdout)
    assert all(row["seconds"] is not None for row in first["results"])
    (folder / "ct_dds.nii.gz").unlink()
    second = json.loads(verb("demo", "-o", folder, "--json").stdout)
    redone = [row["file"] for row in second["results"] if row["seconds"] is not None]
    assert redone == [str(folder / "ct_dds.nii.gz")]
    for old, new in zip(first["results"], second["results"], strict=True):
        assert (old["psnr"], old["ssim"]) == (new["psnr"], new["ssim"])
    other = verb("demo", "-o", folder, "--seed", 1)
    assert other.exit_code == 5
    assert "--overwrite" in other.stderr
    again = verb("demo", "-o", folder, "--seed", 1, "--overwrite", "--json")
    assert again.exit_code == 0, again.stderr
    assert all(row["seconds"] is not None for row in json.loads(again.stdout)["results"])
    assert json.loads(again.stdout)["results"][0]["psnr"] != first["results"][0]["psnr"]


def test_a_folder_of_somebody_else_is_left_alone(small, verb, tmp_path):
    (tmp_path / "letter.txt").write_text("precious")
    assert verb("demo", "-o", tmp_path).exit_code == 5
    assert verb("demo", "-o", tmp_path / "letter.txt").exit_code == 5
    assert verb("demo", "-o", tmp_path / "no" / "demo").exit_code == 5
    assert names(tmp_path) == ["letter.txt"]


@pytest.mark.slow
def test_whole_demo_shows_what_it_is_for(verb, tmp_path):
    result = verb("demo", "-o", tmp_path / "demo", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["results"]
    psnr = {(row["modality"], row["sampler"]): row["psnr"] for row in rows}
    ssim = {(row["modality"], row["sampler"]): row["ssim"] for row in rows}
    for kind in ("mri", "ct"):
        others = [key for key in psnr if key[0] == kind and key[1] != "dds"]
        assert psnr[kind, "dds"] > max(psnr[key] for key in others) + 1.5
        assert ssim[kind, "dds"] > max(ssim[key] for key in others)
