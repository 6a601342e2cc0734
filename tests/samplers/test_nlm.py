"""Non-local means: scikit-image's result, its noise level, channels, complex pictures, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.restoration import denoise_nl_means

import restore
from restore.errors import ConfigError
from restore.metrics import psnr
from restore.noise import Gaussian
from restore.operators import Blur, Identity
from restore.operators.image.kernels import gaussian
from restore.samplers.nlm import NonLocalMeans

DOUBLE = 1e-9  # float64: the same sums of weights


def photograph(side: int = 96) -> torch.Tensor:
    return torch.from_numpy(samples.astronaut()[:side, 180 : 180 + side] / 255.0).movedim(-1, 0)


def noisy(x: torch.Tensor, std: float, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return x + std * torch.randn(x.shape, generator=g, dtype=x.dtype)


def denoised(y: torch.Tensor, noise, **settings) -> torch.Tensor:
    operator = Identity(tuple(y.shape[-3:]) if y.ndim > 2 else tuple(y.shape), y.is_complex())
    return restore.solve(y, operator, noise=noise, sampler="nlm", **settings).image


def test_it_is_scikit_image_with_the_stated_noise():
    y = noisy(photograph(), 0.1)
    expected = denoise_nl_means(y.numpy(), 5, 6, 0.06, sigma=0.1, channel_axis=0)
    # The level goes through 1 / variance and back in the measurement's double precision.
    np.testing.assert_allclose(denoised(y, 0.1), expected, atol=DOUBLE)
    other = denoise_nl_means(y.numpy(), 3, 4, 0.09, sigma=0.1, channel_axis=0)
    np.testing.assert_allclose(denoised(y, 0.1, strength=0.9, patch=3, reach=4), other, atol=DOUBLE)


@pytest.mark.parametrize("shape", [(96, 96), (1, 96, 96)])
def test_one_channel_is_a_plane(shape):
    y = noisy(photograph()[:1], 0.1).reshape(shape)
    expected = denoise_nl_means(y.numpy().reshape(96, 96), 5, 6, 0.06, sigma=0.1)
    np.testing.assert_allclose(denoised(y, 0.1), expected.reshape(shape), atol=DOUBLE)


@pytest.mark.parametrize("noise", [0.1, None])
def test_a_photograph_gains_six_decibel_even_if_nobody_says_the_noise(noise):
    x = photograph().float()
    y = noisy(x, 0.1)
    gain = psnr(denoised(y, noise), x, data_range=1.0) - psnr(y, x, data_range=1.0)
    assert gain > 6


def test_every_item_has_its_own_level():
    x = photograph(48)
    levels = torch.tensor([0.02, 0.2], dtype=torch.float64)[:, None, None, None]
    y = torch.stack([noisy(x, 0.02), noisy(x, 0.2, seed=1)])
    for noise in (Gaussian(levels), None):
        together = denoised(y, noise)
        for k in range(2):
            alone = denoised(y[k], None if noise is None else float(levels[k]))
            # Levels go through a mean over the item when they are a tensor: 1e-12.
            torch.testing.assert_close(together[k], alone, atol=DOUBLE, rtol=0)


def test_complex_slices_keep_their_phase():
    magnitude = photograph()[0]
    phase = torch.linspace(0, 3, 96, dtype=torch.float64)
    clean = torch.polar(magnitude, phase.expand(96, 96).contiguous())
    y = clean + 0.1 * torch.complex(*(noisy(torch.zeros_like(magnitude), 1.0, s) for s in (1, 2)))
    x = denoised(y, 0.1)
    assert x.is_complex()
    assert float((x - clean).abs().square().mean()) < 0.4 * float((y - clean).abs().square().mean())


def test_pictures_without_noise_stay():
    flat = torch.full((3, 16, 16), 0.5)
    assert torch.equal(denoised(flat, None), flat)


def test_an_exact_picture_stays_as_it_is():
    y = noisy(photograph(32), 0.1)
    assert torch.equal(denoised(y, 0), y)


def test_other_tasks_are_refused_by_name():
    blur = Blur(gaussian(1.0), (3, 16, 16))
    with pytest.raises(ConfigError, match=r"nlm serves denoising.*tv"):
        restore.solve(torch.rand(3, 16, 16, generator=torch.Generator()), blur, sampler="nlm")


@pytest.mark.parametrize("values", [{"strength": 0}, {"patch": 0}, {"patch": 99}, {"reach": 65}])
def test_settings_have_ranges(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        NonLocalMeans(**values)
