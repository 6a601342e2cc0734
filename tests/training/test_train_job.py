"""`restore train` from files to a card: refusals before the work, no training passed off as another."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.errors import OutputError
from restore.priors.store import read_card

TINY = (
    "--minutes",
    "1000",
    "--steps",
    "3",
    "--batch",
    "2",
    "--crop",
    "16",
    "--widths",
    "8,8",
    "--blocks",
    "1,1",
)


def pictures(folder: Path, seed: int, count: int = 2) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for k in range(count):
        write_image(rng.random((1, 32, 32)), folder / f"{k}.png")
    return folder


def volume(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), np.eye(4)), path)
    return path


def train(*arguments: object):
    return CliRunner().invoke(app, ["train", "denoiser", *map(str, arguments), *TINY])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_other_data_with_the_same_out_is_refused_and_the_card_stays(tmp_path):
    first, second = pictures(tmp_path / "first", 0), pictures(tmp_path / "second", 1)
    out = tmp_path / "out" / "prior.safetensors"
    out.parent.mkdir()
    assert train(first, "-o", out).exit_code == 0
    kept = {p: p.read_bytes() for p in out.parent.iterdir()}
    assert read_card(out)["data"][0]["name"] == "first"
    for change in ([second], [first, "--seed", 1], [first, "--rate", 0.5]):
        result = train(*change, "-o", out)
        assert result.exit_code == 2
        assert "--restart" in result.stderr
    assert {p: p.read_bytes() for p in out.parent.iterdir()} == kept
    assert train(second, "-o", out, "--restart").exit_code == 0
    assert read_card(out)["data"][0]["name"] == "second"
    assert out.read_bytes() != kept[out]


def test_weights_without_a_state_are_not_written_over(tmp_path):
    images, out = pictures(tmp_path / "images", 0), tmp_path / "prior.safetensors"
    out.write_bytes(b"months of work")
    result = train(images, "-o", out)
    assert result.exit_code == OutputError.exit_code
    assert "no training state lies beside it" in result.stderr
    assert out.read_bytes() == b"months of work"


@pytest.mark.parametrize("folder", ["none", "/proc"])
def test_a_folder_that_takes_nothing_is_refused_before_the_images_are_read(tmp_path, folder):
    result = train(tmp_path / "nothing_here", "-o", tmp_path / folder / "prior.safetensors")
    assert result.exit_code == OutputError.exit_code, result.stderr
    assert "no such folder" in result.stderr or "takes no files" in result.stderr


def test_data_that_teach_nothing_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    single = pictures(tmp_path / "single", 0, count=1)
    flat = tmp_path / "flat"
    flat.mkdir()
    for k in range(3):
        write_image(np.full((1, 32, 32), 0.5), flat / f"{k}.png")
    holes = rng.random((20, 20, 20))
    holes[3, 4, 5] = np.nan
    for source, words in (
        (single, "one image is no training set"),
        (flat, "3 images is constant"),
        (volume(tmp_path / "holes.nii", holes), "holes.nii"),
    ):
        result = train(source, "-o", tmp_path / "prior.safetensors")
        assert result.exit_code in (2, 4), result.stderr
        assert words in result.stderr
    assert names(tmp_path) == ["flat", "holes.nii", "single"]


def test_volumes_serve_as_validation(tmp_path):
    """Their slices are in [0, 1] already: divided by 255 once more they gave figures of nothing."""
    grid = np.linspace(-1, 1, 32)
    ball = np.clip(1 - grid[:, None, None] ** 2 - grid[:, None] ** 2 - grid**2, 0, None)
    source = volume(tmp_path / "ball.nii", ball)
    result = train(source, "-o", tmp_path / "prior.safetensors", "--validation", source)
    assert result.exit_code == 0, result.stderr
    # Three steps teach little: an error near the noise, 50 of 255, is 14 dB; near nothing it would be 60 dB and more.
    assert 5 < read_card(tmp_path / "prior.safetensors")["denoising_psnr_db"]["50"] < 30


def test_a_card_says_what_was_started_from_and_no_figure_that_was_not_measured(tmp_path):
    images, first = pictures(tmp_path / "images", 0), tmp_path / "first.safetensors"
    assert train(images, "-o", first, "--licence", "for our ward alone").exit_code == 0
    second = tmp_path / "second.safetensors"
    assert train(images, "-o", second, "--init", first).exit_code == 0
    start = {"name": "first", "sha256": read_card(first)["sha256"], "licence": "for our ward alone"}
    assert read_card(second)["started_from"] == start
    assert {"started_from", "denoising_psnr_db"}.isdisjoint(read_card(first))


@pytest.mark.parametrize("kind", ["denoiser", "conditional"])
def test_a_start_of_other_levels_is_refused_with_those_that_it_has(tmp_path, kind):
    images, out = pictures(tmp_path / "images", 0), tmp_path / "prior.safetensors"
    words = ["train", kind, str(images), "-o", str(out), "--init", "medical", *TINY]
    if kind == "conditional":
        words += ["--channels", "1", "--task", "denoise:0.1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.stderr
    told = " ".join(result.stderr.split())
    assert "medical: a network of widths" in told
    assert "add --widths 64,96,128 --blocks 3,2,2" in told
    assert not out.exists()


def test_a_rate_beyond_all_measure_is_refused(tmp_path):
    images = pictures(tmp_path / "images", 0)
    result = train(images, "-o", tmp_path / "prior.safetensors", "--rate", "1e30")
    assert result.exit_code == 2
    assert "rate" in result.stderr


def test_precision_is_on_the_card_and_belongs_to_the_training(tmp_path):
    folder, out = pictures(tmp_path / "pictures", 0), tmp_path / "prior.safetensors"
    assert train(folder, "-o", out, "--precision", "bfloat16").exit_code == 0
    assert read_card(out)["trained_on"]["precision"] == "bfloat16"
    other = train(folder, "-o", out, "--steps", 4, "--precision", "float32")
    assert other.exit_code == 2
    assert "precision bfloat16, now float32" in other.stderr
    unknown = train(folder, "-o", tmp_path / "b.safetensors", "--precision", "float16")
    assert unknown.exit_code == 2
    assert "auto, float32, bfloat16" in unknown.stderr


def test_augment_deforms_crops_and_belongs_to_the_training(tmp_path):
    folder, out = pictures(tmp_path / "pictures", 0), tmp_path / "prior.safetensors"
    assert train(folder, "-o", out, "--augment", 0.5).exit_code == 0
    assert read_card(out)["trained_on"]["augment"] == 0.5
    other = train(folder, "-o", out, "--steps", 4)
    assert other.exit_code == 2
    assert "--augment" in other.stderr
    assert train(folder, "-o", tmp_path / "b.safetensors", "--augment", 1.5).exit_code == 2
