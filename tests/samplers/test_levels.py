"""Noise levels against stored alpha-bars and against their definitions."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from restore.errors import ConfigError
from restore.samplers.toolbox.levels import (
    Schedule,
    alpha_bar_to_sigma,
    descent,
    geometric,
    grid,
    karras,
    latent,
    vp,
    vp_alphas_cumprod,
)

STORED = 1e-5  # the stored levels are float32 products of up to 1000 factors, 6e-8 each


@pytest.mark.parametrize(
    "case", ["dds2d_ct_prox_f64", "dds3d_ct_svct_f64", "dds2d_mri_official_f64"]
)
def test_alpha_bars_are_the_published_ones(arrays, case):
    g = arrays(f"dds/{case}")
    torch.testing.assert_close(vp_alphas_cumprod()[g["t"]], g["abar_t"], rtol=STORED, atol=0)
    sigmas = alpha_bar_to_sigma(g["abar_t"])
    torch.testing.assert_close(
        torch.tensor(vp(5), dtype=torch.float64), sigmas, rtol=STORED, atol=0
    )


def test_gaussian_posterior_schedule_agrees_but_for_float32_betas(arrays):
    stored = arrays("gaussian_posterior/prior")["alphas_cumprod"]
    torch.testing.assert_close(vp_alphas_cumprod(), stored, rtol=STORED, atol=0)


@pytest.mark.parametrize(("asked", "calls"), [(19, 20), (20, 20), (30, 31), (50, 50), (99, 100)])
def test_vp_grid_makes_as_many_calls_as_the_published_code(asked, calls):
    sigmas = vp(asked)
    assert len(sigmas) == calls
    assert sigmas == sorted(set(sigmas), reverse=True)
    assert sigmas[-1] == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4)), rel=STORED)


def test_geometric_and_karras_meet_their_ends():
    for levels in (geometric, karras):
        s = torch.tensor(levels(7, 5.0, 0.02), dtype=torch.float64)
        torch.testing.assert_close(s[[0, -1]], torch.tensor([5.0, 0.02]).double())
        assert bool((s.diff() < 0).all())
        assert levels(1, 5.0, 0.02) == pytest.approx([5.0])
    ratios = torch.tensor(geometric(7, 5.0, 0.02)).log().diff()
    torch.testing.assert_close(ratios, ratios[0].expand(6))
    roots = torch.tensor(karras(7, 5.0, 0.02)).pow(1 / 7).diff()
    torch.testing.assert_close(roots, roots[0].expand(6))


@pytest.mark.parametrize("name", get_args(Schedule))
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_every_grid_descends_to_a_level_above_zero(name, n):
    sigmas = grid(name, n, 200.0, 0.02)
    floor = [s for s in sigmas if s == 0.02] if name == "decay" else []  # where its levels stay
    falling = sigmas[: len(sigmas) - max(0, len(floor) - 1)]
    assert falling == sorted(set(falling), reverse=True)
    assert len(sigmas) >= n
    assert sigmas[-1] > 0
    steps = descent(sigmas)
    assert [s.i for s in steps] == list(range(len(sigmas)))
    assert {s.n for s in steps} == {len(sigmas)}
    assert [s.next for s in steps] == [*sigmas[1:], 0.0]
    assert all(s.told == s.sigma for s in steps)
    assert all(s.a**2 + s.s**2 == pytest.approx(1) for s in steps)
    assert all(s.s / s.a == pytest.approx(s.sigma) for s in steps)


def test_a_flow_needs_a_start_beyond_its_second_level():
    assert grid("flow", 4, 3.5, 0.1) == pytest.approx([3.5, 3.0, 1.0, 1 / 3])
    with pytest.raises(ConfigError, match="sigma_start must exceed 3"):
        grid("flow", 4, 3.0, 0.1)


@pytest.mark.parametrize(
    "arguments", [(0, 1.0, 0.1), (5, 0.1, 1.0), (5, 1.0, 0.0), (5, math.nan, 0.1)]
)
def test_impossible_levels_are_refused(arguments):
    for levels in (geometric, karras):
        with pytest.raises(ConfigError):
            levels(*arguments)
    for n in (0, 1001):
        with pytest.raises(ConfigError, match="1000 levels"):
            vp(n)
        with pytest.raises(ConfigError, match="1000 levels"):
            latent("sd", n)
