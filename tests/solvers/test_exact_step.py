"""Proximal points in closed form against the conjugate gradients that they replace."""

from __future__ import annotations

import pytest
import torch

from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import motion
from restore.solvers.exact_step import closed_form
from restore.solvers.proximal import DataTerm, data_step

SHAPE = (3, 14, 11)


@pytest.fixture(params=["inpainting", "blur", "bicubic", "nearest"])
def operator(request, generator):
    if request.param == "inpainting":
        return Inpainting.random(SHAPE, 0.6, generator).to(torch.float64)
    if request.param == "blur":
        return Blur(motion(4.0, 30.0, dtype=torch.float64), SHAPE)
    return Downsample(SHAPE, 3, request.param).to(torch.float64)


@pytest.mark.parametrize("weight", [1e-8, 0.3, 1e4])
@pytest.mark.parametrize("precision", [None, 25.0])
def test_agrees_with_conjugate_gradients(operator, weight, precision, generator):
    y = torch.randn((2, *operator.out_shape), generator=generator, dtype=torch.float64)
    x0 = torch.randn((2, *SHAPE), generator=generator, dtype=torch.float64)
    term = DataTerm(operator, y, precision)
    kept = x0.clone()
    found = closed_form(term)(x0, weight)
    expected = data_step(term, x0, weight, iters=2000, tol=1e-13).x
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    assert torch.equal(x0, kept)


def test_single_precision_and_huge_weights(operator, generator):
    y = torch.rand(operator.out_shape, generator=generator)
    x0 = torch.rand(SHAPE, generator=generator)
    term = DataTerm(operator.to(torch.float32), y, 1e8)
    found = closed_form(term)(x0, 1e8)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_none_where_it_takes_an_iteration(generator):
    mask = Inpainting.random(SHAPE, 0.6, generator)
    y = torch.rand(SHAPE, generator=generator)
    reflect = Blur(motion(4.0, 30.0), SHAPE, "reflect")
    for term in (
        DataTerm(reflect, y, 4.0),
        DataTerm(mask, y, torch.rand(SHAPE, generator=generator)),
        DataTerm(mask, y + 0j, 4.0),
        DataTerm(mask, y, 0.0),
        DataTerm(mask @ mask, y, 4.0),
    ):
        assert closed_form(term) is None
