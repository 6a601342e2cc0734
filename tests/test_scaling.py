"""Scaling is invertible, never clips, and refuses what is no scale."""

from __future__ import annotations

import math

import pytest
import torch

from restore.errors import ConfigError
from restore.scaling import Scaling

DOUBLE = 1e-12  # float64: one quotient


def test_there_and_back_without_clipping():
    x = torch.tensor([-3.0, 0.0, 7e6])
    scaling = Scaling(0.25)
    assert torch.equal(scaling.to_unit(x), 4 * x)
    assert torch.equal(scaling.to_physical(scaling.to_unit(x)), x)
    assert torch.equal(Scaling().to_unit(x), x)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_only_positive_numbers_are_scales(scale):
    with pytest.raises(ConfigError, match="'window'"):
        Scaling(scale, "window")


def test_quantile_of_the_magnitude():
    x = torch.arange(1001).float()
    assert Scaling.quantile(x, 0.9).scale == 900
    assert Scaling.quantile(-x, 1.0).scale == 1000
    assert Scaling.quantile(torch.tensor([3 + 4j])).scale == 5
    assert "0.999" in Scaling.quantile(x).rule


def test_quantile_follows_the_units():
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for c in (1e-6, 1e6):
        assert Scaling.quantile(c * x).scale == pytest.approx(
            c * Scaling.quantile(x).scale, rel=DOUBLE
        )


def test_a_lone_bright_pixel_is_a_scale_and_zeros_are_none():
    x = torch.zeros(10000)
    with pytest.raises(ConfigError, match="zero everywhere"):
        Scaling.quantile(x)
    x[5] = 3
    assert Scaling.quantile(x).scale == 3
