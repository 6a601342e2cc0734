"""`restore train gaussian`: from a folder of pictures to a card that start=gaussian uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.priors.edm import build_unet_denoiser
from restore.priors.store import save_prior
from restore.priors.unet import UNetConfig

SIDE = 32


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        data = np.clip(rng.normal(100 + 20 * k, 30, (SIDE, SIDE)), 0, 255).astype(np.uint8)
        Image.fromarray(data).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    out = tmp_path / "small.safetensors"
    return save_prior(
        out, build_unet_denoiser(UNetConfig(1, (8,), (1,)), name="small"), {"licence": "none"}
    )


def test_a_card_is_written_and_used(verb, tmp_path, pictures, small):
    out = tmp_path / "measured.safetensors"
    told = verb("train", "gaussian", small, pictures, "-o", out)
    assert told.exit_code == 0, told.stderr
    assert told.stdout == f"{out}\n"
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["images_measured_on"] == {"images": 3, "of": ["pictures"]}
    assert card["image_spectrum"]["mean"] == pytest.approx(120 / 255, abs=0.02)
    words = "--task denoise --noise 0.1 --set start=gaussian --set n_steps=4 --set skip=0.5".split()
    restored = tmp_path / "restored.png"
    done = verb(
        "image", pictures / "0.png", "-o", restored, "--prior", out, "--sampler", "dds", *words
    )
    assert done.exit_code == 0, done.stderr
    assert restored.exists()
    refused = verb(
        "image",
        pictures / "0.png",
        "-o",
        tmp_path / "no.png",
        "--prior",
        small,
        "--sampler",
        "dds",
        *words,
    )
    assert refused.exit_code != 0
    assert "restore train gaussian" in refused.stderr


@pytest.mark.parametrize(
    ("out", "said"), [("small.safetensors", "exists"), ("measured.pt", "written as .safetensors")]
)
def test_names_that_cannot_be_written_are_refused(verb, tmp_path, pictures, small, out, said):
    told = verb("train", "gaussian", small, pictures, "-o", tmp_path / out)
    assert told.exit_code != 0
    assert said in told.stderr
