"""Slice profiles: areas against quadrature, rows of weights against means and Gaussians of scipy, ends of the grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import uniform_filter1d
from scipy.stats import norm

from restore.errors import ConfigError
from restore.operators.volume.slice_profile import COVERED, SliceProfile, sampling_matrix

EXACT = 1e-12  # float64: differences of areas up to 1
QUADRATURE = 1e-7  # what scipy's quad promises of a smooth function


def test_whole_ratios_are_block_means():
    matrix = sampling_matrix(np.arange(5) * 4 + 1.5, SliceProfile("rect", 4.0), 20, 1.0)
    np.testing.assert_allclose(matrix, np.kron(np.eye(5), np.full((1, 4), 0.25)), atol=EXACT)


def test_slices_that_overlap_are_running_means():
    x = np.random.default_rng(0).random(30)
    matrix = sampling_matrix(np.arange(1.0, 29.0), SliceProfile("rect", 3.0), 30, 1.0)
    np.testing.assert_allclose(matrix @ x, uniform_filter1d(x, 3)[1:-1], atol=EXACT)


def test_any_real_ratio_is_the_integral_over_the_slab():
    """Against quadrature of a function that is constant in every cell, in millimetres."""
    cells, pitch, thickness = 23, 0.7, 2.3
    x = np.random.default_rng(1).random(cells)
    centres = np.arange(4) * 3.1 + 1.9
    matrix = sampling_matrix(centres, SliceProfile("rect", thickness), cells, pitch)
    edges = (np.arange(cells + 1) - 0.5) * pitch
    for centre, found in zip(centres, matrix @ x, strict=True):
        low, high = centre - thickness / 2, centre + thickness / 2
        inside = edges[(edges > low) & (edges < high)]
        stops = [low, *inside, high]
        parts = [
            quad(lambda t: x[np.searchsorted(edges, t) - 1], a, b)[0]
            for a, b in itertools.pairwise(stops)
        ]
        assert found == pytest.approx(sum(parts) / thickness, abs=QUADRATURE)


def test_gaussian_weights_are_those_of_the_normal_distribution():
    profile = SliceProfile("gauss", 4.0)
    row = sampling_matrix(np.array([10.2]), profile, 21, 1.0)[0]
    edges = np.arange(22) - 0.5
    wanted = np.diff(norm.cdf(edges, 10.2, 4.0 / 2.354820045030949))
    np.testing.assert_allclose(row, wanted / wanted.sum(), atol=EXACT)
    half = norm.pdf(2.0, 0, 4.0 / 2.354820045030949) / norm.pdf(0, 0, 4.0 / 2.354820045030949)
    assert half == pytest.approx(0.5)  # the width is that at half maximum


@pytest.mark.parametrize("profile", [SliceProfile("rect", 5.0), SliceProfile("gauss", 3.0)])
def test_flat_objects_keep_their_intensity_to_the_ends(profile: SliceProfile):
    matrix = sampling_matrix(np.arange(-6.0, 40.0, 0.5), profile, 33, 1.0)
    covered = matrix.any(1)
    np.testing.assert_allclose(matrix.sum(1)[covered], 1, atol=EXACT)
    centres = np.arange(-6.0, 40.0, 0.5)
    whole = (centres - profile.reach_mm >= -0.5) & (centres + profile.reach_mm <= 32.5)
    assert covered[whole].all()
    assert not covered[(centres < -0.5) | (centres > 32.5)].any()  # half of the profile, or less


def test_a_slice_that_the_grid_holds_in_part_is_left_out():
    just, less = 5.0 * (1 - COVERED) * 0.9, 5.0 * (1 - COVERED) * 1.1
    matrix = sampling_matrix(np.array([2.0 - just, 2.0 - less]), SliceProfile("rect", 5.0), 9, 1.0)
    assert matrix[0].any()
    assert not matrix[1].any()


def test_words():
    assert SliceProfile.parse("rect", 4.0) == SliceProfile("rect", 4.0)
    assert SliceProfile.parse("gauss", 4.0) == SliceProfile("gauss", 4.0)
    assert SliceProfile.parse("gauss:5.5", 4.0) == SliceProfile("gauss", 5.5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("gaus", "did you mean"), ("gauss:wide", "full width at half maximum"), ("rect:3", "--thickness"),
        ("gauss:-1", "above 0"), ("gauss:nan", "above 0"), ("gauss:", "gauss:4.5"),
    ],
)  # fmt: skip
def test_words_that_are_none(words: str, says: str):
    with pytest.raises(ConfigError, match=says):
        SliceProfile.parse(words, 4.0)
