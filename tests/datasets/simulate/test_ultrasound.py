"""B-mode phantoms and their haze: the statistics of speckle, dark cysts, and that a number gives one picture."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.simulate.ultrasound import BRIGHTEST, RANGE_DB, bmode_phantom, haze
from restore.errors import ConfigError


def test_a_number_gives_one_picture() -> None:
    first, again, other = bmode_phantom(3, 48), bmode_phantom(3, 48), bmode_phantom(4, 48)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (48, 48)
    assert first.min() >= 0
    assert first.max() <= 1


def test_speckle_is_as_large_as_rayleigh_says() -> None:
    """Of the log of a Rayleigh magnitude the deviation is pi/sqrt(24), here in decibels over the range shown."""
    expected = 20 / np.log(10) * np.pi / np.sqrt(24) / RANGE_DB
    pictures = [bmode_phantom(k) for k in range(4)]
    # Over neighbourhoods, where tissue is one; the median leaves borders and cysts out. Beam and few pixels: a fifth.
    local = [
        np.std(p[i : i + 8, j : j + 8])
        for p in pictures
        for i in range(0, 64, 8)
        for j in range(0, 64, 8)
    ]
    assert np.median(local) == pytest.approx(expected, rel=0.25)
    assert BRIGHTEST > 1


def test_haze_is_a_veil_that_falls_off_with_depth() -> None:
    veils = np.stack([haze(k, 48, 0.3) for k in range(8)])
    assert veils.min() > 0
    assert veils[:, :8].mean() > 2 * veils[:, -8:].mean()
    assert np.abs(np.diff(veils, axis=2)).max() < 0.1


def test_a_phantom_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least, got 8"):
        bmode_phantom(1, 8)
