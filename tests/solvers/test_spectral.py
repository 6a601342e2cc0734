"""Singular value decompositions against what defines them, and against dense ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.singular import SVD
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian, motion
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.solvers.spectral import DECOMPOSED, decompose

DOUBLE = 1e-9  # float64: transforms and dense products of some hundred pixels; 7e-15 seen

SHAPE = (2, 9, 7)
REAL = torch.empty(0, dtype=torch.float64)


def case(name: str, g: torch.Generator) -> LinearOperator:
    double = {"generator": g, "dtype": torch.float64}
    phase = torch.polar(torch.ones(3, 1, 8, 5).double(), torch.rand(3, 1, 8, 5, **double))
    weight = torch.randn(9, 7, **double)
    column, row = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], dtype=torch.float64)
    bump = torch.outer(column, row)
    operators = {
        "identity": lambda: Identity(SHAPE),
        "diagonal": lambda: Diagonal(torch.where(weight > 1, 0, weight), SHAPE),
        "complex diagonal": lambda: Diagonal(torch.complex(weight, weight.flip(0)), SHAPE),
        "inpainting": lambda: Inpainting.random(SHAPE, 0.6, g).to(torch.float64),
        "circular": lambda: Blur(motion(4.0, 30.0, dtype=torch.float64), SHAPE),
        "even circular": lambda: Blur(motion(4.0, 30.0, dtype=torch.float64), (2, 8, 6)),
        "reflect": lambda: Blur(gaussian(0.8, dtype=torch.float64), SHAPE, "reflect"),
        "valid": lambda: Blur(bump, SHAPE, "valid"),
        "inseparable": lambda: Blur(motion(4.0, 30.0, dtype=torch.float64), SHAPE, "reflect"),
        "area": lambda: Downsample((2, 8, 6), 2, "area", REAL),
        "bicubic": lambda: Downsample(SHAPE, 3, "bicubic", REAL),
        "one coil": lambda: MultiCoilMRI(phase, torch.rand(3, 8, 5, generator=g) < 0.5),
        "lines": lambda: MultiCoilMRI(phase[0], torch.rand(5, generator=g) < 0.6),
        "coils": lambda: MultiCoilMRI(
            torch.randn(3, 6, 5, generator=g, dtype=torch.complex128),
            torch.rand(5, generator=g) < 0.6,
        ),
        "ct": lambda: ParallelBeamCT(
            ParallelBeam.covering(shape=(8, 8), views=5), dtype=torch.float64
        ),
    }
    return operators[name]()


NAMES = [
    "identity", "diagonal", "complex diagonal", "inpainting", "circular", "even circular", "reflect", "valid",
    "inseparable", "area", "bicubic", "one coil", "lines", "coils", "ct",
]  # fmt: skip


@pytest.fixture(params=NAMES)
def operator(request, generator) -> LinearOperator:
    return case(request.param, generator)


def normal(shape: tuple[int, ...], operator: LinearOperator, g: torch.Generator) -> Tensor:
    kind = torch.complex128 if operator.is_complex else torch.float64
    return torch.randn((2, *shape), generator=g, dtype=kind)


def whole(svd: SVD, operator: LinearOperator) -> Tensor:
    """Every singular value once: those of half a spectrum stand for both halves."""
    n = operator.in_shape
    if isinstance(operator, Blur) and operator.boundary == "circular":
        return torch.fft.fft2(operator(impulse(n))).abs()
    return svd.values.expand(n)


def impulse(shape: tuple[int, ...]) -> Tensor:
    x = torch.zeros(shape, dtype=torch.float64)
    x[..., 0, 0] = 1
    return x


def test_factors_make_up_the_operator(operator, generator):
    svd = decompose(operator, REAL)
    x, y = (normal(s, operator, generator) for s in (operator.in_shape, operator.out_shape))
    close = {"rtol": DOUBLE, "atol": DOUBLE}
    torch.testing.assert_close(svd.v(svd.vh(x)), x, **close)
    torch.testing.assert_close(svd.uh(operator(x)), svd.values * svd.vh(x), **close)
    torch.testing.assert_close(svd.apply(x), operator(x), **close)
    torch.testing.assert_close(operator.adjoint(y), svd.v(svd.values * svd.uh(y)), **close)
    assert bool((svd.values >= 0).all())
    if x.shape == svd.vh(x).shape:
        torch.testing.assert_close(svd.vh(x).abs().norm(), x.abs().norm(), **close)


def test_singular_values_are_those_of_the_matrix(operator):
    svd, n = decompose(operator, REAL), math.prod(operator.in_shape)
    kind = torch.complex128 if operator.is_complex else torch.float64
    matrix = operator(torch.eye(n, dtype=kind).reshape(n, *operator.in_shape)).reshape(n, -1)
    wanted = torch.linalg.svdvals(matrix)
    got = whole(svd, operator).flatten().sort(descending=True).values
    torch.testing.assert_close(got[: len(wanted)], wanted, rtol=0, atol=DOUBLE)
    assert not bool(got[len(wanted) :].any())


def test_precision_follows_the_request(generator):
    for name in NAMES:
        operator = case(name, generator).to(torch.float32)
        kind = torch.complex64 if operator.is_complex else torch.float32
        y = torch.ones(operator.out_shape, dtype=kind)
        svd = decompose(operator, y)
        assert svd.values.dtype == torch.float32
        assert svd.v(svd.values * svd.uh(y)).dtype == kind


def test_nothing_seen_is_all_zero():
    svd = decompose(Inpainting(torch.zeros(4, 4), (4, 4)), torch.empty(0))
    assert not bool(svd.values.any())


def test_large_operators_without_one_are_refused_with_those_that_have_one():
    coils = MultiCoilMRI(torch.ones(4, 64, 64, dtype=torch.complex64), torch.ones(64))
    blur = Blur(motion(4.0, 30.0), (3, 64, 64), "reflect")
    for operator in (coils, blur):
        with pytest.raises(ConfigError, match="no singular value decomposition") as error:
            decompose(operator, torch.empty(0))
        assert all(name in str(error.value) for name in DECOMPOSED)
