"""Priors on disk: what is written is read back, and every damage is named."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from restore.bridges.base import Level
from restore.errors import WeightsError
from restore.priors.bridge_edm import BridgeDenoiser
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.latent_edm import LatentEDM
from restore.priors.store import bundled, kind_of, load_prior, read_card, save_prior
from restore.priors.traits import card_traits
from restore.priors.unet import UNetConfig
from restore.priors.varnet import VarNet

TINY = UNetConfig(widths=(8, 8), blocks=(1, 1), embedding=16)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    prior = build_unet_denoiser(TINY, sigma_data=0.4, name="tiny")
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in prior.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    prior.sigma_min, prior.sigma_max, prior.intensity = 0.01, 20.0, (0.0, 2.0)
    return save_prior(tmp_path / "tiny.safetensors", prior, {"licence": "mine", "sha256": "old"})


def change_card(path: Path, **entries: object) -> None:
    card_file = path.with_suffix(".json")
    card = json.loads(card_file.read_text()) | entries
    card_file.write_text(json.dumps({k: v for k, v in card.items() if v is not ...}))


def change_weights(path: Path, change) -> None:
    """Rewrite the weights and the digest in the card: damage that a digest does not show."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@torch.no_grad()
def test_round_trip(saved):
    prior = load_prior(saved)
    assert (prior.name, prior.channels, prior.sigma_data) == ("tiny", 1, 0.4)
    assert (prior.sigma_min, prior.sigma_max, prior.intensity) == (0.01, 20.0, (0.0, 2.0))
    again = save_prior(saved.with_name("again.safetensors"), prior, {})
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(load_prior(again)(x, 0.2), prior(x, 0.2))
    assert not any(p.requires_grad for p in prior.network.parameters())


def test_card_is_complete_and_tells_the_truth(saved):
    card = read_card(saved)
    assert card["licence"] == "mine"
    assert card["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert card["parameters"] == sum(t.numel() for t in load_file(saved).values())
    assert card["network"]["widths"] == [8, 8]
    assert (card["name"], card["schema"], card["complex_mode"]) == ("tiny", 1, "separate")


def test_bundled_priors_load_quickly_and_answer():
    assert {"medical", "natural", "natural-restore", "natural-latent"} <= set(bundled())
    for name in bundled():
        start = time.process_time()
        prior = load_prior(name)
        assert time.process_time() - start < 10  # a tenth of it on a quiet machine
        assert (prior.name, prior.kind) == (name, kind_of(name))
        if isinstance(prior, VarNet):
            given = torch.zeros(1, 2 + 2 + prior.memory, 16, 16).split((2, 2, prior.memory), 1)
            assert all(out.isfinite().all() for out in prior(0, *given))
            continue
        zeros = torch.zeros(1, prior.channels, 16, 16)
        if isinstance(prior, BridgeDenoiser):
            answer = prior(zeros, Level(0, 0.5, 0.1), zeros)[0]
        elif isinstance(prior, LatentEDM):
            answer = prior.decode(prior.denoise(prior.encode(zeros), 0.1))
        else:
            answer = prior(zeros, 0.1)
        assert answer.isfinite().all()


def test_bundled_files_stay_small():
    assert sum(p.stat().st_size for p in bundled().values()) < 60e6


def test_unknown_names(saved):
    with pytest.raises(WeightsError, match=r"no prior 'nope'.*medical"):
        load_prior("nope")
    with pytest.raises(WeightsError, match="no prior"):
        load_prior(saved.with_name("missing.safetensors"))
    with pytest.raises(WeightsError, match="no prior"):
        load_prior(saved.with_suffix(".json"))


def test_weights_that_are_not_the_cards(saved):
    saved.write_bytes(saved.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(WeightsError, match="sha256 is"):
        load_prior(saved)


def test_missing_extra_misshapen_and_nan_tensors_are_named(saved):
    def damage(tensors):
        tensors["stranger"] = tensors.pop("leave.bias")
        tensors["enter.bias"] = tensors["enter.bias"][:3].clone()
        tensors["enter.weight"][0, 0, 0, 0] = torch.nan

    change_weights(saved, damage)
    with pytest.raises(WeightsError) as caught:
        load_prior(saved)
    for part in (
        "leave.bias: missing", "stranger: not of this network", "enter.weight: not finite",
        "enter.bias: shape (3,), expected (8,)",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_truncated_file_with_a_matching_digest(saved):
    saved.write_bytes(saved.read_bytes()[:200])
    change_card(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    with pytest.raises(WeightsError, match="damaged"):
        load_prior(saved)


@pytest.mark.parametrize(
    "entries",
    [
        {"schema": 2},
        {"architecture": "transformer"},
        {"network": ...},
        {"network": {"widths": [10**8, 8], "blocks": [1, 1]}},
        {"network": {"widths": [4096, 4096], "blocks": [100, 100]}},
        {"network": {"secret": 1}},
        {"network": "unet"},
        {"sigma_data": "much"},
        {"sigma_data": 0},
        {"sigma_range": [5, 1]},
        {"sigma_range": [0.1, float("nan")]},
        {"sigma_range": [1]},
        {"intensity": [1, 0]},
        {"intensity": 3},
        {"complex_mode": "phase"},
        {"name": ...},
        {"sha256": ...},
    ],
)
def test_tampered_cards_are_refused(saved, entries):
    change_card(saved, **entries)
    with pytest.raises(WeightsError, match="tiny"):
        load_prior(saved)


def test_an_architecture_that_is_not_known_is_named_before_the_work(saved):
    """It was called a prior of another kind, without the word."""
    change_card(saved, architecture="transformer")
    with pytest.raises(WeightsError, match="architecture 'transformer'"):
        card_traits(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{"])
def test_unreadable_cards_are_refused(saved, content):
    saved.with_suffix(".json").write_bytes(content)
    with pytest.raises(WeightsError, match="card"):
        load_prior(saved)
    saved.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="beside the weights"):
        load_prior(saved)


def test_only_the_packages_network_is_saved(tmp_path):
    with pytest.raises(WeightsError, match="Linear"):
        save_prior(tmp_path / "x.safetensors", EDMDenoiser(torch.nn.Linear(1, 1)), {})
