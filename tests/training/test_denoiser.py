"""Training a tiny denoiser: it learns, it resumes to the bit, it stops when the loss is lost."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from restore.errors import ConfigError, DivergenceError, OutputError, WeightsError
from restore.priors.edm import EDMDenoiser
from restore.priors.unet import UNetConfig
from restore.training.augmentation import Augmentation
from restore.training.corpus import Corpus
from restore.training.denoiser import (
    DenoiserTraining,
    noise_levels,
    train_denoiser,
)
from restore.training.loop import Budget, append_json_line
from restore.training.sources import Source
from restore.training.validation import denoising_psnr, validation_images

SINGLE = 1e-4  # float32: a small network in two forms, sums of some hundred products
SAMPLED = 0.1  # a median over some thousand draws

TINY = UNetConfig(widths=(8, 8), blocks=(1, 1), unshuffle=1, embedding=16)
PAIRS = UNetConfig(channels=2, widths=(8, 8), blocks=(1, 1), unshuffle=1, embedding=16)
WIDER = UNetConfig(widths=(8, 12), blocks=(1, 1), unshuffle=1, embedding=16)

BUDGET = {f.name for f in dataclasses.fields(Budget)}


def stripes(channels: int = 1) -> Source:
    """Smooth stripes: an easy world."""
    grid = np.linspace(0, 20, 48)
    images = [0.5 + 0.4 * np.sin(grid[:, None] * a + grid * b) for a in (0, 1, 2) for b in (1, 3)]
    stacked = tuple(np.repeat((255 * i).astype(np.uint8)[None], channels, 0) for i in images)
    return Source(stacked, 1.0, True, "stripes")


def settings(**changes) -> DenoiserTraining:
    """Settings of a short training; names of the budget's fields go there."""
    budget = {"steps": 40, "minutes": 1e6, "warmup": 5} | {
        k: v for k, v in changes.items() if k in BUDGET
    }
    rest = {k: v for k, v in changes.items() if k not in BUDGET}
    return DenoiserTraining(**({"budget": Budget(**budget), "batch": 4, "crop": 16} | rest))


def train(state: Path, chosen: DenoiserTraining, *, config: UNetConfig = TINY, **options):
    pairs = config.channels == 2
    corpus = Corpus(
        [stripes(1 if pairs else config.channels)], chosen.crop, chosen.seed,
        Augmentation(phase=0.5 * pairs), channels=config.channels,
    )  # fmt: skip
    return train_denoiser(corpus, [], chosen, config, state, **options)


def weights(prior: EDMDenoiser) -> dict[str, torch.Tensor]:
    return prior.network.state_dict()


def same(a: EDMDenoiser, b: EDMDenoiser) -> bool:
    return all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())


@pytest.fixture
def saved_every_step(monkeypatch) -> None:
    monkeypatch.setattr("restore.training.loop.SAVE_EVERY_S", 0.0)


@pytest.mark.usefixtures("saved_every_step")
def test_training_lowers_the_loss_and_denoises(tmp_path):
    records: list[dict] = []
    images = [torch.from_numpy(i).float() / 255 for i in stripes().images[:2]]
    chosen = settings(steps=120, batch=8, ema=0.9)
    prior, progress = train_denoiser(
        Corpus([stripes()], 16, 0), images, chosen, TINY, tmp_path / "s.safetensors", report=records.append
    )  # fmt: skip
    assert progress.step == len(records) == 120
    losses = [r["loss"] for r in records]
    assert np.mean(losses[-30:]) < 0.75 * np.mean(losses[:10])
    assert records[-1]["psnr"]["50"] > records[0]["psnr"]["50"] + 3
    assert records[-1]["psnr"] == denoising_psnr(prior, images)
    assert (prior.sigma_min, prior.sigma_max) == (chosen.sigma_min, chosen.sigma_max)


class PulledPlug(Exception):
    """Stands for a killed process."""


@pytest.mark.usefixtures("saved_every_step")
@pytest.mark.parametrize(
    ("config", "precision"),
    [
        pytest.param(TINY, "float32", marks=pytest.mark.slow), (TINY, "bfloat16"), (PAIRS, "float32"),
    ],
)  # fmt: skip
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, config, precision):
    chosen = settings(precision=precision)
    whole, _ = train(tmp_path / "whole.safetensors", chosen, config=config)

    def pull(record: dict) -> None:
        if record["step"] in (13, 29):
            raise PulledPlug

    state = tmp_path / "parts.safetensors"
    for _ in range(2):
        with pytest.raises(PulledPlug):
            train(state, chosen, config=config, report=pull)
    parts, progress = train(state, chosen, config=config)
    assert progress.step == 40
    assert same(whole, parts)


