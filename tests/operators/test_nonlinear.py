"""Non-linear forward models: closed forms against automatic differentiation."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.nonlinear import NonlinearOperator


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Magnitude(NonlinearOperator):
    """|x|: a model without a closed-form product."""

    n: int

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def _apply(self, x: Tensor) -> Tensor:
        return x.abs()


def test_default_product_is_autograds(generator: torch.Generator) -> None:
    x = torch.randn(4, 3, generator=generator, dtype=torch.complex128)
    v = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        got = Magnitude(3).vjp(x, v)
    torch.testing.assert_close(got, v * x / x.abs())
    assert not got.requires_grad


def test_counts_follow_the_law(generator: torch.Generator) -> None:
    op = BeerLambert.example(generator).to(torch.float64)
    x = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64)
    counts = op(x)
    torch.testing.assert_close(counts, 1000 * torch.exp(-op.projector(x)))
    torch.testing.assert_close(op.line_integrals(counts), op.projector(x))
    assert torch.isfinite(op.line_integrals(torch.zeros(3, 4))).all()


def test_closed_form_product_is_autograds(generator: torch.Generator) -> None:
    op = BeerLambert.example(generator).to(torch.float64)
    x = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    v = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    (want,) = torch.autograd.grad(op(x), x, v)
    torch.testing.assert_close(op.vjp(x.detach(), v), want)
    torch.testing.assert_close(NonlinearOperator._vjp(op, x, v), want)


def test_contract(generator: torch.Generator) -> None:
    op = BeerLambert.example(generator)
    x = torch.rand(3, 4, generator=generator)
    assert torch.equal(copy.deepcopy(op)(x), op(x))
    assert op.to(torch.float64).projector.dtype == torch.float64
    with pytest.raises(ShapeError, match=r"BeerLambert.*\(4, 3\)"):
        op(x.T)
    with pytest.raises(ShapeError, match="cotangent"):
        op.vjp(x, x[0])
    with pytest.raises(ConfigError, match="photons"):
        BeerLambert(op.projector, 0)
