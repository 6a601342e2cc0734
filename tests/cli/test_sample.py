"""`restore sample`: files, records, sizes, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from restore.cli.sample import rows_of
from restore.datasets.open import read_image

QUICK = ("sample", "--prior", "medical", "--steps", 2)


def test_draws_as_values_and_as_a_picture(verb, tmp_path):
    array, sheet = tmp_path / "draws.npy", tmp_path / "draws.png"
    assert verb(*QUICK, "--count", 3, "--size", "8x16", "-o", array).exit_code == 0
    found = verb(*QUICK, "--count", 3, "--size", "8x16", "-o", sheet)
    assert "3 of medical, 2 evaluations each" in found.stdout
    values = np.load(array)
    assert (values.shape, values.dtype) == ((3, 1, 8, 16), np.float32)
    shown = read_image(sheet).data
    assert shown.shape == (1, 8, 3 * 17 - 1)
    # 8 bits
    np.testing.assert_allclose(shown[0, :, :16], values[0, 0].clip(0, 1), atol=0.5 / 255 + 1e-6)
    record = json.loads(sheet.with_suffix(".json").read_text())
    assert (record["count"], record["size"], record["settings"]["n_steps"]) == (3, [8, 16], 2)


def test_rows_hold_every_picture_once():
    images = torch.arange(1.0, 8)[:, None, None, None].expand(7, 1, 3, 3)
    sheet = rows_of(images)[0]
    assert sheet.shape == (3 * 4 - 1, 3 * 4 - 1)
    assert [float(sheet[4 * r, 4 * c]) for r in range(3) for c in range(3)] == [*range(1, 8), 1, 1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--size", "0"), 2, "--size 0: expected pixels"),
        (("--size", "3x4x5"), 2, "--size 3x4x5: expected pixels"),
        (("--prior", "natural-restore"), 2, "knows pictures only beside a degraded one"),
        (("--prior", "nobody"), 6, "no prior 'nobody'"),
        (("--set", "gama=3"), 2, "no setting 'gama'"),
        (("-o", "draws.gif"), 2, "draws are written as"),
        (("--size", "400000"), 7, "GB of memory"),
    ],
)
def test_what_cannot_be_is_refused(verb, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    found = verb(*QUICK, *words)
    assert found.exit_code == code
    assert said in found.stderr
    assert not [*tmp_path.iterdir()]


def test_the_card_names_the_command(verb):
    assert "its draws: restore sample --prior natural\n" in verb("models", "show", "natural").stderr
    assert (
        "no draws: 'natural-restore' is a cond" in verb("models", "show", "natural-restore").stderr
    )