def test_a_finished_training_is_returned_as_it_is(tmp_path):
    state = tmp_path / "s.safetensors"
    first, _ = train(state, settings(steps=5))
    content = state.read_bytes()
    second, progress = train(state, settings(steps=5))
    assert progress.step == 5
    assert same(first, second)
    assert state.read_bytes() == content


def test_seed_decides(tmp_path):
    state = torch.random.get_rng_state()
    runs = [
        train(tmp_path / f"{k}.safetensors", settings(steps=5, seed=s))[0]
        for k, s in enumerate((0, 0, 1))
    ]
    assert same(runs[0], runs[1])
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same(runs[0], runs[2])


def test_time_budget_ends_a_training(tmp_path):
    _, progress = train(tmp_path / "s.safetensors", settings(steps=10**6, minutes=1e-4))
    assert 1 <= progress.step < 1000


def test_colour_starts_from_grey(tmp_path):
    grey, _ = train(tmp_path / "grey.safetensors", settings(steps=20))
    three = UNetConfig(channels=3, widths=(8, 8), blocks=(1, 1), unshuffle=1, embedding=16)
    tiny_step = settings(steps=1, warmup=10**9)
    colour, _ = train(tmp_path / "colour.safetensors", tiny_step, config=three, init=grey)
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = colour(x.expand(1, 3, 16, 16), 0.2)
        torch.testing.assert_close(got, grey(x, 0.2).expand(1, 3, 16, 16), rtol=SINGLE, atol=SINGLE)
    with pytest.raises(ConfigError, match="3 channels"):
        train(tmp_path / "back.safetensors", tiny_step, init=colour)


def test_damaged_and_foreign_states_are_refused(tmp_path):
    state = tmp_path / "s.safetensors"
    train(state, settings(steps=2))
    whole = state.read_bytes()
    with safe_open(state, framework="pt") as f:
        tensors = {k: f.get_tensor(k).clone() for k in f.keys()}  # the file is written over
        record = json.loads(f.metadata()["record"])
    state.write_bytes(whole[:100])
    with pytest.raises(WeightsError, match="not a training state"):
        train(state, settings(steps=3))
    for text in ("[1, 2]", "{", '{"a": ' * 100_000):
        save_file(tensors, state, {"record": text})
        with pytest.raises(WeightsError, match="not a training state"):
            train(state, settings(steps=3))
    for progress in ({}, {"step": -1, "seconds": 0}, {"step": 1, "seconds": "long"}, 3):
        save_file(tensors, state, {"record": json.dumps(record | {"progress": progress})})
        with pytest.raises(WeightsError, match="its progress is"):
            train(state, settings(steps=3))
    del tensors["net.enter.weight"]
    save_file(tensors, state, {"record": json.dumps(record)})
    with pytest.raises(WeightsError, match="another network shape"):
        train(state, settings(steps=3))


OTHERS = {
    "other images": {"source": (1, 2)},
    "batch 4, now 8": {"batch": 8},
    "seed 0, now 1": {"seed": 1},
    "rate 1.0, now 0.3": {"rate": 0.3},
    "ema 0.999, now 0.5": {"ema": 0.5},
    "precision float32, now bfloat16": {"precision": "bfloat16"},
    "widths 8, 8, now 8, 12": {"config": WIDER},
    "another prior to start from": {"init": None},
}


@pytest.mark.parametrize("words", OTHERS)
def test_the_state_of_another_training_is_refused(tmp_path, words):
    """It used to be continued: nothing was trained, and the card named images that the network never saw."""
    state, change = tmp_path / "s.safetensors", dict(OTHERS[words])
    train(state, settings(steps=2))
    content = state.read_bytes()
    config = change.pop("config", TINY)
    options = {}
    if "init" in change:
        del change["init"]
        options["init"] = train(tmp_path / "first.safetensors", settings(steps=1, seed=3))[0]
    source = stripes()
    if "source" in change:
        turned = tuple(i[:, :, ::-1] for i in source.images)
        source, change = dataclasses.replace(source, images=turned), {}
    corpus = Corpus([source], 16, 0)
    with pytest.raises(ConfigError, match=f"another kind: .*{words}.*--restart"):
        train_denoiser(corpus, [], settings(steps=3, **change), config, state, **options)
    assert state.read_bytes() == content


def test_a_state_that_does_not_say_what_it_was_made_of_is_refused(tmp_path):
    state = tmp_path / "s.safetensors"
    train(state, settings(steps=2))
    with safe_open(state, framework="pt") as f:
        tensors = {k: f.get_tensor(k).clone() for k in f.keys()}  # the file is written over
    save_file(tensors, state, {"record": '{"progress": {"step": 2, "seconds": 1.0}}'})
    with pytest.raises(ConfigError, match="does not say which images"):
        train(state, settings(steps=3))


