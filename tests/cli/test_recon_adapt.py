"""`restore recon --adapt`: an adapter fitted to the scan, kept beside the result, and used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.datasets.open import read
from restore.datasets.sidecar import read_sidecar
from restore.priors.edm import build_unet_denoiser
from restore.priors.store import read_card, save_prior
from restore.priors.unet import UNetConfig
from restore.training.adaptation import Adaptation

STEPS = ["--steps", "2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A denoiser with random weights: small, and with much to learn."""
    made = build_unet_denoiser(UNetConfig(widths=(8, 12), blocks=(1, 1), embedding=8))
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return save_prior(tmp_path_factory.mktemp("prior") / "tiny.safetensors", made, {"data": []})


@pytest.fixture
def quick(monkeypatch):
    """A fit of a few steps."""
    monkeypatch.setattr(
        "restore.pipelines.adapting.Adaptation",
        lambda: Adaptation(levels=3, slices=1, steps=1, rate=3e-3, held_out=0.1),
    )


def test_the_adapter_is_kept_told_and_repeats_the_result(scans, verb, tmp_path, tiny, quick):
    out = tmp_path / "out.nii.gz"
    options = ["--prior", tiny, *STEPS]
    plain = tmp_path / "plain.nii.gz"
    assert verb("recon", scans / "ct.h5", "-o", plain, *options).exit_code == 0
    assert not (tmp_path / "plain_adapter.safetensors").exists()

    done = verb("recon", scans / "ct.h5", "-o", out, *options, "--adapt", "fit")
    assert done.exit_code == 0, done.stderr
    assert "the prior was adapted to the slices 4 in" in done.stderr
    record = read_sidecar(out)
    kept = tmp_path / "out_adapter.safetensors"
    assert record["outputs"] == [out.name, kept.name]
    assert {e["File"] for e in record["made"]} == {out.name, kept.name}
    assert record["adaptation"]["kept_step"] > 0
    assert record["adaptation"]["slice_numbers"] == [4]
    assert record["prior"]["sha256"] == read_card(tiny)["sha256"]
    assert not np.array_equal(read(out).data, read(plain).data)
    assert (
        "already done"
        in verb("recon", scans / "ct.h5", "-o", out, *options, "--adapt", "fit").stdout
    )

    again = tmp_path / "again.nii.gz"
    done = verb("recon", scans / "ct.h5", "-o", again, *options, "--adapt", kept)
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(read(again).data, read(out).data)
    assert not (tmp_path / "again_adapter.safetensors").exists()
    assert read_sidecar(again)["sources"][-2]["Option"] == "adapt"
    replayed = tmp_path / "replayed.nii.gz"
    done = verb("recon", "--config", tmp_path / "out.json", "-o", replayed)  # fitted anew
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(read(replayed).data, read(out).data)


def test_a_rehearsal_says_what_fitting_costs(scans, verb, tmp_path, tiny):
    out = tmp_path / "out.nii.gz"
    options = ["--prior", tiny, *STEPS, "--adapt", "fit", "--dry-run"]
    done = verb("recon", scans / "mri.h5", "-o", out, *options)
    assert done.exit_code == 0, done.stderr
    assert "at most 189 network calls with gradients before the run" in done.stderr
    assert "MB more memory" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_adapted_is_refused(scans, verb, tmp_path, tiny):
    out = tmp_path / "out.nii.gz"
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"none")
    for words, options in (
        ("FBP uses no denoiser", ["--sampler", "fbp", "--adapt", "fit"]),
        ("no such adapter; --adapt fit", ["--adapt", "fti"]),
        ("not an adapter of `restore recon --adapt fit`", ["--adapt", foreign]),
    ):
        done = verb("recon", scans / "ct.h5", "-o", out, "--prior", tiny, *options)
        assert done.exit_code != 0
        assert words in done.stderr
        assert not out.exists()
