"""Rician noise: moments and stabiliser against draws, the inverse without bias."""

from __future__ import annotations

import numpy as np
import pytest

from restore.rician import corrected_std, magnitude_std, mean_magnitude, stabiliser

COUNT = 200_000
DRAWN = 4 / COUNT**0.5  # four deviations of a mean of unit noise


def magnitudes(signal: float, std: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(int(100 * signal))
    return np.hypot(signal + std * rng.standard_normal(COUNT), std * rng.standard_normal(COUNT))


@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0, 2.0, 4.0, 12.0, 50.0])
def test_moments_and_the_stabiliser_against_draws(signal: float) -> None:
    m = magnitudes(signal)
    assert mean_magnitude(signal) == pytest.approx(m.mean(), abs=DRAWN)
    assert magnitude_std(signal) == pytest.approx(m.std(), abs=DRAWN)
    found = stabiliser().forward(m, 1.0)
    assert found.std() == pytest.approx(1, abs=0.06)  # what two passes leave: 0.054 at 1.5
    # Near zero E[f | x] is flat, as x^2: a mean that is off by 0.01 is 0.2 of signal.
    assert stabiliser().inverse(found.mean(), 1.0) == pytest.approx(
        signal, abs=0.2 if signal < 0.5 else 0.05
    )


def test_levels_scale_and_vary_over_the_voxels() -> None:
    table, std = stabiliser(), np.array([[2.0], [30.0]], np.float32)
    m = np.array([[1.0, 5.0, 500.0], [1.0, 40.0, 5000.0]], np.float32)
    both = table.forward(m, std)
    for row, level in enumerate(std[:, 0]):
        np.testing.assert_allclose(both[row], level * table.forward(m[row] / level, 1.0), rtol=1e-5)
    np.testing.assert_allclose(
        both[:, 2], m[:, 2], rtol=1e-5
    )  # far above the noise nothing changes


@pytest.mark.parametrize("signal", [1.0, 2.0, 8.0])
def test_the_level_of_a_channel_from_magnitudes_of_one_tissue(signal: float) -> None:
    m = magnitudes(signal, 3.0)
    # The ratio of mean and deviation, which the signal is read from, is flat at low signal.
    assert corrected_std(float(m.std()), float(m.mean())) == pytest.approx(3, rel=0.02)
    assert corrected_std(0.655, 0.5) == pytest.approx(1, rel=0.01)
