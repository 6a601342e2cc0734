"""Fewer coils for A^H A: equal to A^H (A x), to rounding where nothing is faint and to its bound where something is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.turned_coils import FAINT, without_faint

HEIGHT, WIDTH, COILS = 24, 34, 8
MASKS = {
    "columns": (WIDTH,),
    "rows": (HEIGHT, 1),
    "points": (HEIGHT, WIDTH),
    "slices": (2, 1, WIDTH),
}
ROUNDING = {torch.complex64: 2e-6, torch.complex128: 1e-13}
"""Relative, of two orders of FFTs and sums over eight coils; 2e-7 and 4e-16 seen."""


def smooth(generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Two slices of coils like broad bells around the object, each with a phase that is linear."""
    rows = torch.linspace(-1, 1, HEIGHT, dtype=torch.float64)[:, None]
    columns = torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    angle = torch.arange(COILS)[:, None, None] * (2 * torch.pi / COILS)
    slopes = torch.randn(2, 2, COILS, 1, 1, generator=generator, dtype=torch.float64)
    bells = torch.exp(-((rows - angle.sin()) ** 2 + (columns - angle.cos()) ** 2) / 4)
    maps = bells * torch.exp(1j * (slopes[0] * rows + slopes[1] * columns))
    return (maps / torch.linalg.vector_norm(maps, dim=-3, keepdim=True)).to(dtype)


def mask(name: str, generator: torch.Generator) -> Tensor:
    return torch.rand(MASKS[name], generator=generator) < 0.4


def apart(op: MultiCoilMRI, generator: torch.Generator) -> float:
    """Between A^H A x and A^H (A x), relative."""
    x = torch.randn(3, *op.in_shape, generator=generator, dtype=op.maps.dtype)
    want = op.adjoint(op(x))
    return float(torch.linalg.vector_norm(op.normal(x) - want) / torch.linalg.vector_norm(want))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", MASKS)
def test_of_rough_maps_nothing_is_left_out(
    name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    maps = torch.randn(2, COILS, HEIGHT, WIDTH, generator=generator, dtype=dtype)
    op = MultiCoilMRI(maps, mask(name, generator))
    assert op._turned is maps
    assert apart(op, generator) <= ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", MASKS)
def test_of_smooth_maps_the_faint_is_left_out(
    name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    op = MultiCoilMRI(smooth(generator, dtype), mask(name, generator))
    if dtype == torch.complex64 and name != "points":
        assert op._turned.shape[-3] < COILS
    # A mask takes about the same share of faint coils as of the others; four times as much is no matter of chance.
    faint = 4 * FAINT * torch.finfo(dtype).eps
    assert apart(op, generator) <= ROUNDING[dtype] + faint


@pytest.mark.parametrize("axis", [-1, -2, None])
def test_coils_that_are_sums_of_others_go(axis: int | None, generator: torch.Generator) -> None:
    """Five mixtures of two coils, other ones at every place: two are left, and their Gram matrices are the same."""
    few = torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.complex128)
    places = 1 if axis is None else few.shape[axis]
    mixing = torch.randn(2, places, 5, 2, generator=generator, dtype=torch.complex128)
    several = by_place(few, axis)
    maps = (mixing @ several).movedim(-3, -1 if axis is None else axis).reshape(2, 5, 5, 6)
    found = without_faint(maps, axis)
    assert found.shape == (2, 2, 5, 6)
    gram = [by_place(m, axis).mH @ by_place(m, axis) for m in (maps, found)]
    torch.testing.assert_close(*gram, rtol=0, atol=1e-11)  # sums of five products of about 10


def by_place(maps: Tensor, axis: int | None) -> Tensor:
    return maps.flatten(-2).unsqueeze(-3) if axis is None else maps.movedim(axis, -3)


def test_the_place_that_needs_most_decides(generator: torch.Generator) -> None:
    maps = torch.zeros(4, 6, 5, dtype=torch.complex64)
    maps[0] = 1
    assert without_faint(maps, -2).shape == (1, 6, 5)
    maps[:3, 2] = torch.randn(3, 5, generator=generator, dtype=torch.complex64)
    assert without_faint(maps, -2).shape == (3, 6, 5)
    assert without_faint(torch.zeros_like(maps), -2).shape == (1, 6, 5)


def test_maps_that_are_not_finite_stay() -> None:
    maps = torch.full((4, 6, 5), torch.nan + 0j)
    assert without_faint(maps, -2) is maps
    assert without_faint(maps[:, :0], -2).shape == (4, 0, 5)
