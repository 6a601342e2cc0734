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


@pytest.mark.parametrize(
    ("inputs", "engine", "said"),
    [
        (["photo.png"], [], "--split-image needs several processes"),
        (["photo.png"], ["--engine", "processes:1"], "--split-image needs several processes"),
        (
            ["photo.png", "more.png"],
            ["--engine", "processes:2"],
            "is for one input, and there are 2",
        ),
    ],
)
def test_a_split_is_for_one_input_and_several_processes(
    photo: Path, inputs: list[str], engine: list[str], said: str
) -> None:
    photo.with_name("more.png").write_bytes(photo.read_bytes())
    paths = [str(photo.with_name(name)) for name in inputs]
    out = str(photo.with_name("out") / "x.png" if len(inputs) == 1 else photo.with_name("out"))
    words = ["image", *paths, "-o", out, "--task", "denoise", "--split-image", *engine]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert said in found.stderr
