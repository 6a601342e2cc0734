"""The noise level of pictures and residuals is found where it is known, and what cannot be judged is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.restoration import estimate_sigma

from restore.errors import ConfigError, ShapeError
from restore.noise_estimation import doubt_of_size, residual_noise_std, white_noise_std

SINGLE = 1e-5  # float32: sums of a few products, 6e-8 each
DOUBLE = 1e-9  # float64: values offset by 1e6, of which 1e-10 are lost

PHOTOGRAPHS = ("camera", "astronaut", "chelsea", "coffee", "gravel", "brick")


def photograph(name: str) -> np.ndarray:
    """(C, H, W) in [0, 1]."""
    image = getattr(samples, name)() / 255.0
    return np.moveaxis(image if image.ndim == 3 else image[..., None], -1, 0)


def noisy(clean: np.ndarray, std: float, seed: int = 0) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, std, clean.shape)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_level_of_a_textured_photograph(name):
    """Texture adds to the estimate, and less to more noise: what the docstring promises."""
    clean = photograph(name)
    bars = (1.5, 1.16, 1.06, 1.03) if name == "gravel" else (1.2, 1.08, 1.04, 1.03)
    for std, most in zip((0.02, 0.05, 0.1, 0.2), bars, strict=True):
        found = white_noise_std(noisy(clean, std))
        assert found.shape == clean.shape[:1]
        # 0.97: the median of 4e4 coefficients is right to 1 %.
        assert (found > 0.97 * std).all()
        assert (found < most * std).all()


def test_it_is_the_estimate_of_skimage_or_that_of_smooth_parts():
    image = noisy(photograph("astronaut"), 0.03)
    expected = np.array(estimate_sigma(image, channel_axis=0, average_sigmas=False))
    found = white_noise_std(image)
    assert (found < expected).all()
    assert (np.abs(found - 0.03) < 0.7 * np.abs(expected - 0.03)).all()
    # Too small for parts: skimage's alone.
    small = image[:, :40, :40]
    expected = estimate_sigma(small, channel_axis=0, average_sigmas=False)
    np.testing.assert_array_equal(white_noise_std(small), expected)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("side", [12, 30, 31, 44, 45, 64])
def test_a_doubt_is_said_where_texture_alone_decides(side, whole):
    """Stripes finer than a pixel in a nearly noiseless picture: large ones find that less than half is smooth."""
    picture = np.random.default_rng(3).normal(0, 1, (side, side))
    smooth = side * 9 // 20
    picture[:, -smooth:] = np.random.default_rng(4).normal(0, 0.01, (side, smooth))
    known = None if whole else np.ones((side, side), dtype=bool)
    fooled = white_noise_std(picture, known=known) > 0.1
    assert bool(doubt_of_size(side, side, whole=whole)) == bool(fooled)


def test_clipped_light_has_no_noise_to_tell():
    """Half of the picture is white: there noise is cut off, and the dark half tells its level."""
    ramp = np.where(np.arange(256)[:, None] < 140, 1.0, 0.4) * np.ones((256, 256))
    found = white_noise_std(noisy(ramp, 0.05).clip(0, 1))
    # skimage's median is that of both halves, a third too low; so is this, and no lower.
    assert found >= 0.999 * estimate_sigma(noisy(ramp, 0.05).clip(0, 1))


def test_each_channel_and_slice_has_its_own():
    clean = np.broadcast_to(photograph("brick"), (2, 3, 512, 512))
    levels = np.array([[0.02, 0.1, 0.05], [0.2, 0.05, 0.3]])
    draws = np.random.default_rng(1).normal(size=clean.shape)
    found = white_noise_std(clean + levels[..., None, None] * draws)
    # 65,536 coefficients a plane: 0.6 % is one deviation of their median; brick adds 1 % to 0.02.
    np.testing.assert_allclose(found, levels, rtol=0.06)


def test_complex_pictures_give_the_level_of_a_real_channel():
    draws = np.random.default_rng(2).normal(size=(2, 256, 256))
    found = white_noise_std(0.3 * draws[0] + 0.3j * draws[1])
    assert found.shape == ()
    assert found == pytest.approx(0.3, rel=0.05)  # 16,384 coefficients twice: 0.7 %
    uneven = white_noise_std(0.1 * draws[0] + 0.7j * draws[1])
    assert uneven == pytest.approx(0.5, rel=0.05)


def test_tensors_single_precision_and_scale():
    image = noisy(photograph("coffee"), 0.1)
    expected = white_noise_std(image)
    tensor = torch.from_numpy(image).float().requires_grad_()
    # Single precision rounds values to 6e-8 of about 1; the median moves by no more.
    np.testing.assert_allclose(white_noise_std(tensor), expected, rtol=SINGLE)
    # A factor of 1e6 goes through sums of 16 products: 1e-15.
    np.testing.assert_allclose(white_noise_std(1e6 * image - 3), 1e6 * expected, rtol=DOUBLE)


@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_missing_pixels_are_no_detail(keep):
    clean = photograph("chelsea")[:, :256, :256]
    known = np.random.default_rng(3).random((256, 256)) < keep
    for std, most in ((0.05, 1.25), (0.2, 1.15)):
        y = noisy(clean, std) * known
        found = white_noise_std(y, known=known)
        # About 500 squares at 30 %: their median is right to 5 %, three times that is allowed.
        assert (found > 0.85 * std).all()
        assert (found < most * std).all()
    y = noisy(clean, 0.02) * known
    assert (white_noise_std(y) > 2 * white_noise_std(y, known=known)).all()  # the mask matters


def test_all_pixels_known_is_like_no_mask():
    image = noisy(photograph("moon"), 0.05)
    found = white_noise_std(image, known=np.ones((512, 512)))
    # Haar and Daubechies coefficients of the same noise: two medians, each right to 0.6 %.
    np.testing.assert_allclose(found, white_noise_std(image), rtol=0.03)


@pytest.mark.parametrize("std", [0.0, 0.05])
def test_pictures_without_detail(std):
    ramp = np.linspace(0, 1, 64)[:, None] + np.linspace(0, 2, 80)
    stripes = np.tile([0.0, 1.0], (64, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = white_noise_std(noisy(np.stack([np.zeros((64, 80)), ramp, stripes]), std))
    # 1,280 coefficients: 4 % is one deviation. Without noise: rounding of values up to 3.
    np.testing.assert_allclose(found, std, rtol=0.15, atol=1e-14)


def test_a_residual_gives_its_level():
    rng = np.random.default_rng(4)
    r = rng.normal(0, 0.07, (2, 30, 40, 50)) * np.array([1, 3])[:, None, None, None]
    # 60,000 samples: 0.5 % is one deviation of the median.
    np.testing.assert_allclose(residual_noise_std(r, item_ndim=3), [0.07, 0.21], rtol=0.03)
    assert residual_noise_std(r[0]).shape == ()
    edges = r[0].copy()
    edges[rng.random(edges.shape) < 0.03] += 5  # what a reconstruction missed
    assert residual_noise_std(edges) == pytest.approx(0.07, rel=0.08)
    measured = r[0] * (rng.random(r[0].shape) < 0.3)
    assert residual_noise_std(measured) == pytest.approx(0.07, rel=0.05)
    c = torch.complex(*(torch.from_numpy(rng.normal(0, s, (200, 200))) for s in (0.3, 0.4)))
    assert residual_noise_std(c) == pytest.approx(np.sqrt((0.09 + 0.16) / 2), rel=0.05)


def test_refusals():
    flat = np.ones((16, 16))
    with pytest.raises(ShapeError, match="at least 8 pixels"):
        white_noise_std(flat[:7])
    with pytest.raises(ShapeError, match="at least 8 pixels"):
        white_noise_std(flat[0])
    with pytest.raises(ConfigError, match="1 values that are NaN"):
        white_noise_std(np.where(np.eye(16) * np.arange(16) == 3, np.nan, flat))
    with pytest.raises(ShapeError, match="do not fit"):
        white_noise_std(flat, known=np.ones((15, 16)))
    with pytest.raises(ConfigError, match="0 squares of 2 x 2 known pixels"):
        white_noise_std(flat, known=np.indices((16, 16)).sum(0) % 2)
    with pytest.raises(ConfigError, match="63 measured samples"):
        residual_noise_std(np.r_[np.ones(63), np.zeros(100)])
    with pytest.raises(ShapeError, match="no items of 3 dimensions"):
        residual_noise_std(flat, item_ndim=3)
    with pytest.raises(ConfigError, match="residual holds"):
        residual_noise_std(np.full(100, np.inf))
