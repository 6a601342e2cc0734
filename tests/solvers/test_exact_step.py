"""Proximal points in closed form against the conjugate gradients that they replace."""

from __future__ import annotations

import pytest
import torch

from restore.operators.algebra import BlockDiagonal
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import motion
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.solvers.exact_step import closed_form
from restore.solvers.proximal import DataTerm, data_step

SOLVED = 1e-8  # what CG stopped at 1e-13 leaves; 3e-10 seen

SHAPE = (3, 14, 11)


@pytest.fixture(
    params=[
        "inpainting",
        "blur",
        "bicubic",
        "nearest",
        "identity",
        "diagonal",
        "coil",
        "scaled",
        "blocks",
    ]
)
def operator(request, generator):
    if request.param == "identity":
        return Identity(SHAPE, like=torch.empty(0, dtype=torch.float64))
    if request.param == "diagonal":
        return Diagonal(torch.randn(14, 11, generator=generator, dtype=torch.float64), SHAPE)
    if request.param == "coil":
        turn = torch.rand(3, 1, 14, 11, generator=generator, dtype=torch.float64)
        maps = torch.polar(torch.ones_like(turn), turn)
        return MultiCoilMRI(maps, torch.rand(11, generator=generator) < 0.5)
    if request.param == "scaled":
        return 1.7 * Inpainting.random(SHAPE, 0.6, generator).to(torch.float64)
    if request.param == "blocks":
        masks = (Inpainting.random(SHAPE[1:], 0.6, generator).to(torch.float64) for _ in range(3))
        return BlockDiagonal(tuple(masks))
    if request.param == "inpainting":
        return Inpainting.random(SHAPE, 0.6, generator).to(torch.float64)
    if request.param == "blur":
        return Blur(motion(4.0, 30.0, dtype=torch.float64), SHAPE)
    return Downsample(SHAPE, 3, request.param).to(torch.float64)


@pytest.mark.parametrize("weight", [1e-8, 0.3, 1e4])
@pytest.mark.parametrize("precision", [None, 25.0])
def test_agrees_with_conjugate_gradients(operator, weight, precision, generator):
    kind = torch.complex128 if operator.is_complex else torch.float64
    y = torch.randn((2, *operator.out_shape), generator=generator, dtype=kind)
    x0 = torch.randn((2, *SHAPE), generator=generator, dtype=kind)
    term = DataTerm(operator, y, precision)
    kept = x0.clone()
    found = closed_form(term)(x0, weight)
    expected = data_step(term, x0, weight, iters=2000, tol=1e-13).x
    torch.testing.assert_close(found, expected, rtol=SOLVED, atol=SOLVED)
    assert torch.equal(x0, kept)


def test_single_precision_and_huge_weights(operator, generator):
    kind = torch.complex64 if operator.is_complex else torch.float32
    y = torch.rand(operator.out_shape, generator=generator, dtype=kind)
    x0 = torch.rand(SHAPE, generator=generator, dtype=kind)
    term = DataTerm(operator.to(torch.float32), y, 1e8)
    found = closed_form(term)(x0, 1e8)
    assert found.dtype == kind
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
