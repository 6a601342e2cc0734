"""D(x, sigma) of a converted model is what its stored outputs say, in the house's intensities; the rest is asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import restore
from restore.errors import ConfigError, WeightsError
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.model_files import Conversion, convert, state
from restore.priors.families.diffusers_model import denoiser
from restore.priors.families.diffusers_scheduler import meaning_of
from restore.priors.families.known import family_of
from restore.priors.families.meaning import Meaning, alphas_cumprod, meaning_from
from restore.priors.nets.diffusers_unet import UNet2DConfig
from restore.priors.store import load_prior
from restore.priors.traits import card_traits

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
SAME = 1e-3
"""Float32 networks, whose outputs differ from float64 by up to 7e-6 of the largest; the noise of up to 160 that eps is
multiplied by, and times between levels that are found from sigma in float32, take two digits more."""

FILES = {
    "adm": ("adm", "adm_additive_convresample.pt"), "ncsnpp": ("ncsnpp", "checkpoint_ve_continuous.pth"),
    "edm": ("edm", "songunet_ddpmpp.pt"),
}  # fmt: skip
SAID = {
    "adm": Meaning(range=(-1.0, 1.0), schedule="linear", prediction="eps"),
    "ncsnpp": Meaning(complex_mode="separate"), "edm": Meaning(range=(-1.0, 1.0), label=2),
}  # fmt: skip


def converted(kind: str, folder: Path, meaning: Meaning | None = None, **settings: Any) -> Path:
    home, name = FILES[kind]
    out = folder / f"{kind}.safetensors"
    said = SAID[kind] if meaning is None else meaning
    convert(
        Conversion(
            GOLDEN / home / name, kind, out, GOLDEN / home / "config.json", settings=settings, meaning=said
        )
    )  # fmt: skip
    return out


def stored(kind: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / FILES[kind][0] / "io.npz") as file:
        return {k: torch.from_numpy(np.asarray(file[k])) for k in file.files}


def close(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max() / expected.abs().max()) < SAME


def test_noise_prediction(tmp_path: Path):
    """x0 = x - sigma eps(x / sqrt(1 + sigma^2), t) at stored times; half of the channels are of the variance."""
    prior, io = load_prior(converted("adm", tmp_path)), stored("adm")
    a = alphas_cumprod("linear:0.0001:0.02:1000")
    for row in (0, 1):
        eps = io[f"additive_convresample_t{row}_f64"][:, :3]
        s = ((1 - a) / a).sqrt()[io["t"][row].long()]
        wide = s[:, None, None, None]
        x = io["x"].double() * (1 + wide**2).sqrt()
        expected = x - wide * eps
        found = prior(((x + 1) / 2).float(), (s / 2).float())
        close(2 * found.double() - 1, expected)


def test_score(tmp_path: Path):
    """x0 = x + sigma^2 score(x, sigma); the network turns 0..1 into its own range itself."""
    prior, io = load_prior(converted("ncsnpp", tmp_path)), stored("ncsnpp")
    sigma = io["ve_sigma"].double()
    x = io["ve_x"].double()
    expected = x + sigma.reshape(-1, 1, 1, 1) ** 2 * io["ve_ema_f64"]
    close(prior(x.float(), sigma.float().expand(len(x))).double(), expected)
    assert (prior.sigma_min, prior.sigma_max, prior.intensity) == (0.01, 378.0, (0.0, 1.0))


def test_denoiser(tmp_path: Path):
    """The stored D itself, without a class, at half of the noise in 0..1."""
    io = stored("edm")
    said = Meaning(range=(-1.0, 1.0), label=-1)
    prior = load_prior(converted("edm", tmp_path, said, precond="EDMPrecond"))
    found = prior((io["x"] + 1) / 2, io["sigma"][0].float() / 2)
    close(2 * found.double() - 1, io["D_songunet_ddpmpp_EDMPrecond_nolabel_s0_f64"])
    assert (prior.sigma_min, prior.sigma_max) == (0.001, 40.0)


def test_noise_of_the_preserving_chain():
    """sigma(t) of the VP preconditioning at stored times."""
    io = stored("edm")
    config = family_of("edm").config(
        {"model_type": "SongUNet", "img_resolution": 16, "img_channels": 3, "precond": "vp"}
    )
    found = [config.vp_sigma(float(t)) for t in io["vp_t"].flatten()]
    # The stored times are in float32, and sigma grows by some 10 times its size over them.
    np.testing.assert_allclose(found, io["vp_sigma"].flatten(), rtol=1e-5)
    assert config.noise_range() == pytest.approx((0.0010, 152.167), rel=2e-2)


@pytest.mark.parametrize("kind", FILES)
def test_a_converted_model_is_a_prior_at_once(kind: str, tmp_path: Path):
    """`restore.solve` takes the file by its name, checks it by its card, and gives a finite image of the same shape."""
    path = converted(kind, tmp_path, **({"precond": "EDMPrecond"} if kind == "edm" else {}))
    traits = card_traits(path)
    assert traits.kind == "denoiser"
    shape = (
        (3, 18, 15) if traits.channels == 3 else (18, 15)
    )  # sides are padded to what the network divides
    operator = Inpainting(
        torch.rand(shape[-2:], generator=torch.Generator().manual_seed(1)) < 0.7, shape
    )
    y = operator(torch.full(shape, 0.5))
    found = restore.solve(y, operator, noise=0.05, prior=str(path), sampler="dds", n_steps=3)
    assert found.image.shape == shape
    assert bool(found.image.isfinite().all())
    assert kind in str(found.provenance["prior"])


def test_what_is_not_said_is_asked(tmp_path: Path):
    path = converted("adm", tmp_path, Meaning())
    with pytest.raises(
        ConfigError, match=r"do not tell range, schedule, prediction.*restore models state adm"
    ):
        load_prior(path)
    with pytest.raises(ConfigError, match="--range LOW:HIGH"):
        card_traits(path)
    state(path, Meaning(range=(0.0, 1.0)), {})
    with pytest.raises(ConfigError, match="do not tell schedule, prediction, and"):
        load_prior(path)
    state(path, Meaning(schedule="cosine:1000", prediction="v"), {})
    prior = load_prior(path)
    assert type(prior).__name__ == "FromV"
    assert prior.intensity == (0.0, 1.0)


def test_settings_of_another_network_cannot_be_stated(tmp_path: Path):
    path = converted("adm", tmp_path)
    with pytest.raises(ConfigError, match="of another network"):
        state(path, Meaning(), {"use_scale_shift_norm": True})
    state(path, Meaning(), {"use_new_attention_order": True})
    assert (
        json.loads(path.with_suffix(".json").read_text())["settings"]["use_new_attention_order"]
        is True
    )


def test_parts_are_no_priors(tmp_path: Path):
    home = GOLDEN / "edm"
    convert(
        Conversion(
            home / "unetblock_4heads.pt", "edm", tmp_path / "b.safetensors", home / "config.json"
        )
    )
    with pytest.raises(WeightsError, match="a converted part, which is no prior by itself"):
        load_prior(tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="no prior by itself"):
        card_traits(tmp_path / "b.safetensors")


def test_a_class_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="classes 0 to 3"):
        converted("edm", tmp_path, dataclasses.replace(SAID["edm"], label=9), precond="EDMPrecond")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "scheduler", ["ddim", "ddim_cosine", "ddim_linear_clip", "ddim_v_trailing_zsnr"]
)
def test_schedules_of_diffusers(scheduler: str):
    """The tables of products that its schedulers make, from their settings in words."""
    home = GOLDEN / "diffusers"
    config = json.loads((home / "schedulers" / scheduler / "scheduler_config.json").read_text())
    with np.load(home / "io.npz") as file:
        expected = file[f"{scheduler}_alphas_cumprod"]
    said = meaning_of(config)
    # Theirs are products of 1000 factors in float32, each rounded by 6e-8.
    np.testing.assert_allclose(alphas_cumprod(said.schedule), expected, rtol=6e-4, atol=1e-8)
    assert said.prediction == ("v" if "_v_" in scheduler else "eps")


@pytest.mark.parametrize("step", [0, 3])
def test_preconditioning_of_an_edm_scheduler(step: int):
    """The clean image behind a stored Euler step, x' = x + (x - D)(s' - s)/s, whose network answers a stored array."""
    home = GOLDEN / "diffusers"
    config = json.loads((home / "schedulers" / "edm_euler" / "scheduler_config.json").read_text())
    with np.load(home / "io.npz") as file:
        io = {
            k: torch.from_numpy(np.asarray(file[k])).double()
            for k in file.files
            if k[:4] in ("edm_", "sche")
        }
    said = dataclasses.replace(meaning_of(config), range=(-1.0, 1.0))
    x, after = io[f"edm_euler_step{step}_x"], io[f"edm_euler_step{step}_prev"]
    s, below = io["edm_euler_sigmas"][step], io["edm_euler_sigmas"][step + 1]
    clean = x - s * (after - x) / (below - s)
    told: list[Tensor] = []

    class Stored(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            told.append(t)
            return io["sched_model_output"]

    prior = denoiser(Stored(), UNet2DConfig(), said, "edm")
    close(2 * prior((x + 1) / 2, float(s) / 2) - 1, clean)
    assert float(told[0][0]) == pytest.approx(float(io["edm_euler_timesteps"][step]), rel=1e-5)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"schedule": "edm:0"}, "a number above 0"),
        ({"rang": [0, 1]}, "did you mean 'range'"),
        ({"range": [1, 0]}, "two numbers LOW:HIGH that rise"),
        ({"range": [0, 1, 2]}, "two numbers"),
        ({"prediction": "epsilon"}, "did you mean 'eps'"),
        ({"schedule": "linar"}, "did you mean 'linear'"),
        ({"schedule": "linear:1:2"}, "betas must lie between 0 and 1"),
        ({"schedule": "cosine:1"}, "2 steps or more"),
        ({"schedule": "linear:a:b"}, "could not convert"),
        ({"complex_mode": "both"}, "expected one of separate"),
        ({"sigma_range": [-1, 1]}, "noise is not below 0"),
    ],
)
def test_meanings_that_cannot_be(record: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        meaning_from(record)
