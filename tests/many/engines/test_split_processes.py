"""One image restored by two processes: the image of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.open import read_image
from restore.datasets.picture.images import write_image

CODED = (
    1 / 255 + 1e-6
)  # a value on the edge between two numbers of 8 bits; the images agree to 1e-5


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = (
        tmp_path / "photo.png"
    )  # so high that a strip with the 96 rows beyond it is not all of it
    write_image(np.random.default_rng(0).random((1, 288, 16)), path)
    return path


def restored(photo: Path, name: str, *more: str) -> tuple[np.ndarray, list[str]]:
    out = photo.with_name(name)
    words = ["image", photo, "-o", out, "--task", "deblur", "--kernel", "gaussian:1", "--noise", "0.02",
             "--steps", "3", "--precision", "float32", *more]  # fmt: skip
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, done.stderr
    return read_image(out).data, json.loads(out.with_suffix(".json").read_text())["notes"]


def test_two_processes_make_the_image_of_one(photo: Path) -> None:
    alone, _ = restored(photo, "alone.png")
    split, notes = restored(
        photo, "split.png", "--engine", "processes:2", "--split-image", "--prior", "medical"
    )
    np.testing.assert_allclose(split, alone, atol=CODED)
    assert "images were split among 2 places in 3 of 3 network calls" in notes


def test_a_split_needs_several_processes(photo: Path) -> None:
    words = ["image", str(photo), "-o", "x.png", "--task", "denoise", "--split-image"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "--split-image needs several processes" in found.stderr
