"""EDM preconditioning and the bundled network's architecture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.edm import EDMDenoiser, build_unet_denoiser, config_from_dict
from restore.priors.unet import UNet, UNetConfig

SINGLE = 1e-5  # float32: convolutions sum in another order in another batch; 2e-7 seen

TINY = UNetConfig(widths=(8, 12), blocks=(1, 1), unshuffle=2, embedding=16)


class ExactWhite(nn.Module):
    """The network that makes EDM exact for x0 ~ N(0, v): F = (E[x0 | x] - c_skip x)/c_out."""

    def __init__(self, v: float, sigma_data: float) -> None:
        super().__init__()
        self.v, self.sigma_data = v, sigma_data

    def forward(self, inner: Tensor, noise: Tensor) -> Tensor:
        s = (4 * noise).exp()[:, None, None, None]
        total = s**2 + self.sigma_data**2
        x = inner * total.sqrt()
        c_skip, c_out = self.sigma_data**2 / total, s * self.sigma_data / total.sqrt()
        return (x * self.v / (self.v + s**2) - c_skip * x) / c_out


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_preconditioning_is_that_of_the_paper(sigma, generator):
    prior = EDMDenoiser(ExactWhite(0.7, 0.4), sigma_data=0.4)
    x = torch.randn(3, 1, 5, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(prior(x, sigma), x * 0.7 / (0.7 + sigma**2))
    levels = torch.tensor([sigma, 2 * sigma, 3 * sigma]).double()
    wanted = x * 0.7 / (0.7 + levels[:, None, None, None] ** 2)
    torch.testing.assert_close(prior(x, levels), wanted)


def test_noise_above_the_range_is_told_as_its_end(generator):
    told = []

    class Listening(nn.Module):
        def forward(self, inner, noise):
            told.append(float(noise[0].mul(4).exp()))
            return torch.zeros_like(inner)

    prior = EDMDenoiser(Listening(), sigma_max=40.0)
    prior(torch.zeros(1, 1, 4, 4), 150.0)
    assert told[0] == pytest.approx(40.0, rel=SINGLE)


def test_noise_below_the_range_counts_as_its_end():
    prior = EDMDenoiser(ExactWhite(0.7, 0.5), sigma_min=0.01)
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(prior(x, 1e-9), prior(x, 0.01))


def perturbed(config: UNetConfig) -> EDMDenoiser:
    prior = build_unet_denoiser(config)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in prior.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return prior


@torch.no_grad()
def test_any_image_size_passes_and_the_batch_does_not_matter():
    prior = perturbed(TINY)
    for size in ((1, 1), (3, 9), (17, 20)):
        x = torch.rand(2, 1, *size)
        out = prior(x, 0.3)
        assert out.shape == x.shape
        torch.testing.assert_close(out[1:], prior(x[1:], 0.3), rtol=SINGLE, atol=SINGLE)


@torch.no_grad()
def test_receptive_field_is_bounded():
    """No normalisation over the image: far pixels are independent of each other."""
    prior = perturbed(TINY)
    x = torch.rand(1, 1, 96, 96)
    y = x.clone()
    y[..., :4, :4] += 5
    difference = (prior(x, 0.3) - prior(y, 0.3)).abs()
    assert difference[..., :8, :8].max() > 1e-3
    assert difference[..., 64:, 64:].max() == 0


@torch.no_grad()
def test_untrained_network_is_the_best_linear_guess():
    """The last layer starts at zero, so that D(x) = c_skip x."""
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(build_unet_denoiser(TINY)(x, 0.5), x / 2)


def test_single_precision_network_serves_double_images():
    prior = perturbed(TINY)
    assert prior(torch.rand(1, 1, 8, 8, dtype=torch.float64), 0.1).dtype == torch.float64


def test_configuration_is_checked():
    assert config_from_dict({"widths": [8, 12], "blocks": [1, 1], "embedding": 16}) == TINY
    assert (TINY.multiple, UNet(TINY).config) == (4, TINY)
    for bad in (
        {"widths": [8], "blocks": [1, 1]},
        {"widths": [], "blocks": []},
        {"widths": [8.5], "blocks": [1]},
        {"widths": [10**9], "blocks": [1]},
        {"widths": [8], "blocks": [10**6]},
        {"channels": 0},
        {"dropout": 0.1},
    ):
        with pytest.raises(ConfigError):
            config_from_dict(bad)
