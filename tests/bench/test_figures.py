"""Statistics, calibration, tables and comparisons against closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from restore.bench.comparison import compare
from restore.bench.coverage import calibration
from restore.bench.results import Row, append
from restore.bench.statistics import mean_interval, paired
from restore.bench.table import conditions_line, summarise
from restore.errors import ConfigError, InputError, NotFoundError

INTERVAL = 0.06  # the deviation of 400 numbers is 3.5 % uncertain
COVERAGE = 5e-3  # a share over 200,000 draws is 1e-3 uncertain
RATIO = 0.02  # deviations over 50,000 draws and more are 5e-3 uncertain
BINS = 0.05  # a bin holds a tenth of the draws: 1 %


def row(volume: str, method: str, value: float, **more) -> Row:
    base = Row(
        key=f"{volume}/{method}/{more.get('setting', '4x')}", protocol="toy", volume=volume, setting="4x",
        method=method, status="done", psnr=value, ssim=value / 100, nmse=1 / value, target="t", data_range=1.0,
        data_range_rule="r", mask="m", mask_seed="7", noise_std=0.1, noise_rule="given", slices=4, seconds=2.0,
    )  # fmt: skip
    return dataclasses.replace(base, **more)


def test_interval_of_a_normal_sample_has_the_width_of_theory():
    x = np.random.default_rng(1).normal(3.0, 2.0, 400)
    mean, low, high = mean_interval(x.tolist())
    half = 1.96 * x.std() / 20
    assert mean == pytest.approx(x.mean())
    assert high - mean == pytest.approx(half, rel=INTERVAL)
    assert mean - low == pytest.approx(half, rel=INTERVAL)


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        _, low, high = mean_interval(rng.normal(0, 1, 40).tolist())
        hits += low <= 0 <= high
    assert 0.90 <= hits / 200 <= 0.985


def test_weighted_mean_and_one_value():
    assert mean_interval([1.0, 4.0], [3, 1])[0] == 1.75
    mean, low, high = mean_interval([2.0])
    assert mean == 2.0
    assert np.isnan([low, high]).all()
    assert mean_interval([np.inf, 1.0])[0] == np.inf
    with pytest.raises(ValueError, match="no value"):
        mean_interval([])


def test_paired_differences_see_what_means_do_not():
    rng = np.random.default_rng(3)
    hard = rng.normal(30, 5, 30)  # volumes differ far more than methods
    found = paired((hard + 0.5 + rng.normal(0, 0.1, 30)).tolist(), hard.tolist())
    assert 0.4 < found.low < found.mean < found.high < 0.6
    assert (found.n, found.larger) == (30, 30)
    with pytest.raises(ValueError, match="against"):
        paired([1.0], [])


@pytest.mark.parametrize("k", [2, 4, 9])
def test_right_samples_are_calibrated_whatever_the_distribution(k):
    rng = np.random.default_rng(4)
    scale = rng.uniform(0.1, 3, 200_000)
    draws = rng.exponential(size=(k + 1, scale.size)) * scale
    found = calibration(draws[1:], draws[0], np.ones(scale.size, bool))
    assert found.nominal == pytest.approx((k - 1) / (k + 1))
    assert found.coverage == pytest.approx(found.nominal, abs=COVERAGE)
    assert found.spread_ratio == pytest.approx(1, abs=RATIO)


def test_samples_that_lie_too_close_are_told():
    rng = np.random.default_rng(5)
    truth, samples = rng.normal(size=50_000), 0.25 * rng.normal(size=(8, 50_000))
    found = calibration(samples, truth, np.ones(50_000, bool))
    assert found.coverage < 0.4 < found.nominal
    # error variance 1 + 1/16/8, predicted (1 + 1/8)/16
    assert found.spread_ratio == pytest.approx(((1 + 1 / 128) / (9 / 8 / 16)) ** 0.5, rel=RATIO)


def test_bins_follow_the_predicted_deviation():
    rng = np.random.default_rng(6)
    scale = np.repeat([0.5, 2.0], 50_000)
    draws = rng.normal(size=(21, scale.size)) * scale
    found = calibration(draws[1:], draws[0], np.ones(scale.size, bool))
    assert np.allclose(found.bins["error"], np.repeat([0.5, 2.0], 5) * (1.05**0.5), rtol=BINS)
    assert found.bins["predicted"] == sorted(found.bins["predicted"])


@pytest.mark.parametrize("k", [2, 8])
def test_the_curve_of_gaussian_samples_is_the_diagonal(k):
    # a share over 100,000 draws is 1.6e-3 uncertain: five deviations are 8e-3
    rng = np.random.default_rng(7)
    draws = rng.normal(size=(k + 1, 100_000)) * rng.uniform(0.1, 3, 100_000)
    bins = calibration(draws[1:], draws[0], np.ones(100_000, bool)).bins
    assert bins["covered"] == pytest.approx(bins["level"], abs=2 * COVERAGE)
    narrow = calibration(0.3 * draws[1:], draws[0], np.ones(100_000, bool)).bins
    assert all(a < b for a, b in zip(narrow["covered"], bins["level"], strict=True))


def test_only_chosen_pixels_count():
    samples = np.stack([np.zeros((2, 2)), np.ones((2, 2))])
    where = np.array([[True, False], [False, False]])
    truth = np.array([[0.5, 9.0], [9.0, 9.0]])
    assert calibration(samples, truth, where).coverage == 1


def test_table_has_a_line_for_each_method_best_first():
    rows = [row("a", "tv", 30), row("b", "tv", 32), row("a", "dds", 35), row("b", "dds", 36),
            row("c", "dds", 1, status="failed", psnr=None, ssim=None, nmse=None)]  # fmt: skip
    lines = summarise(rows)
    assert [(line.method, line.volumes, line.failed) for line in lines] == [
        ("dds", 2, 1),
        ("tv", 2, 0),
    ]
    assert lines[1].cells["psnr"].mean == 31
    assert lines[0].slices == 8
    weighted = summarise([row("a", "tv", 30, slices=1), row("b", "tv", 34, slices=3)], "slices")
    assert weighted[0].cells["psnr"].mean == 33


def test_no_figure_without_its_conditions():
    line = conditions_line([row("a", "tv", 30), row("b", "tv", 31, mask_seed="8")])
    for part in ("target: t", "data range: r", "mask: m", "mask seed: 7 | 8", "noise: given"):
        assert part in line


def write(run, *rows):
    run.mkdir(exist_ok=True)
    for one in rows:
        append(run / "results.csv", one)


def test_compare_two_runs_and_two_methods(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write(
        a, *(row(v, "dds", p) for v, p in zip("xyz", (31, 33, 35), strict=True)), row("x", "tv", 30)
    )
    write(b, *(row(v, "dds", p) for v, p in zip("xyw", (30, 33, 20), strict=True)))
    found = compare(str(a), str(b))
    assert {(c.a, c.figure) for c in found} == {("dds", "psnr"), ("dds", "ssim"), ("dds", "nmse")}
    psnr = next(c for c in found if c.figure == "psnr").difference
    assert (psnr.mean, psnr.n, psnr.larger) == (0.5, 2, 1)
    mixed = compare(f"{a}:tv", f"{b}:dds")
    assert (mixed[0].a, mixed[0].b, mixed[0].difference.mean) == ("tv", "dds", 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("data_range", 2.0), ("mask_seed", "8"), ("target", "other"), ("noise_std", None)],
)
def test_figures_of_other_measurements_are_not_compared(tmp_path, field, value):
    a, b = tmp_path / "a", tmp_path / "b"
    write(a, row("x", "dds", 30))
    write(b, row("x", "dds", 31, **{field: value}))
    with pytest.raises(InputError, match=f"another measurement: {field}"):
        compare(str(a), str(b))


def test_slips_in_a_comparison_are_named(tmp_path):
    a = tmp_path / "a"
    write(a, row("x", "dds", 30))
    with pytest.raises(ConfigError, match="has no method 'tv'; it has dds"):
        compare(f"{a}:tv", f"{a}:dds")
    with pytest.raises(ConfigError, match="on both sides"):
        compare(f"{a}:dds", str(a))
    with pytest.raises(NotFoundError, match=r"holds no results\.csv"):
        compare(str(a), str(tmp_path / "nowhere"))
