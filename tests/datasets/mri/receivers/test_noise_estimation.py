"""The noise level of simulated data is found again from its corners and edges."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from restore.datasets.ct.detector.noise_estimation import sinogram_noise_std
from restore.datasets.median_deviation import MAD_TO_STD, std_by_median
from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.mri.receivers.noise_estimation import kspace_noise_std
from restore.datasets.simulate.coils import birdcage, smooth_phase
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.volume import nifti

MEDIAN = 0.15  # a median over some hundred samples: 5 %
AIR = 0.1  # a median over the air of one scan: 3 %


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    disc = 40.0 * ((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1)
    image = 100 * np.exp(-4 * (x**2 + 1.5 * y**2)) + gaussian_filter(disc, 1)
    return image * np.exp(1j * smooth_phase((height, width), 0.5, np.random.default_rng(0)))


@pytest.mark.parametrize("kind", ["random", "equispaced", "random2d"])
@pytest.mark.parametrize("std", [0.2, 1.0])
def test_kspace_noise(kind: str, std: float) -> None:
    shape = (120, 101)
    rng = np.random.default_rng(1)
    image = birdcage(shape, 8) * smooth_image(*shape)
    clean = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, (-2, -1)), norm="ortho"), (-2, -1))
    noise = rng.normal(0, std, clean.shape) + 1j * rng.normal(0, std, clean.shape)
    mask = make_mask(kind, shape, 4, 0.08, seed=7)
    assert kspace_noise_std((clean + noise) * mask, mask) == pytest.approx(std, rel=MEDIAN)


def test_the_median_deviation_of_a_gaussian_gives_its_standard_deviation() -> None:
    # Five digits of the constant are written down.
    assert pytest.approx(1 / NormalDist().inv_cdf(0.75), rel=1e-5) == MAD_TO_STD
    noise = np.random.default_rng(5).normal(0, 3, (4, 250_000))
    # The estimate scatters by 1.17 / sqrt(n), 0.0023 here (Rousseeuw and Croux, 1993): four times that.
    np.testing.assert_allclose(std_by_median(noise, axis=1), 3, rtol=0.01)
    outliers = np.concatenate([noise[0], np.full(2500, 1e6)])
    assert std_by_median(outliers) == pytest.approx(3, rel=0.02)


def test_level_of_noise_alone() -> None:
    """Nothing but noise leaves no excuse: 2 % of 256 x 256 places in re and im of 16 coils scatter by 0.6 %."""
    noise = np.random.default_rng(6).normal(0, 0.5, (2, 16, 256, 256))
    found = kspace_noise_std(noise[0] + 1j * noise[1], np.ones(256, bool))
    assert found == pytest.approx(0.5, rel=0.03)
    air = np.random.default_rng(7).normal(0, 0.01, (400, 200))  # 2 x 6 rays a view: 1.7 % scatter
    assert sinogram_noise_std(air) == pytest.approx(0.01, rel=0.07)


def test_scale_follows_exactly() -> None:
    kspace = np.random.default_rng(2).normal(size=(2, 4, 64, 64)).view(complex)[..., :32]
    mask = np.ones(32, bool)
    once = kspace_noise_std(kspace[0], mask)
    assert once is not None
    assert kspace_noise_std(1e6 * kspace[0], mask) == pytest.approx(1e6 * once)


def test_nothing_to_estimate_from() -> None:
    assert kspace_noise_std(np.zeros((2, 16, 16), complex), np.ones(16, bool)) is None
    assert kspace_noise_std(np.ones((1, 8, 8), complex), np.ones(8, bool)) is None
    assert sinogram_noise_std(np.zeros((30, 40))) is None
    assert sinogram_noise_std(np.ones((30, 40))) is None


@pytest.mark.parametrize("photons", [1e4, 1e5])
def test_air_in_a_sinogram(photons: float) -> None:
    u = np.linspace(-1, 1, 181)
    clean = 6 * np.sqrt(np.clip(0.7 - u**2, 0, None)) * np.ones((60, 1))
    counts = np.random.default_rng(3).poisson(photons * np.exp(-clean))
    sinogram = -np.log(np.maximum(counts, 0.5) / photons)
    assert sinogram_noise_std(sinogram) == pytest.approx(photons**-0.5, rel=AIR)


def test_noise_of_a_simulated_scan_of_a_real_head(samples: Path) -> None:
    volume = nifti.read(samples / "head_T1.nii.gz")
    scan = simulate_mri(volume, slices=slice(0, 3, 2), noise=0.01)
    estimates = [kspace_noise_std(scan.kspace[i], scan.mask) for i in range(2)]
    assert estimates == pytest.approx([scan.noise_std] * 2, rel=AIR)
