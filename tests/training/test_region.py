"""Training of region priors: Perlin's fields and maps of levels by their laws, factors that learn and resume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, WeightsError
from restore.priors.edm import build_unet_denoiser
from restore.priors.region import Adapts
from restore.priors.store import load_prior, read_card, save_prior
from restore.priors.unet import UNetConfig
from restore.samplers.toolbox.levels import alpha_bar_to_sigma, vp_alphas_cumprod
from restore.training.corpus import Corpus
from restore.training.loop import Budget
from restore.training.perlin import perlin_noise
from restore.training.region import RegionTraining, level_maps, train_region
from restore.training.sources import Source

SINGLE = 1e-5  # float32: sums of four products near 1; 1e-7 seen
CONFIG = UNetConfig(widths=(8, 8), blocks=(1, 1), embedding=8)
ADAPTS = Adapts("tiny", "0" * 64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_perlin_noise_is_zero_at_the_lattice_and_within_its_bound():
    cell, side = 8.0, 64
    field = perlin_noise(side, cell, generator())
    start = torch.rand(2, generator=generator())
    # The nearest pixel to a point of the lattice lies within half a pixel of it, where the slope is at most 1 / cell.
    near = [[round(float((k - s) * cell)) for k in range(1, 8)] for s in start]
    assert float(field[near[0]][:, near[1]].abs().max()) < 0.5**0.5 / cell + SINGLE
    assert 0.3 < float(field.abs().max()) <= 0.5**0.5


def test_perlin_noise_forgets_beyond_two_cells_and_is_smooth_within():
    fields = torch.stack([perlin_noise(24, 4.0, generator(k)) for k in range(400)])
    one, beyond = ((fields[:, 8, 8] * fields[:, 8, 8 + d]).mean() for d in (1, 8))
    power = fields[:, 8, 8].square().mean()
    assert float(one / power) > 0.7
    assert abs(float(beyond / power)) < 0.25  # five deviations of 400 draws
    steps = perlin_noise(64, 32.0, generator()).diff(dim=-1).abs().max()
    assert float(steps) < 3 / 32  # no jumps where cells meet


def settings(**changes) -> RegionTraining:
    return dataclasses.replace(
        RegionTraining(Budget(steps=6, minutes=1e6, warmup=2), batch=4, crop=16, rank=2), **changes
    )


def test_soft_maps_are_those_of_the_first_phase_of_the_paper():
    """abar_i = (1 - nu m)^(ln abar / ln(1 - nu)) with the paper's m for ours: m ln(1 - nu) = ln(1 - nu m')."""
    bars = vp_alphas_cumprod()
    nu = 1 - float(bars[-1])
    for t in (100, 500, 999):
        theirs = torch.linspace(0, 1, 5, dtype=torch.float64)
        abar = (1 - nu * theirs) ** (bars[t].log() / np.log(1 - nu))
        ours = (1 - nu * theirs).log() / np.log(1 - nu)
        s = alpha_bar_to_sigma(bars[t])
        levels = torch.expm1(ours * torch.log1p(s**2)).sqrt()
        torch.testing.assert_close(levels, alpha_bar_to_sigma(abar), rtol=1e-9, atol=1e-9)


def test_maps_have_the_kinds_that_are_asked_for():
    none = {"soft_share": 0.0, "single_share": 0.0, "whole_share": 0.0}
    whole = level_maps(settings(**none | {"whole_share": 1.0}), (0.002, 40.0), 50, 16, generator())
    assert torch.equal(whole, whole[..., :1, :1].expand_as(whole))
    for kind in ("single_share", "soft_share", "whole_share"):
        made = level_maps(settings(**none | {kind: 1.0}), (0.002, 40.0), 200, 16, generator())
        levels = torch.tensor([len(m.unique()) for m in made])
        assert made.shape == (200, 1, 16, 16)
        assert float(made.max()) <= 40
        if kind == "soft_share":
            assert float(levels.float().median()) > 50
        else:
            assert int(levels.max()) <= 2
    patches = level_maps(settings(**none), (0.002, 40.0), 200, 16, generator())
    low = patches.amin((1, 2, 3))
    assert 0.3 < float((low == 0).float().mean()) < 0.7  # half are known exactly
    assert float(low[patches.amax((1, 2, 3)) > low].max()) <= 0.2


def source() -> Source:
    grid = np.linspace(0, 20, 48)
    images = [0.5 + 0.4 * np.sin(grid[:, None] * a + grid * b) for a in (0, 1, 2) for b in (1, 3)]
    return Source(tuple((255 * i).astype(np.uint8)[None] for i in images), 1.0, True, "stripes")


def test_factors_learn_and_the_prior_does_not(tmp_path):
    base = build_unet_denoiser(CONFIG, seed=1)
    with torch.no_grad():
        for p in base.network.parameters():  # blocks of a new network end in zeros
            p.copy_(0.1 * torch.randn(p.shape, generator=generator(7)))
    before = {k: v.clone() for k, v in base.network.state_dict().items()}
    chosen = settings(budget=Budget(steps=80, minutes=1e6, rate=30, warmup=5), batch=8)
    corpus = Corpus([source()], 16, 0)
    model, progress = train_region(corpus, [], chosen, base, ADAPTS, tmp_path / "s")
    assert progress.step == 80
    assert all(torch.equal(v, before[k]) for k, v in base.network.state_dict().items())
    assert model.adapter is not None
    assert model.adapter.rank == 2
    x0 = corpus.batch(10**6, 16)
    s = level_maps(chosen, (0.002, 40.0), 16, 16, generator(5))
    x = x0 + s * torch.randn(x0.shape, generator=generator(6))
    start = dataclasses.replace(chosen, budget=Budget(steps=1, minutes=1e6))
    fresh, _ = train_region(corpus, [], start, base, ADAPTS, tmp_path / "t")
    errors = [float(((m(x, s) - x0) * (s > 0)).square().mean()) for m in (fresh, model)]
    assert errors[1] < 0.93 * errors[0], errors  # 0.85 seen; filling alone does most


def test_a_training_goes_on_from_its_state_and_from_no_other(tmp_path):
    base, corpus, state = (
        build_unet_denoiser(CONFIG, seed=1),
        Corpus([source()], 16, 0),
        tmp_path / "s",
    )
    done, _ = train_region(corpus, [], settings(), base, ADAPTS, state)
    again, progress = train_region(corpus, [], settings(), base, ADAPTS, state)
    assert progress.step == 6
    assert done.adapter is not None
    assert again.adapter is not None
    for name, (up, down) in done.adapter.factors.items():
        assert torch.equal(again.adapter.factors[name][0], up)
        assert torch.equal(again.adapter.factors[name][1], down)
    for other in (settings(rank=3), settings(known_noise=0.1)):
        with pytest.raises(ConfigError, match="--restart"):
            train_region(corpus, [], other, base, ADAPTS, state)
    with pytest.raises(ConfigError, match="another prior to start from"):
        train_region(corpus, [], settings(), build_unet_denoiser(CONFIG, seed=2), ADAPTS, state)


def called(*words: object):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_from_pictures_to_a_prior_that_fills_holes(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    folder.mkdir()
    for k in range(2):
        write_image(rng.random((1, 32, 32)), folder / f"{k}.png")
    tiny = build_unet_denoiser(CONFIG, seed=1)
    prior = save_prior(tmp_path / "tiny.safetensors", tiny, {"licence": "none"})
    out = tmp_path / "rad.safetensors"
    short = ("--rank", 2, "--steps", 2, "--batch", 2, "--crop", 16)
    result = called(
        "train", "rad", folder, "-o", out, "--prior", prior, *short, "--validation", folder
    )
    assert result.exit_code == 0, result.stderr
    card = read_card(out)
    assert card["adapts"] == {"name": "tiny", "sha256": read_card(prior)["sha256"]}
    assert card["started_from"]["licence"] == "none"
    assert set(card["inpainting_psnr_db"]) == {"box", "strokes", "random"}
    assert load_prior(out).kind == "region"
    how = ("--task", "inpaint", "--mask", "box:8", "--sampler", "rad", "--prior", out, "--steps", 2)
    result = called("image", folder / "0.png", "-o", tmp_path / "filled.png", *how, "--simulate")
    assert result.exit_code == 0, result.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = called(
        "train", "rad", folder, "-o", elsewhere / "rad.safetensors", "--prior", prior, *short
    )
    assert "it is read with tiny.safetensors and its card beside it" in result.stderr


@pytest.mark.parametrize("prior", ["natural-restore", "natural-latent"])
def test_only_denoisers_are_adapted(tmp_path, prior):
    result = called("train", "rad", tmp_path, "-o", tmp_path / "o.safetensors", "--prior", prior)
    assert result.exit_code == WeightsError.exit_code
    assert "expected EDMDenoiser" in result.stderr


def test_options_of_a_network_are_refused(tmp_path):
    result = called(
        "train", "rad", tmp_path, "-o", tmp_path / "o.safetensors", "--prior", "natural@skips=0.9"
    )
    assert result.exit_code == ConfigError.exit_code
    assert "leave the options of the network out" in result.stderr
