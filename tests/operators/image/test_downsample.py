"""Downsampling against torch's own resampling and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, interpolate

from restore.errors import ConfigError, ShapeError
from restore.operators.image.downsample import METHODS, Downsample

DOUBLE = 1e-12  # float64: sums of at most 64 products, 1e-16 of each; 2e-15 seen
INVERSE = 1e-9  # float64: a division by the eigenvalues, the smallest of which are 1e-2


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_interior_is_torchs(factor: int, generator: torch.Generator) -> None:
    n, m = 24 * factor, 20 * factor
    x = torch.randn(3, n, m, generator=generator, dtype=torch.float64)
    want = interpolate(x[None], (24, 20), mode="bicubic", antialias=True, align_corners=False)[0]
    got = Downsample((3, n, m), factor).to(torch.float64)(x)
    inside = slice(2, -2)
    torch.testing.assert_close(got[:, inside, inside], want[:, inside, inside], rtol=0, atol=DOUBLE)


def test_bicubic_border_mirrors_with_the_edge_repeated(generator: torch.Generator) -> None:
    x = torch.randn(32, 32, generator=generator, dtype=torch.float64)
    wide = torch.cat([x.flip(1), x, x.flip(1)], 1)
    wide = torch.cat([wide.flip(0), wide, wide.flip(0)], 0)
    small = Downsample((32, 32), 4).to(torch.float64)(x)
    large = Downsample((96, 96), 4).to(torch.float64)(wide)
    torch.testing.assert_close(small, large[8:16, 8:16], rtol=0, atol=DOUBLE)


def test_area_and_nearest(generator: torch.Generator) -> None:
    x = torch.randn(2, 12, 16, generator=generator)
    torch.testing.assert_close(Downsample((2, 12, 16), 4, "area")(x), avg_pool2d(x, 4))
    assert torch.equal(Downsample((2, 12, 16), 4, "nearest")(x), x[:, ::4, ::4])
    assert torch.equal(Downsample((2, 12, 16), 1)(x), x)


@given(
    st.sampled_from(METHODS),
    st.integers(1, 5),
    st.integers(1, 17),
    st.integers(1, 17),
)
@settings(max_examples=60, deadline=None)
def test_any_size(method: str, factor: int, height: int, width: int) -> None:
    op = Downsample((height, width), factor, method).to(torch.float64)
    assert op.out_shape == (math.ceil(height / factor), math.ceil(width / factor))
    flat = torch.full((height, width), 3.0, dtype=torch.float64)
    torch.testing.assert_close(op(flat), torch.full(op.out_shape, 3.0, dtype=torch.float64))
    back = op.interpolate(op(flat))
    assert back.shape == flat.shape
    torch.testing.assert_close(back, flat)
    y = torch.randn(op.out_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.isfinite(op.pinv(y)).all()


@pytest.mark.parametrize("method", METHODS)
def test_pinv_is_the_pseudo_inverse(method: str, generator: torch.Generator) -> None:
    op = Downsample((3, 10, 12), 2, method).to(torch.float64)
    y = torch.randn(2, *op.out_shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(op(op.pinv(y)), y)
    matrix = torch.kron(op.rows, op.columns)
    want = (torch.linalg.pinv(matrix) @ y.reshape(2, 3, -1, 1)).reshape(2, 3, 10, 12)
    torch.testing.assert_close(op.pinv(y), want)


@pytest.mark.parametrize("method", METHODS)
def test_interpolation_stays_in_place(method: str) -> None:
    ramp = torch.arange(80, dtype=torch.float64)
    x = ramp[:, None] + 2 * ramp
    op = Downsample((80, 80), 4, method).to(torch.float64)
    inside = slice(20, -20)
    back = op.interpolate(op(x))
    torch.testing.assert_close(back[inside, inside], x[inside, inside], rtol=0, atol=INVERSE)


def test_interpolation_is_torchs_inside(generator: torch.Generator) -> None:
    # With a factor of one torch's antialiased bicubic and this one share the kernel, a = -0.5.
    y = torch.randn(1, 1, 16, 16, generator=generator, dtype=torch.float64)
    want = interpolate(y, (64, 64), mode="bicubic", antialias=True, align_corners=False)
    got = Downsample((64, 64), 4).to(torch.float64).interpolate(y[0, 0])
    inside = slice(12, -12)
    torch.testing.assert_close(got[inside, inside], want[0, 0][inside, inside], rtol=0, atol=DOUBLE)


def test_complex_images(generator: torch.Generator) -> None:
    op = Downsample((9, 8), 2).to(torch.float64)
    x = torch.randn(9, 8, dtype=torch.complex128, generator=generator)
    y = torch.randn(op.out_shape, dtype=torch.complex128, generator=generator)
    torch.testing.assert_close(
        torch.vdot(op(x).flatten(), y.flatten()), torch.vdot(x.flatten(), op.adjoint(y).flatten())
    )


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="bicubic, area, nearest"):
        Downsample((8, 8), 2, "lanczos")
    for factor in (0, 1.5):
        with pytest.raises(ConfigError, match="integer"):
            Downsample((8, 8), factor)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="Downsample"):
        Downsample((8,), 2)