def test_a_longer_budget_goes_on(tmp_path):
    state = tmp_path / "s.safetensors"
    train(state, settings(steps=2))
    assert train(state, settings(steps=4))[1].step == 4


def test_the_fingerprint_is_of_content_order_and_shares():
    one = stripes()
    other = dataclasses.replace(one, weight=2.0)
    base = Corpus([one, one], 16, 0).fingerprint
    assert (
        base == Corpus([other, other], 24, 5).fingerprint
    )  # shares alike; crop and seed are options
    assert base != Corpus([one, other], 16, 0).fingerprint
    assert base != Corpus([one], 16, 0).fingerprint
    assert (
        base != Corpus([dataclasses.replace(one, images=one.images[::-1]), one], 16, 0).fingerprint
    )
    touched = [i.copy() for i in one.images]
    touched[3][0, 20, 20] ^= 1
    assert base != Corpus([dataclasses.replace(one, images=tuple(touched)), one], 16, 0).fingerprint


def test_a_disk_that_takes_no_state_is_known_before_the_work(tmp_path, monkeypatch):
    class Never(Corpus):
        """Batches that may not be asked for."""

        def batch(self, step: int, size: int) -> torch.Tensor:
            raise AssertionError("trained although nothing can be written")

    corpus = Never([stripes()], 16, 0)
    with pytest.raises(OutputError, match="no such folder"):
        train_denoiser(corpus, [], settings(), TINY, tmp_path / "none" / "s.safetensors")
    full = SafetensorError("Error while serializing: I/O error: No space left on device")
    monkeypatch.setattr("restore.priors.store.save_file", Mock(side_effect=full))
    with pytest.raises(OutputError, match=r"s\.safetensors: could not be written.*No space"):
        train_denoiser(corpus, [], settings(), TINY, tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_never_replace_a_state(tmp_path):
    state = tmp_path / "s.safetensors"
    train(state, settings(steps=2))
    content = state.read_bytes()

    def burst(network: torch.nn.Module, *rest: object) -> float:
        with torch.no_grad():
            next(iter(network.parameters())).fill_(float("inf"))
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("restore.training.loop._step", burst)
        with pytest.raises(DivergenceError, match="not finite after 3 steps"):
            train_denoiser(Corpus([stripes()], 16, 0), [], settings(steps=3), TINY, state)
    assert state.read_bytes() == content


def test_a_lost_loss_stops(tmp_path):
    class Lost(Corpus):
        """The third batch is not finite."""

        def batch(self, step: int, size: int) -> torch.Tensor:
            return super().batch(step, size) * (float("nan") if step == 2 else 1)

    with pytest.raises(DivergenceError, match="step 2"):
        train_denoiser(Lost([stripes()], 16, 0), [], settings(), TINY, tmp_path / "s.safetensors")


def test_noise_levels_cover_the_range():
    chosen = settings()
    s = noise_levels(chosen, 20000, torch.Generator().manual_seed(0))
    assert float(s.min()) >= chosen.sigma_min * 0.999
    assert float(s.max()) <= chosen.sigma_max * 1.001
    assert float(s.log().median()) == pytest.approx(chosen.log_sigma_mean, abs=SAMPLED)
    assert (
        0.02 < float((s > 5).float().mean()) < 0.05
    )  # the share that is spread over the whole range


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"minutes": 0},
        {"minutes": math.nan},
        {"rate": 1e30},
        {"rate": math.nan},
        {"ema": 1.0},
        {"warmup": 0},
        {"batch": 0},
        {"crop": 4},
        {"sigma_min": 2.0, "sigma_max": 1.0},
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        settings(**changes)


def test_log_lines(tmp_path):
    for k in range(2):
        append_json_line(tmp_path / "log.jsonl", {"step": k})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 0}\n{"step": 1}\n'
    with pytest.raises(OutputError, match="could not be written"):
        append_json_line(tmp_path / "none" / "log.jsonl", {})


def test_validation_images(tmp_path):
    for name in ("astronaut", "camera", "coins"):
        Image.fromarray(getattr(skimage.data, name)()[:150, :201]).save(tmp_path / f"{name}.png")
    images = validation_images(tmp_path, 1, count=2)
    assert len(images) == 2
    for image in images:
        assert image.shape[0] == 1
        assert image.shape[1] % 16 == image.shape[2] % 16 == 0
        assert 0 <= float(image.min()) < float(image.max()) <= 1
