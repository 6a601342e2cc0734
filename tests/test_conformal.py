"""Conformal factors against brute force, closed forms and simulated exchangeable images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from restore.bench.calibrating import scores_of
from restore.conformal import (
    BLOCK,
    LEVELS,
    PLAIN,
    Scale,
    Spread,
    block_means,
    conformal_factor,
    half_width,
    nominal_factor,
    of_object,
    spread_of,
)
from restore.errors import ConfigError, ShapeError

# Deviations of binomial shares: five of them are missed by chance once in a million; seeds are fixed.
FIVE = 5.0


@pytest.mark.parametrize("n", [1, 9, 10, 19, 20, 99, 1000])
@pytest.mark.parametrize("level", LEVELS)
def test_the_factor_is_the_smallest_score_that_covers_enough(n: int, level: float):
    scores = np.random.default_rng(n).exponential(size=n)
    enough = [q for q in sorted(scores) if (scores <= q).sum() >= (n + 1) * level - 1e-9]
    assert conformal_factor(scores, level) == (enough[0] if enough else math.inf)


def test_ranks_are_exact_where_binary_fractions_are_not():
    """(19 + 1) 0.95 is 19: the largest of 19 scores, not infinity."""
    assert conformal_factor(np.arange(19), 0.95) == 18
    assert conformal_factor(np.arange(9), 0.9) == 8
    assert conformal_factor(np.arange(8), 0.9) == math.inf


@pytest.mark.parametrize("k", [4, 400])
def test_gaussian_samples_have_students_factor(k: int):
    """1.645 at 90 % for many samples; for 4 a t of three degrees, times what the mean errs."""
    rng = np.random.default_rng(k)
    draws = rng.standard_normal((k + 1, 100, 400))
    factor = conformal_factor(spread_of(draws[1:]).scores(draws[0]), 0.9)
    exact = float(t.ppf(0.95, k - 1)) * (1 + 1 / k) ** 0.5
    assert nominal_factor(0.9, k) == pytest.approx(exact)
    # A quantile of 40000 scores errs by (p (1 - p) / n)^1/2 over the density: 0.8 % for k = 400, 1.2 % for t.
    assert factor == pytest.approx(exact, rel=0.06)
    if k == 400:
        assert exact == pytest.approx(float(norm.ppf(0.95)), rel=0.01)  # 1.645 (1 + O(1/K))


def test_exchangeable_images_are_covered_as_often_as_said():
    """Samples of the wrong spread, errors with heavy tails: the factor mends both on the next image."""
    rng = np.random.default_rng(5)
    level, trials, n, covered, bound = 0.8, 400, 24, 0, 0.0
    for _ in range(trials):
        scale = rng.uniform(0.5, 3, n + 1)  # every image is harder or easier than others
        truth = scale * rng.standard_t(3, n + 1)
        draws = 0.3 * scale * rng.standard_normal((4, n + 1))
        score = np.abs(truth - draws.mean(0)) / draws.std(0, ddof=1)
        covered += bool(score[-1] <= conformal_factor(score[:-1], level))
        bound = level + 1 / (
            n + 1
        )  # the upper end of split conformal prediction for ties of measure 0
    deviation = (level * (1 - level) / trials) ** 0.5
    assert level - FIVE * deviation <= covered / trials <= bound + FIVE * deviation


def test_agreement_and_air_do_not_count():
    rng = np.random.default_rng(1)
    truth = np.zeros((2, 16, 16))
    truth[:, 4:12, 4:12] = 1.0
    samples = truth + 0.05 * rng.standard_normal((6, 2, 16, 16))
    samples[:, :, 4:6] = truth[:, 4:6]  # measured: all samples are the same there
    samples[:, :, 8, :4] += 0.5  # folded over into the air: bright, and air all the same
    spread = spread_of(samples)
    assert not spread.counted[:, 4:6].any()  # agreed
    inside = np.zeros_like(truth, bool)
    inside[:, 6:12, 4:12] = True
    np.testing.assert_array_equal(spread.counted & of_object(truth), inside)
    assert spread.counted.sum() > inside.sum() + 100
    assert spread.deviation.min() > 0
    assert spread.scores(truth).size == spread.counted.sum()
    assert of_object(truth, "region").all()  # a corner of 4 x 4 pixels in each of 8 x 8
    scored = scores_of(samples, truth, magnitudes=True)
    assert scored["pixel"][PLAIN].size == inside.sum()
    assert scores_of(samples, truth, magnitudes=False)["pixel"][PLAIN].size == spread.counted.sum()


def test_regions_are_means_over_blocks_smaller_at_the_border():
    image = np.random.default_rng(2).standard_normal((3, 13, 21))
    found = block_means(image)
    assert found.shape == (3, 2, 3)
    assert found[1, 1, 2] == pytest.approx(image[1, BLOCK:, 2 * BLOCK :].mean())
    assert found[2, 0, 1] == pytest.approx(image[2, :BLOCK, BLOCK : 2 * BLOCK].mean())


def test_a_width_of_regions_is_that_of_their_means():
    samples = np.random.default_rng(3).standard_normal((5, 2, 13, 21)).astype(np.float32)
    width = half_width(samples, 2.0, "region")
    assert width.shape == (2, 13, 21)
    block = samples[:, 1, BLOCK:, :BLOCK].astype(np.float64).mean((-2, -1))
    # Single precision of the result: 6e-8; ten times that and more.
    assert width[1, 9, 3] == pytest.approx(2 * block.std(ddof=1), rel=1e-5)
    assert (width[1, BLOCK:, :BLOCK] == width[1, 9, 3]).all()
    pixels = half_width(samples, 2.0)
    assert pixels[0, 3, 4] == pytest.approx(2 * samples[:, 0, 3, 4].std(ddof=1), rel=1e-5)


def test_samples_that_agree_everywhere_have_no_score():
    spread = spread_of(np.ones((4, 8, 8)))
    assert not spread.counted.any()
    with pytest.raises(ConfigError, match="no score"):
        conformal_factor(spread.scores(np.ones((8, 8))), 0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.1, math.nan])
def test_levels_are_probabilities(level: float):
    for find in (lambda: conformal_factor(np.ones(3), level), lambda: nominal_factor(level, 4)):
        with pytest.raises(ConfigError, match="level lies between 0 and 1"):
            find()


def test_one_sample_and_other_truths_are_refused():
    with pytest.raises(ConfigError, match="2 samples or more"):
        spread_of(np.ones((1, 8, 8)))
    with pytest.raises(ConfigError, match="2 samples or more"):
        nominal_factor(0.9, 1)
    spread: Spread = spread_of(np.random.default_rng(0).standard_normal((3, 8, 8)))
    with pytest.raises(ShapeError, match="truth"):
        spread.scores(np.ones((8, 9)))


def test_a_scale_pools_the_variance_and_adds_the_contrast():
    rows, columns = np.mgrid[:20, :20].astype(np.float64)
    ramp = 100 + 0.5 * columns + 0 * rows
    even = np.full((20, 20), 0.25)
    assert Scale(0.5, 0).of(ramp, even) == pytest.approx(
        even
    )  # pooling what is the same everywhere
    # The variance of slope * {-1, 0, 1} is 2/3 slope^2, of slope * {0, 0, 1} in the first and last column 2/9 slope^2.
    k = 0.5 * ((18 * (2 / 3) ** 0.25 + 2 * (2 / 9) ** 0.25) / 20) ** 2
    # Double precision, 9 sums of numbers near 10^2 of squares near 10^1.
    assert Scale(0, 0.2).of(ramp, even) == pytest.approx(math.hypot(0.25, 0.2 * k), rel=1e-9)
    both = Scale(0, 0.2).of(np.stack([ramp, 0 * ramp]), np.stack([even, even]))
    assert both[1] == pytest.approx(even)  # planes by themselves
    one = np.zeros((20, 20))
    one[10, 10] = 5.0
    pooled = Scale(1, 0).of(np.zeros((20, 20)), one)
    assert pooled[8:13, 8:13] == pytest.approx(1.0)  # 25 / 25
    assert pooled[10, 13] == pytest.approx(0, abs=1e-9)
    assert PLAIN.of(ramp, one) is one


def test_scores_and_widths_are_of_the_same_scale():
    rng = np.random.default_rng(7)
    samples = rng.standard_normal((5, 2, 16, 16)) + np.linspace(0, 30, 16)
    truth = samples.mean(0) + rng.standard_normal((2, 16, 16))
    for unit in ("pixel", "region"):
        scale, spread = Scale(0.5, 0.1), spread_of(samples, unit)
        width = half_width(samples, 1.0, unit, scale=scale)
        known = truth if unit == "pixel" else block_means(truth)
        per = width if unit == "pixel" else width[:, ::BLOCK, ::BLOCK]
        # Single precision of the widths: 6e-8; ten times that and more.
        assert spread.scores(truth, scale) == pytest.approx(
            (np.abs(known - spread.mean) / per)[spread.counted], rel=1e-5
        )


@pytest.mark.parametrize("wrong", [(-0.1, 0), (1.1, 0), (0, -1), (0, math.inf), (math.nan, 0)])
def test_scales_out_of_range_are_refused(wrong: tuple[float, float]):
    with pytest.raises(ConfigError, match="a scale has"):
        Scale(*wrong)
