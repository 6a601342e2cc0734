"""What the noise of a volume is, found from the volume alone; truth by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from restore.datasets.volume.volume import Volume
from restore.errors import InputError
from restore.pipelines.volume.denoise import Denoise, Kind
from restore.pipelines.volume.noise_level import (
    gaussian_levels,
    rician_levels,
    rician_levels_of_object,
)
from restore.pipelines.volume.noise_spectrum import spectrum_in


def ball(depth: int = 6, side: int = 96) -> np.ndarray:
    z, y, x = np.mgrid[-1 : 1 : depth * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return 100.0 * (x**2 + y**2 + z**2 / 4 < 0.4) + 20.0 * (np.hypot(x - 0.2, y) < 0.2)


def rician(truth: np.ndarray, std, seed: int = 0) -> np.ndarray:
    a, b = np.random.default_rng(seed).standard_normal((2, *truth.shape))
    return np.hypot(truth + std * a, std * b)


def test_levels_of_magnitudes_from_the_background_and_without_it() -> None:
    truth = ball()
    m = rician(truth, 5.0)
    found = rician_levels(m, "v")
    assert found is not None
    assert not found.vary
    assert found.used == pytest.approx([5], rel=0.03)
    blanked = np.where(truth > 0, m, 0)
    assert rician_levels(blanked, "v") is None
    assert rician_levels_of_object(blanked, "v").used == pytest.approx([5], rel=0.15)


def test_each_slice_has_its_own_level_where_they_differ() -> None:
    std = np.linspace(3, 9, 6)[:, None, None]
    found = rician_levels(rician(ball(), std), "v")
    assert found is not None
    assert found.vary
    assert found.used[1:-1] == pytest.approx(std[1:-1, 0, 0], rel=0.1)
    noise = std * np.random.default_rng(1).standard_normal((6, 96, 96))
    assert gaussian_levels(ball() + noise, "v").used[1:-1] == pytest.approx(
        std[1:-1, 0, 0], rel=0.1
    )
    assert (gaussian_levels(np.zeros((6, 96, 96)), "v").of == 0).all()


def test_what_was_cut_off_or_has_edges_alone_tells_no_noise() -> None:
    """A cube without noise has none; air that a scanner cuts off at its lowest value does not lower the level."""
    cube = np.zeros((6, 96, 96))
    cube[1:5, 20:75, 20:75] = 100
    with pytest.raises(InputError, match="holds 0 patches"):
        spectrum_in(cube, None, "v")
    noise = 20 * np.random.default_rng(0).standard_normal(cube.shape)
    cut = np.maximum(ball() - 1000 + noise, -1000)
    assert gaussian_levels(cut, "v").used == pytest.approx([20], rel=0.15)  # 4 % seen
    # 29 seen, of the few patches that are left and hold a part of the ball; 12 is that of air that was cut off.
    assert spectrum_in(cut, None, "v").std > 17


@pytest.mark.parametrize("said", [False, True])
def test_the_spectrum_of_correlated_noise(said: bool) -> None:
    """Noise of a known kernel: correlations of neighbours, deviation, and power over the frequencies."""
    kernel = np.array([0.25, 1.0, 0.25])
    white = np.random.default_rng(0).standard_normal((12, 96, 96))
    noise = scipy.ndimage.convolve1d(white, kernel, 1, mode="wrap")
    noise = scipy.ndimage.convolve1d(noise, kernel, 2, mode="wrap") * 4
    region = np.broadcast_to(np.indices((96, 96))[1] < 48, noise.shape) if said else None
    found = spectrum_in(ball(12) + noise if said is False else noise, region, "v")
    # Two neighbours of a kernel (1/4, 1, 1/4): 0.5 of 1.125, in 20 to 100 patches of 500 voxels
    assert found.neighbours == pytest.approx((0, 0.5 / 1.125, 0.5 / 1.125), abs=0.08)
    assert found.std == pytest.approx(4 * 1.125, rel=0.12)
    assert not found.is_white
    power = found.power(noise.shape)
    assert power.shape == (12, 96, 49)
    f = np.fft.fftfreq(96)
    true = np.outer(
        (1 + 0.5 * np.cos(2 * np.pi * f)) ** 2, (1 + 0.5 * np.cos(2 * np.pi * f[:49])) ** 2
    )
    mean = power.mean(0)
    assert np.corrcoef(mean.ravel(), true.ravel())[0, 1] > 0.95  # 0.98 seen


def test_white_noise_is_white_and_a_region_has_to_hold_patches() -> None:
    noise = np.random.default_rng(0).standard_normal((8, 96, 96))
    found = spectrum_in(noise, None, "v")
    assert found.is_white
    assert found.std == pytest.approx(1, rel=0.06)
    region = np.zeros(noise.shape, bool)
    region[2, :30, :30] = True
    with pytest.raises(InputError, match="holds 1 patches"):
        spectrum_in(noise, region, "v")


@pytest.mark.parametrize("kind", ["gaussian", "rician", "correlated"])
def test_a_stated_level_that_the_volume_contradicts_is_said(kind: Kind) -> None:
    """Five times too much, a tenth; what is right, or off by a third, is taken without a word."""
    truth, std = ball(12), 16.0
    noise = np.random.default_rng(2).standard_normal((2, *truth.shape))
    if kind == "correlated":
        noise = scipy.ndimage.gaussian_filter(noise, (0, 0, 1.0, 1.0))
        noise /= noise.std()
    data = (
        np.hypot(truth + std * noise[0], std * noise[1])
        if kind == "rician"
        else truth + std * noise[0]
    )
    volume = Volume(data.astype(np.float32), np.eye(4))

    def notes(level: float) -> str:
        return " ".join(Denoise(noise=kind, noise_level=level).prepare((volume,)).notes)

    assert "details were lost" in notes(5 * std)
    assert "noise was left" in notes(std / 10)
    for level in (std / 1.3, std, 1.3 * std):
        assert "is stated as" not in notes(level)
