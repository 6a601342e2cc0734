"""Single precision in double: equal to stored float32 to the last bit, whatever kernel runs."""

from __future__ import annotations

import pytest
import torch

from restore.bridges.roundings import single, single_linspace


@pytest.mark.traces("name", "diffusionmbir", "ve_index_N*")
def test_a_time_grid_that_was_stored_in_float32(arrays, name):
    t = arrays(f"diffusionmbir/{name}")["t"]
    assert torch.equal(single_linspace(1, 1e-10, len(t)), t.double())


def test_few_entries():
    assert single_linspace(0.3, 7, 1).tolist() == [float(single(0.3))]
    assert single_linspace(-1, 999, 3).tolist() == [-1, 499, 999]


def test_one_rounding():
    x = torch.tensor([1 + 2.0**-25, 1 + 2.0**-24 + 2.0**-40, 1 / 3], dtype=torch.float64)
    assert single(x).dtype == torch.float64
    assert single(x)[:2].tolist() == [1.0, 1 + 2.0**-23]
    assert abs(float(single(x)[2]) * 3 - 1) < 2.0**-24  # half a unit in the last place
