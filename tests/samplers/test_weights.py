"""Weights of particles: effective sizes, resampling that is right on average, the ratio of two steps."""

from __future__ import annotations

import pytest
import torch

from restore.samplers.toolbox.weights import (
    effective_size,
    log_normal_ratio,
    picked,
    systematic,
    uniform,
)

DOUBLE = 1e-9  # float64: sums of some ten numbers; 1e-14 seen
COUNTED = 0.01  # means of 4000 numbers that differ by less than one: 0.008 at most


def test_effective_size_of_equal_and_of_single_weights():
    sizes = effective_size(torch.tensor([[0.0, 0.0], [0.0, -1e4], [0.0, -1e4]]).double())
    torch.testing.assert_close(sizes, torch.tensor([3.0, 1.0]).double(), rtol=0, atol=DOUBLE)


def test_descendants_are_within_one_of_their_share_and_right_on_average():
    w = torch.tensor([0.05, 0.4, 0.25, 0.3]).double()
    u = (torch.arange(4000).double() + 0.5) / 4000
    ancestors = systematic(w.log()[:, None].expand(4, 4000), u)
    counts = torch.stack([(ancestors == k).sum(0) for k in range(4)]).double()
    assert float((counts - 4 * w[:, None]).abs().max()) < 1
    torch.testing.assert_close(counts.mean(1), 4 * w, rtol=0, atol=COUNTED)


@pytest.mark.parametrize("u", [0.0, 1 - 1e-16])
def test_particles_without_weight_have_no_descendants(u):
    log_weights = torch.tensor([-1e6, 0.0, 0.0, -1e6]).double()
    ancestors = systematic(log_weights, torch.tensor(u, dtype=torch.float64))
    assert set(ancestors.tolist()) <= {1, 2}
    assert systematic(log_weights, torch.tensor(u, dtype=torch.float64), 1).shape == (1,)


def test_each_item_picks_its_own_particles():
    x = torch.arange(12.0).reshape(3, 2, 2)
    got = picked(x, torch.tensor([[2, 0], [2, 1], [0, 1]]))
    assert got[:, 0].tolist() == [[8, 9], [8, 9], [0, 1]]
    assert got[:, 1].tolist() == [[2, 3], [6, 7], [6, 7]]


def test_uniform_numbers_of_normal_ones():
    found = uniform(torch.tensor([-50.0, 0.0, 50.0]))
    assert found[0] == 0
    assert found[1] == 0.5
    assert found[2] < 1


def test_ratio_of_two_normal_densities():
    g = torch.Generator().manual_seed(2)
    m, d, n = (torch.randn(5, 3, 4, generator=g, dtype=torch.float64) for _ in range(3))
    v = 0.3
    x = m + d + v**0.5 * n

    def log_density(mean):
        return torch.distributions.Normal(mean, v**0.5).log_prob(x).sum((1, 2))

    wanted = log_density(m) - log_density(m + d)
    torch.testing.assert_close(log_normal_ratio(d, n, v, 2), wanted, rtol=DOUBLE, atol=DOUBLE)
    both = log_normal_ratio(torch.complex(d, 2 * d), torch.complex(n, -n), v, 2)
    parts = log_normal_ratio(d, n, v, 2) + log_normal_ratio(2 * d, -n, v, 2)
    torch.testing.assert_close(both, parts, rtol=DOUBLE, atol=DOUBLE)
