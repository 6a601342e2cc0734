"""Warping: where pixels go, against numpy and scipy; the matrix and its transpose; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from restore.errors import ConfigError, ShapeError
from restore.operators import Downsample, Warp

DOUBLE = 1e-13  # float64: four products a pixel; 5e-15 seen
MOVED = 0.02  # a blob's middle, of bilinear weights; 2e-3 seen
SINGLE = 1e-5  # float32 weights; the dot product of some hundred pixels

SHAPE = (2, 9, 12)


def image(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(op: Warp) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices of the operator and of its adjoint, built apart from each other."""
    n, m = (torch.Size(s).numel() for s in (op.in_shape, op.out_shape))
    forward = op(torch.eye(n, dtype=torch.float64).reshape(n, *op.in_shape)).reshape(n, m).T
    back = op.adjoint(torch.eye(m, dtype=torch.float64).reshape(m, *op.out_shape)).reshape(m, n)
    return forward, back


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_adjoint_is_the_transpose(padding: str) -> None:
    places = Warp.example(torch.Generator().manual_seed(2)).positions.double()
    forward, back = dense(Warp(places, (6, 7), padding))
    # Four products of weights below 1 in double precision.
    torch.testing.assert_close(forward, back, atol=DOUBLE, rtol=0)
    assert forward.any()


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("border", "nearest")])
def test_samples_are_those_of_scipy(padding: str, mode: str) -> None:
    """Inside; scipy's constant border does not fade over the last half pixel as grid samples do."""
    g = torch.Generator().manual_seed(4)
    places = torch.rand(7, 5, 2, generator=g, dtype=torch.float64) * torch.tensor([11.0, 8.0])
    if padding == "border":
        places = places * 1.6 - 3
    x = image()
    columns, rows = places.unbind(-1)
    expected = [
        map_coordinates(plane, np.stack([rows, columns]), order=1, mode=mode) for plane in x.numpy()
    ]
    # Positions go to -1..1 and back: 1e-15 of 12 pixels, times differences of about 3.
    np.testing.assert_allclose(Warp(places, SHAPE, padding)(x), np.stack(expected), atol=DOUBLE)


def test_quarter_turns_and_shifts_are_exact() -> None:
    x = image((3, 8, 8))
    turned = Warp.affine(x.shape, angle_deg=90, dtype=torch.float64)(x)
    # Sines of a right angle are 6e-17 off zero.
    np.testing.assert_allclose(turned, np.rot90(x, axes=(1, 2)), atol=DOUBLE)
    shifted = Warp.affine(x.shape, shift=(2, -3), dtype=torch.float64)(x)
    expected = torch.zeros_like(x)
    expected[:, :5, 2:] = x[:, 3:, :6]
    np.testing.assert_allclose(shifted, expected, atol=DOUBLE)
    still = Warp.affine(x.shape, dtype=torch.float64)
    np.testing.assert_allclose(still(x), x, atol=DOUBLE)


def test_scale_and_shear_go_about_the_middle() -> None:
    x = torch.zeros(1, 17, 17, dtype=torch.float64)
    x[0, 8, 8] = x[0, 4, 8] = 1.0  # the middle, and four pixels above it
    big = Warp.affine(x.shape, scale=2.0, dtype=torch.float64)(x)
    assert big[0, 8, 8] == pytest.approx(1)
    assert big[0, 0, 8] == pytest.approx(1)
    for point, shear in (((4, 8), (45.0, 0.0)), ((8, 4), (0.0, 45.0))):
        x = torch.zeros(1, 17, 17, dtype=torch.float64)
        x[0, 8, 8] = x[0][point] = 1.0
        sheared = Warp.affine(x.shape, shear_deg=shear, dtype=torch.float64)(x)
        assert sheared[0, 8, 8] == pytest.approx(1)
        moved = (4, 12) if point == (4, 8) else (12, 4)  # as far as it is away
        assert sheared[0][moved] == pytest.approx(1)


def test_a_homography_moves_points_where_it_says() -> None:
    matrix = torch.tensor([[1.1, 0.2, 1.0], [-0.1, 0.9, 2.0], [0.01, -0.005, 1.0]])
    ramp = torch.stack(torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="xy"))
    op = Warp.projective(matrix, ramp.shape, dtype=torch.float64)
    seen = op(ramp.double())  # each pixel tells the place that it shows
    point = matrix.double() @ torch.tensor([6.0, 9.0, 1.0]).double()
    column, row = (float(v / point[2]) for v in point[:2])
    found = [float(map_coordinates(plane, [[row], [column]], order=1)[0]) for plane in seen.numpy()]
    # The ramp is bent by the projection within the pixel.
    assert found == pytest.approx([6, 9], abs=MOVED)


def test_complex_images_and_batches() -> None:
    op = Warp.affine((9, 12), angle_deg=20, padding="border", dtype=torch.float64)
    x = torch.complex(image((4, 9, 12)), image((4, 9, 12), 1))
    assert torch.equal(op(x).real, op(x.real))
    assert torch.equal(op.adjoint(x).imag, op.adjoint(x.imag))


def test_it_composes_with_other_operators() -> None:
    """Low-resolution frames of a moving camera."""
    frames = Downsample((8, 8), 2) @ Warp.affine((8, 8), shift=(0.5, 0.25))
    x = image((8, 8)).float()
    y = image((4, 4), 3).float()
    # 64 products in single precision: 1e-6.
    assert float((frames(x) * y).sum()) == pytest.approx(
        float((x * frames.adjoint(y)).sum()), abs=SINGLE
    )


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Warp(torch.zeros(3, 4), (5, 5)), ShapeError, "positions"),
        (lambda: Warp(torch.zeros(3, 4, 2, dtype=torch.long), (5, 5)), ShapeError, "int64"),
        (lambda: Warp(torch.zeros(3, 4, 2), (5, 1)), ShapeError, "2 or more"),
        (lambda: Warp(torch.zeros(3, 4, 2), (5, 5), "mirror"), ConfigError, "zeros, border"),
        (lambda: Warp(torch.full((3, 4, 2), torch.nan), (5, 5)), ConfigError, "not finite"),
        (lambda: Warp.affine((5, 5), scale=0), ConfigError, "scale above 0"),
        (lambda: Warp.affine((5, 5), angle_deg=float("nan")), ConfigError, "finite"),
        (lambda: Warp.projective(torch.eye(2), (5, 5)), ShapeError, r"\(3, 3\)"),
        (lambda: Warp.projective(torch.ones(3, 3), (5, 5)), ConfigError, "inverse"),
    ],
)
def test_refusals(make, error, match) -> None:
    with pytest.raises(error, match=match):
        make()
