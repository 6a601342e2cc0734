"""Training of conditional models and autoencoders: tasks as they will be met, families' levels, learning, cards."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data as pictures

from restore.datasets.picture.images import write_image
from restore.errors import ConfigError
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.kernels import parse_kernel
from restore.pipelines.train_job import (
    train_autoencoder_job,
    train_conditional_job,
    train_latent_job,
)
from restore.pipelines.train_setup import TrainJob, TrainSource, parse_source
from restore.priors.bridge_edm import BridgeDenoiser
from restore.priors.latent_edm import LatentEDM
from restore.priors.store import load_prior, read_card
from restore.training.degradations import parse_task
from restore.training.families import FAMILIES, family
from restore.training.loop import Budget

SAMPLED = 0.05  # a deviation over 1e4 pixels of a fixed seed
LAST = 0.02  # the largest of some thousand times drawn
SHARE = 0.07  # of 5000 draws: ten deviations of a mean of yes and no
PSNR_DB = 0.1  # the card rounds to a tenth


def test_tasks_are_read_from_text():
    task = parse_task("deblur:gaussian:1.6@0.01")
    assert (task.task, task.value, task.noise, str(task)) == (
        "deblur", "gaussian:1.6", 0.01, "deblur:gaussian:1.6@0.01",
    )  # fmt: skip
    for text in ("sharpen", "superres:big", "denoise@loud", "denoise@-1", "deblur:gauss"):
        with pytest.raises(ConfigError):
            parse_task(text)


def test_a_degraded_crop_is_what_a_user_would_bring(generator):
    x0 = torch.rand(3, 16, 16, generator=generator)
    g = torch.Generator().manual_seed(4)
    assert parse_task("denoise@0.1").degrade(x0, g).shape == x0.shape
    small = Downsample((3, 16, 16), 4)
    torch.testing.assert_close(
        parse_task("superres:4").degrade(x0, g), small.interpolate(small(x0))
    )
    blurred = parse_task("deblur:gaussian:1").degrade(x0, g)
    torch.testing.assert_close(
        blurred, Blur(parse_kernel("gaussian:1"), (3, 16, 16), "reflect")(x0)
    )
    holes = parse_task("inpaint:0.3").degrade(x0, g)
    seen = holes != 0
    assert 0.1 < float(seen.float().mean()) < 0.5
    assert torch.equal(holes[seen], x0[seen])
    noisy = parse_task("denoise@0.1").degrade(torch.zeros(3, 64, 64), g)
    assert float(noisy.std()) == pytest.approx(0.1, rel=SAMPLED)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_families_draw_levels_of_their_bridge(name, generator):
    made = family(name)
    drawn = made.draw(500, generator)
    assert drawn.a.shape == drawn.c.shape == drawn.t.shape == (500,)
    assert bool((drawn.c > 0).all())
    assert bool(((drawn.a >= 0) & (drawn.a <= 1)).all())
    assert made.bridge == ("" if name == "any" else name)
    last = {"resshift": 2 * 0.99 / 2, "rddm": 0.05, "mrs": 50 / 255}.get(name)
    if last is not None:  # the stationary noise in images of [0, 1]
        assert float(drawn.c.max()) == pytest.approx(last, rel=LAST)


def test_most_levels_of_a_network_for_all_bridges_leave_the_degraded_image_alone(generator):
    """Two thirds of them, by the two laws that half of the crops have each."""
    drawn = family("any").draw(5000, generator)
    assert float((drawn.c > 0.3).float().mean()) == pytest.approx(0.683, abs=SHARE)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_loss_vanishes_at_the_truth_alone(name, generator):
    made = family(name)
    x0, y, n = torch.rand(3, 6, 3, 8, 8, generator=generator)
    drawn = made.draw(6, generator)
    a, c = (v[:, None, None, None] for v in (drawn.a, drawn.c))
    x = a * x0 + (1 - a) * y + c * n
    right, wrong = made.loss(x0, x, x0, y, drawn), made.loss(x0 + 0.1, x, x0, y, drawn)
    # IR-SDE compares an Euler step with the optimal one: they differ a little even for the right noise.
    assert float(right) < (0.02 if name == "mrs" else 1e-3) * float(wrong)


def test_unknown_families_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'resshift'"):
        family("reshift")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    picture = np.moveaxis(pictures.astronaut()[:96, :96], -1, 0).astype(np.float32) / 255
    for k in range(2):
        write_image(
            np.ascontiguousarray(picture[:, :, ::-1] if k else picture), folder / f"{k}.png"
        )
    return folder


def job(photographs: Path, out: Path, steps: int, crop: int = 32) -> TrainJob:
    return TrainJob(
        (TrainSource(str(photographs)),), out, 3, photographs, Budget(steps, 1e6, warmup=2, ema=0.8), 4, crop, 0,
        "mine", "cpu", lambda record: None,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_conditional_model_learns_and_is_saved_with_its_tasks(photographs, tmp_path, name):
    made = job(photographs, tmp_path / "model.safetensors", 12)
    path = train_conditional_job(made, name, ["superres:4", "denoise@0.1"], (8, 8), (1, 1), "")
    model, card = load_prior(path), read_card(path)
    assert isinstance(model, BridgeDenoiser)
    assert model.tasks == ("superres", "denoise")
    assert model.bridge == ("" if name == "any" else name)
    assert card["trained_on"]["steps"] == 12
    assert all(math.isfinite(v) for v in card["restoration_psnr_db"].values())
    assert (tmp_path / "model.log.jsonl").read_text().count("\n") == 1


def test_a_conditional_model_starts_from_a_bundled_denoiser(photographs, tmp_path):
    made = job(photographs, tmp_path / "model.safetensors", 1)
    path = train_conditional_job(made, "any", ["denoise@0.1"], (64, 96, 128), (3, 2, 2), "natural")
    # The exit starts at zero: one step later the model still answers nearly as the mixture does.
    assert read_card(path)["restoration_psnr_db"]["denoise@0.1"] > 18


def test_an_autoencoder_and_its_codes(photographs, tmp_path):
    auto = train_autoencoder_job(
        job(photographs, tmp_path / "auto.safetensors", 30), (8, 8), (1, 1), 4
    )
    figure = read_card(auto)["round_trip_psnr_db"]
    assert figure > 10
    path = train_latent_job(
        job(photographs, tmp_path / "latent.safetensors", 5), auto, (8, 8), (1, 1)
    )
    model = load_prior(path)
    assert isinstance(model, LatentEDM)
    assert read_card(path)["round_trip_psnr_db"] == pytest.approx(figure, abs=PSNR_DB)
    z = model.encode(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert float(z.abs().max()) < 30


def test_a_finished_training_is_continued_to_nothing(photographs, tmp_path):
    made = job(photographs, tmp_path / "model.safetensors", 3)
    first = train_conditional_job(made, "any", ["denoise@0.1"], (8, 8), (1, 1), "").read_bytes()
    again = train_conditional_job(made, "any", ["denoise@0.1"], (8, 8), (1, 1), "").read_bytes()
    assert first == again


def test_outputs_and_sources_are_checked(photographs, tmp_path):
    with pytest.raises(ConfigError, match="safetensors"):
        job(photographs, tmp_path / "model.pt", 1)
    assert parse_source("a:b.nii.gz:0.3:ct") == TrainSource("a:b.nii.gz", 0.3, "CT")
    assert parse_source("folder") == TrainSource("folder")
    with pytest.raises(ConfigError, match="two levels"):
        train_autoencoder_job(job(photographs, tmp_path / "a.safetensors", 1), (8,), (1, 1), 4)
