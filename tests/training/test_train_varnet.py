"""`restore train varnet` from volumes to a card: what it learns, what it refuses, that it goes on as if not stopped."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.priors.acquisition import Acquisition
from restore.priors.store import load_prior, read_card
from restore.priors.varnet import VarNetConfig
from restore.training import loop
from restore.training.loop import Budget
from restore.training.varnet import Measured, VarNetTraining, reconstruction_psnr, train_varnet

TINY = (
    "--minutes", "1000", "--batch", "2", "--crop", "16", "--widths", "8", "--blocks", "1", "--cascades", "2",
    "--precision", "float32",
)  # fmt: skip
DRAWN = 0.05  # of 20 000 normal numbers, a deviation from their deviation: 0.5 %, ten times


def volume(path: Path, low: float = 0.0) -> Path:
    grid = np.linspace(-1, 1, 32)
    ball = np.clip(1.2 - grid[:, None, None] ** 2 - grid[:, None] ** 2 - grid**2, 0, None)
    data = (ball * (1 + 0.3 * np.sin(9 * grid)) + low).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def train(*arguments: object, steps: int = 3):
    words = ["train", "varnet", *map(str, arguments), *TINY, "--steps", str(steps)]
    return CliRunner().invoke(app, words)


def test_a_card_says_what_it_was_trained_on(tmp_path):
    source, out = volume(tmp_path / "ball.nii"), tmp_path / "mine.safetensors"
    told = (
        "--acceleration",
        4,
        "--acceleration",
        6,
        "--mask",
        "equispaced",
        "--coils",
        5,
        "--noise",
        "0.001,0.01",
    )
    result = train(source, "-o", out, "--validation", source, *told)
    assert result.exit_code == 0, result.stderr
    card, model = read_card(out), load_prior(out)
    assert model.acquisition == Acquisition((4.0, 6.0), ("equispaced",), (5,), (0.001, 0.01))
    assert card["subjects"] == "ball.nii"
    assert card["scaling"] == {"MR": "0.999 quantile of the magnitude"}
    assert card["trained_on"]["steps"] == 3
    assert card["reconstruction_psnr_db"]["at"] == "4x with equispaced masks, 5 coils"
    assert card["reconstruction_psnr_db"]["varnet"] > 10


def test_no_other_training_is_taken_for_it(tmp_path):
    source, out = volume(tmp_path / "ball.nii"), tmp_path / "mine.safetensors"
    assert train(source, "-o", out, steps=2).exit_code == 0
    for change in (("--acceleration", 8), ("--memory", 1), ("--noise", "0.001,0.02")):
        result = train(source, "-o", out, *change, steps=4)
        assert result.exit_code == 2
        assert "--restart" in result.stderr
    assert read_card(out)["trained_on"]["steps"] == 2


def test_one_that_was_ended_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)  # after every step
    settings = VarNetTraining(budget=Budget(steps=4), batch=2, crop=24)

    def run(state: str, ends: int) -> dict[str, torch.Tensor]:
        made = train_varnet(
            Discs(ends), [], settings, VarNetConfig(2, (8,), (1,)), tmp_path / state
        )
        return made[0].network.state_dict()

    whole = run("whole.safetensors", 100)
    with pytest.raises(KeyboardInterrupt):
        run("parts.safetensors", 2)
    parts = run("parts.safetensors", 100)
    assert all(torch.equal(parts[k], v) for k, v in whole.items())


def test_wrong_data_are_refused(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(2):
        write_image(np.random.default_rng(k).random((1, 32, 32)), pictures / f"{k}.png")
    out = tmp_path / "x.safetensors"
    for arguments, words in (
        ((pictures,), "photographs alone teach no MR images"),
        ((f"{volume(tmp_path / 'ct.nii')}:1:ct",), "CT, whose images are real"),
        ((volume(tmp_path / "ball.nii"), "--mask", "spiral"), "unknown mask"),
        ((tmp_path / "ball.nii", "--noise", "much"), "is not a range"),
        ((tmp_path / "ball.nii", "--acceleration", 40), "no k-space line is left"),
    ):
        result = train(*arguments, "-o", out)
        assert result.exit_code == 2, (words, result.stderr)
        assert words in result.stderr
    assert not out.exists()


def test_simulated_noise_and_masks_are_as_told():
    own = Acquisition((2.0, 4.0), ("random", "random2d"), (3,), (0.05, 0.05))
    made = Measured.drawn(own, 8, (32, 32), [0, 1])
    shares = made.masks.double().mean((1, 2))
    assert {round(1 / s, 1) for s in shares.tolist()} == {2.0, 4.0}
    assert float(made.noise.real.std()) == pytest.approx(0.05, rel=DRAWN)
    term = made.term(torch.zeros(8, 32, 32, dtype=torch.complex64))
    assert bool((term.y[(made.masks == 0)[:, None].expand_as(term.y)] == 0).all())
    again = Measured.drawn(own, 8, (32, 32), [0, 1])
    assert torch.equal(again.noise, made.noise)
    assert torch.equal(again.masks, made.masks)


class Discs:
    """Discs of many sizes, as complex images; at step `ends` somebody interrupts."""

    fingerprint = "discs"

    def __init__(self, ends: int = 10_000) -> None:
        self.ends = ends

    def batch(self, step: int, size: int) -> torch.Tensor:
        if step == self.ends:
            raise KeyboardInterrupt
        g = torch.Generator().manual_seed(step)
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        radius, middle = (
            4 + 6 * torch.rand(size, 1, 1, generator=g),
            8 + 8 * torch.rand(2, size, 1, 1, generator=g),
        )
        inside = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2).float()
        return torch.stack([inside, 0 * inside], 1)


@pytest.mark.slow
def test_it_learns_to_beat_its_start(tmp_path):
    """Discs at 4x, which a small network makes better in a few steps."""
    settings = VarNetTraining(
        Acquisition((4.0,), noise=(0.01, 0.01)),
        Budget(steps=40, warmup=5, ema=0.9),
        batch=4,
        crop=24,
    )
    validation = list(Discs().batch(1000, 4))
    model, _ = train_varnet(
        Discs(), validation, settings, VarNetConfig(2, (16,), (1,)), tmp_path / "state.safetensors"
    )
    found = reconstruction_psnr(model, validation)["psnr"]
    assert found["varnet"] > found["cgsense"] + 0.1  # 0.5 seen
