"""Combinations of operators against dense matrices, and the two iterations behind the contract."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.operators.algebra import Stack
from restore.operators.base import Compose, Scale, least_squares
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.mri.multicoil import MultiCoilMRI

ESTIMATE = 1e-3  # power iterations stop when they change by less
SCALED = 1e-5  # float32: one product more
DOUBLE = 1e-10  # float64: sums of at most some hundred products; 1e-16 seen


def test_product_applies_right_to_left(generator: torch.Generator) -> None:
    blur = Blur(torch.rand(3, 3, generator=generator), (8, 8))
    smaller = Downsample((8, 8), 2)
    x = torch.randn(8, 8, generator=generator)
    assert torch.equal((smaller @ blur)(x), smaller(blur(x)))
    with pytest.raises(ShapeError, match=r"Downsample.*Blur|Blur.*Downsample"):
        blur @ smaller


def test_product_keeps_slices_and_complex_numbers(generator: torch.Generator) -> None:
    mri = MultiCoilMRI.example(generator)
    weighted = Diagonal(torch.rand(mri.out_shape, generator=generator), mri.out_shape, slices=1)
    assert (weighted @ mri).slice_ndim == 1
    assert (weighted @ mri).is_complex
    mixing = Diagonal(torch.ones(1), mri.out_shape)
    assert (mixing @ mri).slice_ndim == 0


def test_unequal_measurements_become_a_vector(generator: torch.Generator) -> None:
    x = torch.randn(4, 2, 6, 8, generator=generator)
    parts = (Downsample((2, 6, 8), 2), Blur(torch.ones(3, 3), (2, 6, 8), "valid"))
    stack = Stack(parts)
    assert stack.out_shape == (2 * 3 * 4 + 2 * 4 * 6,)
    expected = torch.cat([p(x).reshape(4, -1) for p in parts], dim=-1)
    assert torch.equal(stack(x), expected)
    images = sum(p.adjoint(p(x)) for p in parts)
    torch.testing.assert_close(stack.adjoint(stack(x)), images)


def test_bad_stacks_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Stack(())
    with pytest.raises(ShapeError, match="one shape"):
        Stack((Identity((2, 2)), Identity((2, 3))))


def test_scale_by_complex_number_and_by_zero(generator: torch.Generator) -> None:
    inner = Identity((3,), complex_=True)
    x = torch.randn(3, generator=generator, dtype=torch.complex64)
    turned = Scale(inner, 2j)
    assert torch.equal(turned.adjoint(turned(x)), turned.normal(x))
    torch.testing.assert_close(turned.pinv(turned(x)), x)
    assert not Scale(inner, 0.0).pinv(x).any()


def test_diagonal_inverts_what_it_can() -> None:
    weight = torch.tensor([2.0, 0.0, 1e-25, 1e25])
    y = Diagonal(weight, (4,)).pinv(torch.tensor([4.0, 5.0, 1e-25, 1e25]))
    torch.testing.assert_close(y, torch.tensor([2.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ShapeError, match="Diagonal"):
        Diagonal(torch.ones(3), (4,))


@pytest.mark.parametrize("complex_", [False, True])
def test_norm_with_close_singular_values(complex_: bool, generator: torch.Generator) -> None:
    weight = torch.linspace(0.5, 1.0, 400, dtype=torch.float64)
    op = Compose(Identity((400,), complex_=complex_).to(torch.float64), Diagonal(weight, (400,)))
    estimate = op.norm()
    assert estimate == pytest.approx(1.0, rel=ESTIMATE)
    assert Compose(Identity((400,)), op).norm() == estimate
    assert Compose(Scale(Identity((400,)), 1e-9), op).norm() == pytest.approx(
        1e-9 * estimate, rel=SCALED
    )


def test_norm_of_zero() -> None:
    assert Diagonal(torch.zeros(1), (3,)).norm() == 0.0


def test_least_squares_solves_and_damps(generator: torch.Generator) -> None:
    weight = torch.linspace(0.5, 2.0, 12, dtype=torch.float64)
    op = Diagonal(weight.reshape(3, 4), (3, 4))
    y = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(least_squares(op, y, iterations=30), y / op.weight)
    expected = op.weight * y / (op.weight**2 + 0.3)
    torch.testing.assert_close(least_squares(op, y, iterations=30, damping=0.3), expected)


def test_least_squares_treats_slices_alone(generator: torch.Generator) -> None:
    mri = MultiCoilMRI.example(generator).to(torch.float64)
    x = torch.randn(mri.in_shape, generator=generator, dtype=torch.complex128)
    x[0] *= 1e-5
    y = mri(x)
    together = least_squares(mri, y, iterations=4)
    for i in range(2):
        single = MultiCoilMRI(mri.maps[i], mri.mask[i])
        alone = least_squares(single, y[i], iterations=4)
        torch.testing.assert_close(together[i], alone, rtol=DOUBLE, atol=0)
