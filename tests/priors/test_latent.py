"""Latent priors: shapes through the autoencoder, pixel denoisers as identity codes, gradients, files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import WeightsError
from restore.priors.analytic import GaussianPrior
from restore.priors.autoencoder import AutoencoderConfig, new_autoencoder
from restore.priors.edm import build_unet_denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentPrior
from restore.priors.latent_edm import LatentEDM
from restore.priors.store import kind_of, load_autoencoder, load_prior, save_prior
from restore.priors.unet import UNetConfig

HALF = 0.01  # the file holds half precision, 5e-4 of each weight; 1e-4 seen

AUTO = AutoencoderConfig(latent_channels=4, widths=(8, 8), blocks=(1, 1))
CODES = UNetConfig(channels=4, widths=(8, 8), blocks=(1, 1), unshuffle=1, embedding=16)


@pytest.fixture
def model(generator) -> LatentEDM:
    denoiser = build_unet_denoiser(CODES, sigma_data=1.0)
    shift, scale = torch.linspace(-1, 1, 4), torch.linspace(0.5, 2, 4)
    return LatentEDM(new_autoencoder(AUTO, 3), denoiser, shift, scale, name="tiny")


@torch.no_grad()
@pytest.mark.parametrize("item", [(3, 10, 14), (1, 8, 8), (8, 8)])
def test_codes_and_images_have_their_shapes(model, item, generator):
    prior = LatentPrior(model, item)
    x = torch.rand(2, *item, generator=generator)
    z = prior.encode(x)
    assert z.shape == (2, 4, -(-item[-2] // 4), -(-item[-1] // 4))
    assert prior.decode(z).shape == x.shape
    assert prior.denoise(z, 0.5).shape == z.shape
    assert (prior.code_ndim, prior.evaluations) == (3, 1)


def test_codes_are_normalised_by_shift_and_scale(model, generator):
    x = torch.rand(1, 3, 8, 8, generator=generator)
    raw = model.autoencoder.encode(x)[0]
    wanted = (raw - model.shift) / model.scale
    torch.testing.assert_close(model.encode(x), wanted)
    torch.testing.assert_close(model.decode(wanted), model.autoencoder.decode(raw))


def test_every_map_has_gradients(model, generator):
    prior = LatentPrior(model, (3, 8, 8))
    x = torch.rand(1, 3, 8, 8, generator=generator, requires_grad=True)
    prior.decode(prior.denoise(prior.encode(x), 0.3)).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def test_a_pixel_denoiser_passes_with_identity_codes(generator):
    pixels = ImagePrior(GaussianPrior(torch.zeros(6, 6), spectrum=1.0), (6, 6), complex_=True)
    prior = LatentPrior(pixels, (6, 6))
    x = torch.randn(2, 6, 6, generator=generator, dtype=torch.complex64)
    assert torch.equal(prior.decode(prior.encode(x)), x)
    torch.testing.assert_close(prior.denoise(x, 1.0), x / 2)
    assert (prior.code_ndim, prior.evaluations) == (2, 1)


@torch.no_grad()
def test_round_trip_through_a_file(model, tmp_path, generator):
    path = save_prior(tmp_path / "tiny.safetensors", model, {"licence": "mine"})
    assert kind_of(path) == "latent"
    again = load_prior(path)
    assert isinstance(again, LatentEDM)
    x: Tensor = torch.rand(1, 3, 8, 8, generator=generator)
    torch.testing.assert_close(again.encode(x), model.encode(x), rtol=HALF, atol=HALF)
    z = model.encode(x)
    torch.testing.assert_close(again.decode(z), model.decode(z), rtol=HALF, atol=HALF)
    assert not any(p.requires_grad for p in again.autoencoder.parameters())


def test_an_autoencoder_alone_is_no_prior(tmp_path):
    path = save_prior(tmp_path / "auto.safetensors", new_autoencoder(AUTO), {})
    assert load_autoencoder(path).config == AUTO
    with pytest.raises(WeightsError, match="restore train latent"):
        load_prior(path)
    other = build_unet_denoiser(CODES)
    with pytest.raises(WeightsError, match="expected Autoencoder"):
        load_autoencoder(save_prior(tmp_path / "unet.safetensors", other, {}))


@pytest.mark.parametrize(
    "network",
    [
        {"autoencoder": {"channels": 3}, "denoiser": {}},
        {"autoencoder": {"latent_channels": 10**9}, "denoiser": {"channels": 10**9}},
        {"autoencoder": {"secret": 1}, "denoiser": {"channels": 4}},
        {"denoiser": {"channels": 4}},
        "latent",
    ],
)
def test_tampered_latent_cards_are_refused(model, tmp_path, network):
    import json

    path = save_prior(tmp_path / "tiny.safetensors", model, {})
    card = json.loads(path.with_suffix(".json").read_text()) | {"network": network}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="tiny"):
        load_prior(path)
