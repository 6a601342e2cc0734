"""What callers set in torch for their own code does not reach a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.image.downsample import Downsample
from restore.problem import Reconstruction

A = Downsample((1, 16, 16), 2)
Y = torch.from_numpy(np.random.default_rng(0).random((1, 8, 8)).astype(np.float32))


def restored() -> Reconstruction:
    return solve(Y, A, noise=0.05, prior="medical", n_steps=2)


def test_autocast_is_put_aside_and_said():
    plain = restored()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = restored()
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(found.image, plain.image)
    assert "autocast on cpu is put aside" in found.notes[0]
    assert not plain.notes


def test_a_default_device_of_the_caller_is_not_that_of_the_run():
    plain = restored()
    torch.set_default_device("meta")
    try:
        found = restored()
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    assert torch.equal(found.image, plain.image)


def test_a_default_of_half_precision_is_refused():
    torch.set_default_dtype(torch.bfloat16)
    try:
        with pytest.raises(ConfigError, match=r"default dtype is torch\.bfloat16"):
            restored()
    finally:
        torch.set_default_dtype(torch.float32)
