"""Published networks answer what is stored of them, in both precisions, and keep their names on the meta device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_networks import ENTRIES, FROM_DEEPINV
from recipe_weights import filled

STORED = Path(__file__).parents[2] / "golden" / "checkpoints" / "by_recipe.npz"
ROUNDED = 1e-6
"""Outputs are stored in float32 (6e-8 of a value); some embeddings reach phases of 700, which cost as much again."""
SINGLE = 5e-5
"""A hundred sums and norms in float32; 7e-6 seen in published codes, times 7."""

ALL = ENTRIES | FROM_DEEPINV


@pytest.mark.parametrize("name", ALL)
def test_outputs_are_the_stored_ones(name: str) -> None:
    with np.load(STORED, allow_pickle=False) as stored:
        expected = torch.from_numpy(stored[name]).double()
    network = filled(ALL[name].build)
    with torch.no_grad():
        found = ALL[name].call(network)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < ROUNDED * expected.abs().max()


@pytest.mark.parametrize("name", ENTRIES)
def test_single_precision_is_close(name: str) -> None:
    network = filled(ENTRIES[name].build)
    with torch.no_grad():
        exact = ENTRIES[name].call(network)
        single = ENTRIES[name].call(_InSingle(network.float()))
    assert single.dtype == torch.float32
    assert (single.double() - exact).abs().max() < SINGLE * exact.abs().max()


class _InSingle:
    """A network whose inputs are rounded to float32 first."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __call__(self, *given: torch.Tensor, **named: torch.Tensor) -> object:
        return self.network(*(g.float() for g in given), **{k: v.float() for k, v in named.items()})

    def __getattr__(self, name: str) -> object:
        method = getattr(self.network, name)
        return lambda *given: method(*(g.float() for g in given))
