"""Sampling along axes: the matrix it stands for, splines against scipy, what was not measured, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from restore.errors import ConfigError, ShapeError
from restore.operators.base import dense
from restore.operators.volume.axis_sampling import AxisSampling
from restore.operators.volume.slice_profile import SliceProfile, sampling_matrix

DOUBLE = 1e-12  # float64: sums of a hundred products


def thick(slices: int = 5, factor: int = 3) -> torch.Tensor:
    centres = np.arange(slices) * factor + (factor - 1) / 2
    profile = SliceProfile("rect", float(factor))
    return torch.from_numpy(sampling_matrix(centres, profile, slices * factor, 1.0))


def test_the_matrix_is_a_kronecker_product_with_exchanged_axes():
    op = AxisSampling.example(torch.Generator().manual_seed(0)).to(torch.float64)
    z, _, x = op.matrices
    assert z is not None
    assert x is not None
    whole = np.kron(np.kron(z.numpy(), np.eye(4)), x.numpy()).reshape(4, 4, 3, -1)
    wanted = whole.transpose(2, 0, 1, 3).reshape(48, -1)  # order (2, 0, 1)
    np.testing.assert_allclose(dense(op).numpy(), wanted, atol=DOUBLE)


def test_interpolation_is_scipys_spline():
    op = AxisSampling((15, 2, 3), (thick(), None, None))
    y = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spline = CubicSpline(np.arange(5) * 3 + 1, y.numpy(), bc_type="clamped")
    np.testing.assert_allclose(
        op.interpolate(y).numpy(), spline(np.clip(np.arange(15), 1, 13)), atol=DOUBLE
    )


def test_the_pseudo_inverse_is_smooth_and_explains_the_slices():
    op = AxisSampling((15, 2, 3), (thick(), None, None))
    y = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = op.pinv(y)
    np.testing.assert_allclose(op(x).numpy(), y.numpy(), atol=DOUBLE)
    spline = CubicSpline(np.arange(5) * 3 + 1, x[1::3].numpy(), bc_type="clamped")
    np.testing.assert_allclose(x.numpy(), spline(np.clip(np.arange(15), 1, 13)), atol=DOUBLE)


def test_what_nothing_saw_is_not_measured():
    matrix = thick()
    matrix[1] = 0
    op = AxisSampling((15, 2, 3), (matrix, None, None), (1, 0, 2))
    y = torch.full((2, 5, 3), torch.nan, dtype=torch.float64)
    y[:, [0, 2, 3, 4]] = 1.0
    assert torch.equal(op.project(y)[:, 1], torch.zeros(2, 3, dtype=torch.float64))
    flat = op.interpolate(op.project(y))  # the spline does not see the gap's zeros
    np.testing.assert_allclose(flat.numpy(), 1, atol=DOUBLE)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_few_slices(slices: int):
    op = AxisSampling((3 * slices, 2, 2), (thick(slices), None, None))
    y = torch.ones(slices, 2, 2, dtype=torch.float64)
    np.testing.assert_allclose(op.interpolate(y).numpy(), 1, atol=DOUBLE)


def test_refusals():
    with pytest.raises(ShapeError, match="expected \\(samples, 14\\)"):
        AxisSampling((14, 2, 3), (thick(), None, None))
    with pytest.raises(ShapeError, match="each of the axes"):
        AxisSampling((15, 2, 3), (thick(), None, None), (0, 0, 2))
    with pytest.raises(ConfigError, match="same place"):
        AxisSampling((15, 2, 3), (torch.zeros(5, 15), None, None))
