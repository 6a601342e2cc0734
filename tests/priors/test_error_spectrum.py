"""The measured error of a denoiser: against the exact one of a Gaussian prior, through a card, at the table's edges."""

from __future__ import annotations

import json

import pytest
import torch

from restore.errors import ConfigError, WeightsError
from restore.priors.analytic import GaussianPrior
from restore.priors.edm import build_unet_denoiser
from restore.priors.error_spectrum import ErrorSpectrum, measured
from restore.priors.store import load_denoiser, save_prior
from restore.priors.unet import UNetConfig

SIDE = 48
TABLE = ErrorSpectrum((0.01, 0.1, 1.0), ((1e-4, 1e-5), (1e-3, 1e-4), (1e-2, 1e-3)))


def smooth_prior() -> GaussianPrior:
    fy, fx = (torch.fft.fftfreq(SIDE) for _ in range(2))
    spectrum = 0.001 / (0.01 + fy[:, None] ** 2 + fx[None] ** 2)
    return GaussianPrior(torch.full((SIDE, SIDE), 0.5), spectrum=spectrum)


def test_the_table_of_a_gaussian_prior_is_its_posterior_variance():
    prior = smooth_prior()
    images = list(prior.sample(24, torch.Generator().manual_seed(0)))
    table = measured(prior, images)
    for sigma in (0.02, 0.3):
        known = prior.error_power(sigma, (SIDE, SIDE))
        # Rings of 30 to 150 frequencies of 24 images scatter by 4 % at most, and C varies within a ring by as much;
        # the innermost ring has five frequencies: left to the mean.
        ratio = table.at(sigma, (SIDE, SIDE)) / known[0]
        fy = torch.fft.fftfreq(SIDE, dtype=torch.float64)
        outside = torch.hypot(fy[:, None], fy[None]) > 0.08
        assert float((ratio[outside] - 1).abs().max()) < 0.2
        assert float(ratio[outside].mean()) == pytest.approx(1, abs=0.05)


def test_a_table_at_and_beyond_its_ends():
    middle = TABLE.at(0.1, (64, 64))
    assert middle.max() == pytest.approx(1e-3)
    assert middle.min() == pytest.approx(1e-4)
    between = TABLE.at(10**-1.5, (64, 64))
    assert float(between.max()) == pytest.approx(10**-3.5)
    assert torch.allclose(TABLE.at(0.001, (64, 64)), TABLE.at(0.01, (64, 64)) / 100)
    assert torch.equal(TABLE.at(50.0, (64, 64)), TABLE.at(1.0, (64, 64)))


@pytest.mark.parametrize(
    ("sigmas", "power"),
    [
        ((0.1,), ((1.0,),)),
        ((0.1, 0.1), ((1.0,), (1.0,))),
        ((0.1, 0.2), ((1.0,), (1.0, 2.0))),
        ((0.1, 0.2), ((1.0,), (-1.0,))),
        ((0.1, 0.2), ((1.0,), (float("nan"),))),
    ],
)
def test_what_is_no_table_is_refused(sigmas, power):
    with pytest.raises(ConfigError, match="error spectrum needs"):
        ErrorSpectrum(sigmas, power)


@pytest.mark.parametrize("name", ["medical", "natural"])
def test_bundled_denoisers_know_their_error(name):
    """Never more than the noise that went in but for what rounding of a table adds, and falling with the frequency."""
    prior = load_denoiser(name)
    for sigma in (0.01, 0.1, 1.0):
        power = prior.error_power(sigma, (64, 64))
        assert 0 < float(power.mean()) < sigma**2
        assert float(power[0, 1]) > float(power[0, 32])


def test_a_card_keeps_the_table_and_a_damaged_one_is_refused(tmp_path):
    prior = build_unet_denoiser(UNetConfig(1, (8,), (1,)))
    assert not prior.knows_error
    assert prior.error_power(0.1, (8, 8)) is None
    prior.error_spectrum = TABLE
    path = save_prior(tmp_path / "p.safetensors", prior, {})
    found = load_denoiser(path)
    assert found.knows_error
    assert found.error_spectrum == TABLE
    card = json.loads(path.with_suffix(".json").read_text())
    card["error_spectrum"]["sigmas"] = [1, 0.1]
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not describe a prior"):
        load_denoiser(path)
