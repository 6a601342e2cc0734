"""A grid of point spread functions against scipy, against Blur, and against the blur that it interpolates."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.image.blur import BOUNDARIES, Blur
from restore.operators.image.kernels import gaussian
from restore.operators.image.varying_blur import VaryingBlur

SINGLE = 1e-5  # of numbers near one, by FFTs in single precision; 2e-7 seen
DOUBLE = 1e-12  # of numbers near one, by FFTs in double precision; 1e-15 seen


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("reflect", "mirror")])
def test_scipy_says_the_same(boundary: str, mode: str, generator: torch.Generator) -> None:
    kernels = torch.rand(2, 3, 3, 5, generator=generator, dtype=torch.float64)
    x = torch.rand(12, 15, generator=generator, dtype=torch.float64)
    middles = ((np.arange(2) + 0.5) * 6 - 0.5, (np.arange(3) + 0.5) * 5 - 0.5)
    where = np.stack(np.meshgrid(*(np.arange(n) for n in x.shape), indexing="ij"), -1).astype(float)
    for axis, middle in enumerate(middles):
        where[..., axis] = np.clip(where[..., axis], middle[0], middle[-1])
    wanted = np.zeros(x.shape)
    for r in range(2):
        for c in range(3):
            one = np.zeros((2, 3))
            one[r, c] = 1
            blurred = scipy.ndimage.convolve(x.numpy(), kernels[r, c].numpy(), mode=mode)
            wanted += RegularGridInterpolator(middles, one)(where) * blurred
    found = VaryingBlur(kernels, (12, 15), boundary)(x).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_equal_kernels_are_one_blur(grid, boundary: str, generator: torch.Generator) -> None:
    kernel = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    one = Blur(kernel, (2, 9, 8), boundary)
    many = VaryingBlur(kernel.expand(*grid, 4, 3), (2, 9, 8), boundary)
    x = torch.rand(3, 2, 9, 8, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(many(x), one(x), rtol=0, atol=DOUBLE)
    y = one(x)
    torch.testing.assert_close(many.adjoint(y), one.adjoint(y), rtol=0, atol=10 * DOUBLE)
    if grid == (1, 1):
        assert torch.equal(many.pinv(y), one.pinv(y))


def test_a_finer_grid_comes_nearer_to_the_true_blur() -> None:
    n, half = 48, 12
    image = torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def kernel(row: float) -> Tensor:
        d = torch.arange(-half, half + 1, dtype=torch.float64)
        g = torch.exp(-(d**2) / (2 * (0.8 + row / n) ** 2))
        return torch.outer(g, g) / g.sum() ** 2

    wanted = torch.stack([Blur(kernel(i), (n, n))(image)[i] for i in range(n)])
    errors = []
    for cells in (4, 8):
        middles = [(c + 0.5) * n / cells - 0.5 for c in range(cells)]
        op = VaryingBlur(torch.stack([kernel(m) for m in middles])[:, None], (n, n))
        inside = slice(n // 8, -n // 8)  # between the outermost middles, where it interpolates
        errors.append(float((op(image) - wanted)[inside].norm()))
    assert errors[1] < errors[0] / 3  # linear interpolation: a quarter for half the distance


def test_the_inverse_sharpens() -> None:
    x = torch.zeros(32, 32)
    x[8:24, 10:20] = 1
    op = VaryingBlur.of([[gaussian(0.7)], [gaussian(1.6)]], (32, 32), "reflect")
    y = op(x)
    assert float((op.pinv(y) - x).norm()) < 0.7 * float((y - x).norm())


def test_kernels_of_any_size_keep_their_centres() -> None:
    sizes = [(1, 2), (3, 3), (4, 1), (5, 6)]
    kernels = [[torch.ones(size) / (size[0] * size[1])] for size in sizes]
    op, x = (
        VaryingBlur.of(kernels, (16, 9)),
        torch.rand(16, 9, generator=torch.Generator().manual_seed(0)),
    )
    for kernel, blur in zip(kernels, op._blurs, strict=True):
        torch.testing.assert_close(blur(x), Blur(kernel[0], (16, 9))(x), rtol=0, atol=SINGLE)


@pytest.mark.parametrize(
    ("make", "kind", "what"),
    [
        (lambda: VaryingBlur(torch.ones(3, 3), (8, 8)), ShapeError, "kernels"),
        (lambda: VaryingBlur.of([[torch.ones(3, 3)], []], (8, 8)), ShapeError, "equally many"),
        (lambda: VaryingBlur(torch.ones(9, 1, 3, 3), (8, 8)), ShapeError, "one a pixel"),
        (lambda: VaryingBlur(torch.ones(1, 1, 3, 9), (8, 8), "valid"), ShapeError, "too large"),
        (lambda: VaryingBlur(torch.ones(1, 1, 3, 3), (8, 8), "black"), ConfigError, "boundary"),
        (lambda: VaryingBlur(torch.full((1, 1, 1, 1), torch.nan), (8, 8)), ConfigError, "finite"),
    ],
)
def test_refusals(make, kind, what) -> None:
    with pytest.raises(kind, match=what):
        make()
