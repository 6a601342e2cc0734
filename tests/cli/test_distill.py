"""`restore distill` from files to a model that reconstructs: what it writes, how it goes on, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from docs.pages import blocks, commands
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.priors.distilled import DistilledModel
from restore.priors.edm import build_unet_denoiser
from restore.priors.store import load_prior, read_card, save_prior
from restore.priors.unet import UNetConfig
from restore.training import loop
from restore.training.degradations import parse_task
from restore.training.distillation import Distillation, train_distilled
from restore.training.loop import Budget

PAGE = Path(__file__).resolve().parents[2] / "docs" / "few-steps.md"
TINY = ("--minutes", "1000", "--batch", "2", "--crop", "16", "--precision", "float32")


def distil(*words: object, steps: int = 3):
    return CliRunner().invoke(app, ["distill", *map(str, words), *TINY, "--steps", str(steps)])


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A small denoiser of one channel, whose ends are no zeros."""
    denoiser = build_unet_denoiser(UNetConfig(1, (8, 8), (1, 1), embedding=8))
    g = torch.Generator().manual_seed(0)
    for p in denoiser.network.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=g)
    return save_prior(tmp_path / "start.safetensors", denoiser, {"licence": "for our ward"})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    g = torch.Generator().manual_seed(1)
    for k in range(2):
        write_image(torch.rand(1, 32, 32, generator=g).numpy(), folder / f"{k}.png")
    return folder


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_denoiser_becomes_a_model_of_a_few_steps(tmp_path, start, images):
    out = tmp_path / "few.safetensors"
    result = distil(
        images, "-o", out, "--prior", start, "--task", "inpaint:0.3@0.01", "--validation", images
    )
    assert result.exit_code == 0, result.stderr
    model, card = load_prior(out), read_card(out)
    assert isinstance(model, DistilledModel)
    assert model.steps.count == 3
    assert card["started_from"] == {
        "name": "start", "sha256": read_card(start)["sha256"], "licence": "for our ward",
    }  # fmt: skip
    assert (card["family"]["words"], card["family"]["noise"]) == ("inpaint:0.3@0.01", 0.01)
    assert card["family"]["strength"]["share of seen pixels"] == pytest.approx(0.3, abs=0.02)
    assert list(card["restoration_psnr_db"]) == ["inpaint:0.3@0.01"]
    assert (card["trained_on"]["steps"], card["data"][0]["name"]) == (3, "images")
    # All was learnt: the network, and each of the numbers of its steps.
    first = load_prior(start).network.state_dict()
    assert any(not torch.equal(v, first[k]) for k, v in model.denoiser.network.state_dict().items())
    fresh = Distillation(parse_task("inpaint:0.3")).first
    for name in ("sigmas", "weights", "mixes"):
        pairs = zip(getattr(model.steps, name), getattr(fresh, name), strict=True)
        assert all(now != then for now, then in pairs), name


def test_another_task_start_or_length_with_the_same_out_is_refused(tmp_path, start, images):
    out = tmp_path / "few.safetensors"
    usual = ["-o", out, "--prior", start, "--task", "superres:2"]
    assert distil(images, *usual, steps=1).exit_code == 0
    kept = out.read_bytes()
    for change, words in (
        (["--task", "superres:4"], "value 2, now 4"),
        (["--evaluations", 2], "evaluations 3, now 2"),
        (["--prior", "medical"], "another prior to start from"),
        (["--seed", 1], "seed 0, now 1"),
    ):
        result = distil(images, *usual, *change)
        assert result.exit_code == 2
        assert words in flat(result.stderr), result.stderr
    assert out.read_bytes() == kept


@pytest.mark.parametrize(
    ("task", "prior", "words"),
    [
        ("sharpen", "", "unknown training task 'sharpen'"),
        ("inpaint:often", "", "'often' is no number"),
        ("inpaint:0.3", "natural-restore", "a BridgeDenoiser, expected EDMDenoiser"),
        ("inpaint:0.3", "nothing", "no prior 'nothing'"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_the_images_are_read(
    tmp_path, start, task, prior, words
):
    result = distil(
        tmp_path / "none", "-o", tmp_path / "few.safetensors", "--prior", prior or start, "--task", task
    )  # fmt: skip
    assert result.exit_code != 0
    assert words in flat(result.stderr), result.stderr
    assert not (tmp_path / "few.safetensors").exists()


def test_a_prior_of_complex_images_is_refused(tmp_path, images):
    pairs = build_unet_denoiser(UNetConfig(2, (8,), (1,), embedding=8))
    path = save_prior(tmp_path / "complex.safetensors", pairs, {})
    result = distil(
        images, "-o", tmp_path / "o.safetensors", "--prior", path, "--task", "denoise@0.1"
    )
    assert result.exit_code == 2
    assert "a prior of complex images" in flat(result.stderr)


class Interrupted(Exception):
    """Ends a training in the middle."""


class Crops:
    """Noise for images, until it breaks off."""

    fingerprint = "crops"

    def __init__(self, breaks_at: int = 100) -> None:
        self.breaks_at = breaks_at

    def batch(self, step: int, size: int) -> torch.Tensor:
        if step == self.breaks_at:
            raise Interrupted
        return torch.rand(size, 1, 16, 16, generator=torch.Generator().manual_seed(step))


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)  # a state after every step
    settings = Distillation(parse_task("inpaint:0.5"), 3, Budget(4, 1000.0), 2, 16)
    prior = build_unet_denoiser(UNetConfig(1, (8,), (1,), embedding=8))

    def ended(corpus: Crops, name: str) -> DistilledModel:
        return train_distilled(corpus, [], settings, prior, tmp_path / f"{name}.safetensors")[0]

    whole = ended(Crops(), "whole")
    with pytest.raises(Interrupted):
        ended(Crops(breaks_at=2), "broken")
    again = ended(Crops(), "broken")
    assert again.steps == whole.steps
    for one, other in zip(
        again.denoiser.network.parameters(), whole.denoiser.network.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_the_commands_of_the_page_run(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    g = torch.Generator().manual_seed(2)
    for folder in ("photographs", "held_out"):
        (tmp_path / folder).mkdir()
        for k in range(2):
            write_image(torch.rand(3, 32, 32, generator=g).numpy(), tmp_path / folder / f"{k}.png")
    write_image(torch.rand(3, 32, 32, generator=g).numpy(), tmp_path / "photo.png")
    known = (torch.rand(1, 32, 32, generator=g) < 0.3).float()
    write_image(known.numpy(), tmp_path / "known.png")
    shell, *_ = blocks(PAGE)
    for _, *words in commands(shell):
        short = ("--steps", "1", "--batch", "2", "--crop", "16") if words[0] == "distill" else ()
        done = verb(*words, *short)
        assert done.exit_code == 0, (words, done.stderr)
    assert "were not made for this" not in done.stderr
