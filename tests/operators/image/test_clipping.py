"""Saturation: values, gradient, start, contract."""

from __future__ import annotations

import math

import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.operators import Clipping
from restore.operators.nonlinear import NonlinearOperator


def test_values_and_gradient():
    op = Clipping((5,), 2.0, -1.0, 1.0)
    x = torch.tensor([-0.7, -0.5, 0.1, 0.5, 0.8], dtype=torch.float64)
    assert op(x).tolist() == [-1.0, -1.0, 0.2, 1.0, 1.0]
    v = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    assert op.vjp(x, v).tolist() == [0.0, 4.0, 6.0, 8.0, 0.0]
    torch.testing.assert_close(NonlinearOperator._vjp(op, x, v), op.vjp(x, v))


def test_the_start_explains_the_measurement(generator):
    op = Clipping.example(generator)
    y = op(torch.randn(2, 3, 4, generator=generator))
    torch.testing.assert_close(op.pinv(y), y / 2)
    torch.testing.assert_close(op(op.pinv(y)), y)


def test_contract(generator):
    op = Clipping.example(generator)
    x = torch.rand(2, 3, 4, generator=generator)
    torch.testing.assert_close(op(x)[1], op(x[1]))
    assert op.to(torch.float64)(x.double()).dtype == torch.float64
    assert op.in_shape == op.out_shape == (3, 4)
    with pytest.raises(ShapeError, match=r"Clipping.*\(4, 3\)"):
        op(x[0].T)


@pytest.mark.parametrize(
    "settings", [{"gain": 0.0}, {"gain": math.inf}, {"low": 1.0}, {"high": math.nan}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="Clipping"):
        Clipping((3,), **settings)
