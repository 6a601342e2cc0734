"""PSNR, SSIM and NMSE equal skimage's and the formulas of the papers, and refuse what they cannot judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from restore import metrics
from restore.errors import ConfigError, ShapeError

DOUBLE = 1e-11  # float64: sums over some thousand pixels in another order; 4e-15 seen


@pytest.fixture
def volume() -> tuple[np.ndarray, np.ndarray]:
    ref = samples.camera()[None, 100:163, 60:141].astype(np.float32) * np.array(
        [[[1]], [[0.4]], [[2.5]]], "f4"
    )
    return ref + np.random.default_rng(0).normal(0, 20, ref.shape).astype("f4"), ref


def direct_ssim(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    """Wang and others' formula, window by window: 7 x 7, sample covariance, windows inside the image."""
    a, b = (
        np.lib.stride_tricks.sliding_window_view(p, (7, 7)).reshape(-1, 49).astype(float)
        for p in (x, y)
    )
    ma, mb = a.mean(1), b.mean(1)
    va, vb = a.var(1, ddof=1), b.var(1, ddof=1)
    cov = ((a - ma[:, None]) * (b - mb[:, None])).sum(1) / 48
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    found = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * (2 * cov + c2) / (va + vb + c2)
    return float(found.mean())


def test_volume_equals_the_formulas(volume: tuple[np.ndarray, np.ndarray]) -> None:
    """fastMRI's figures: one data range and one mean square for the volume, SSIM slice by slice."""
    x, ref = (np.float64(a) for a in volume)
    top = float(ref.max())
    error = ((x - ref) ** 2).mean()
    # Sums of 15,000 terms in double precision: about 1e-14 relative.
    assert metrics.psnr(x, ref, data_range=top) == pytest.approx(
        10 * np.log10(top**2 / error), abs=DOUBLE
    )
    assert metrics.nmse(x, ref) == pytest.approx(
        np.linalg.norm(x - ref) ** 2 / np.linalg.norm(ref) ** 2, rel=DOUBLE
    )
    expected = np.mean([direct_ssim(a, b, top) for a, b in zip(x, ref, strict=True)])
    # Running sums of squares up to 4e5: 1e-16 of them against a variance of 400 is 1e-13.
    assert metrics.ssim(x, ref, data_range=top) == pytest.approx(expected, abs=DOUBLE)


def test_volume_equals_skimage(volume: tuple[np.ndarray, np.ndarray]) -> None:
    x, ref = volume
    top = float(ref.max())
    expected = np.mean(
        [
            structural_similarity(a.astype(float), b.astype(float), data_range=top)
            for a, b in zip(x, ref, strict=True)
        ]
    )
    assert metrics.ssim(x, ref, data_range=top) == pytest.approx(expected, abs=DOUBLE)
    assert metrics.psnr(x, ref, data_range=top) == pytest.approx(
        peak_signal_noise_ratio(ref.astype(float), x.astype(float), data_range=top), abs=DOUBLE
    )
    wide = normalized_root_mse(np.float64(ref), np.float64(x))
    assert metrics.nmse(x, ref) == pytest.approx(wide**2, rel=DOUBLE)


def test_gaussian_window_equals_skimage(volume: tuple[np.ndarray, np.ndarray]) -> None:
    x, ref = (np.float64(a) for a in volume)
    for top in (float(ref.max()), 300.0):
        expected = [
            structural_similarity(
                a, b, data_range=top, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for a, b in zip(x, ref, strict=True)
        ]
        got = metrics.ssim_gaussian(*volume, data_range=top)
        assert got == pytest.approx(np.mean(expected), abs=DOUBLE)


def test_gaussian_window_looks_at_the_inside_only() -> None:
    ref = np.random.default_rng(5).random((13, 12))
    x = ref.copy()
    x[0, 0] = 9
    inside = np.zeros(ref.shape, bool)
    inside[5:-5, 5:-5] = True  # centres of whole windows; the corner is in the window of one
    assert inside.sum() == 3 * 2
    assert metrics.ssim_gaussian(ref, ref, data_range=1) == 1
    flat = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(flat, flat) / flat.sum() ** 2
    found = []
    for top, left in np.argwhere(inside) - 5:
        a, b = (p[top : top + 11, left : left + 11] for p in (x, ref))
        ma, mb = (weights * a).sum(), (weights * b).sum()
        va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
        cov = (weights * (a - ma) * (b - mb)).sum()
        c1, c2 = 0.01**2, 0.03**2
        found.append((2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * (2 * cov + c2) / (va + vb + c2))
    got = metrics.ssim_gaussian(x, ref, data_range=1)
    assert got == pytest.approx(np.mean(found), abs=DOUBLE)
    assert got < 1
    with pytest.raises(ShapeError, match="11 x 11"):
        metrics.ssim_gaussian(ref[:10], ref[:10], data_range=1)


def test_colour_is_the_mean_over_channels() -> None:
    ref = samples.astronaut()[:64, :80] / 255.0
    x = ref + np.random.default_rng(1).normal(0, 0.1, ref.shape)
    expected = structural_similarity(x, ref, data_range=1, channel_axis=2)
    got = metrics.ssim(x.transpose(2, 0, 1), ref.transpose(2, 0, 1), data_range=1)
    assert got == pytest.approx(expected, abs=DOUBLE)


def test_tensors_and_arrays_agree(volume: tuple[np.ndarray, np.ndarray]) -> None:
    x, ref = volume
    tx, tref = torch.from_numpy(x).requires_grad_(), torch.from_numpy(ref)
    for measure in (metrics.psnr, metrics.ssim):
        assert measure(tx, tref, data_range=9.0) == measure(x, ref, data_range=9.0)


def test_equal_images() -> None:
    x = np.random.default_rng(2).random((2, 9, 9))
    assert metrics.psnr(x, x, data_range=1) == float("inf")
    assert metrics.ssim(x, x, data_range=1) == pytest.approx(1)
    assert metrics.nmse(x, x) == 0


def test_constant_images_give_a_defined_ssim() -> None:
    assert metrics.ssim(np.zeros((8, 8)), np.zeros((8, 8)), data_range=1) == pytest.approx(1)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim])
@pytest.mark.parametrize("data_range", [0, -1.0, float("nan"), float("inf")])
def test_range_must_be_positive(measure: object, data_range: float) -> None:
    x = np.ones((8, 8))
    with pytest.raises(ConfigError, match="data_range"):
        measure(x, x, data_range=data_range)  # type: ignore[operator]


def test_refusals() -> None:
    x = np.ones((8, 8))
    with pytest.raises(ConfigError, match="complex"):
        metrics.psnr(x.astype(complex), x, data_range=1)
    with pytest.raises(ConfigError, match="1 values that are NaN"):
        metrics.nmse(np.where(np.eye(8) * np.arange(8) == 3, np.nan, x), x)
    with pytest.raises(ConfigError, match="zero everywhere"):
        metrics.nmse(x, 0 * x)
    with pytest.raises(ShapeError, match="one shape"):
        metrics.psnr(x, x[1:], data_range=1)
    with pytest.raises(ShapeError, match="7 x 7"):
        metrics.ssim(x[:6], x[:6], data_range=1)
