"""Blur against scipy's convolutions, for all boundaries, odd and even kernels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ConfigError, ShapeError
from restore.operators.image.blur import BOUNDARIES, Blur
from restore.operators.image.kernels import gaussian, motion

DOUBLE = 1e-12  # float64: sums of at most 100 products, or FFTs of as many numbers; 1e-14 seen
DOT = 1e-11  # float64: a sum over all pixels of such sums; 4e-14 seen
SINGLE = 2e-6  # float32: two FFTs of 121 numbers, 6e-8 an operation; 1.2e-7 seen

SCIPY_MODE = {"circular": "wrap", "reflect": "mirror"}


def expected(x: np.ndarray, kernel: np.ndarray, boundary: str) -> np.ndarray:
    if boundary == "valid":
        return scipy.signal.convolve(x, kernel, mode="valid", method="direct")
    return scipy.ndimage.convolve(x, kernel, mode=SCIPY_MODE[boundary])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@given(
    kh=st.integers(1, 6), kw=st.integers(1, 6), height=st.integers(6, 13), width=st.integers(6, 13)
)
@settings(max_examples=25, deadline=None)
def test_matches_scipy(boundary: str, kh: int, kw: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(kh * 7 + kw)
    kernel = torch.randn(kh, kw, generator=generator, dtype=torch.float64)
    x = torch.randn(2, height, width, generator=generator, dtype=torch.float64)
    op = Blur(kernel, (2, height, width), boundary)
    for blurred, image in zip(op(x), x, strict=True):
        np.testing.assert_allclose(
            blurred.numpy(), expected(image.numpy(), kernel.numpy(), boundary), atol=DOUBLE
        )
    y = torch.randn(op.out_shape, generator=generator, dtype=torch.float64)
    assert float((op(x) * y).sum()) == pytest.approx(float((x * op.adjoint(y)).sum()), abs=DOT)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_point_becomes_the_kernel(boundary: str, generator: torch.Generator) -> None:
    kernel = torch.rand(5, 3, generator=generator)
    point = torch.zeros(11, 11)
    point[5, 5] = 1
    y = Blur(kernel, (11, 11), boundary)(point)
    top, left = (1, 3) if boundary == "valid" else (3, 4)
    torch.testing.assert_close(y[top : top + 5, left : left + 3], kernel, atol=SINGLE, rtol=0)


def test_a_large_kernel_wraps_around(generator: torch.Generator) -> None:
    kernel = torch.rand(9, 11, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    want = scipy.ndimage.convolve(x.numpy(), kernel.numpy(), mode="wrap")
    np.testing.assert_allclose(Blur(kernel, (4, 5))(x).numpy(), want, atol=DOUBLE)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_complex_images_and_adjoint(boundary: str, generator: torch.Generator) -> None:
    op = Blur(torch.rand(4, 3, generator=generator).double(), (2, 8, 9), boundary)
    x = torch.randn(2, 8, 9, dtype=torch.complex128, generator=generator)
    y = torch.randn(op.out_shape, dtype=torch.complex128, generator=generator)
    torch.testing.assert_close(op(x), torch.complex(op(x.real), op(x.imag)))
    torch.testing.assert_close(
        torch.vdot(op(x).flatten(), y.flatten()), torch.vdot(x.flatten(), op.adjoint(y).flatten())
    )
    torch.testing.assert_close(op.normal(x), op.adjoint(op(x)))


def test_transfer_holds_the_singular_values(generator: torch.Generator) -> None:
    op = Blur(torch.rand(3, 3, generator=generator).double(), (6, 6))
    matrix = op(torch.eye(36).double().reshape(36, 6, 6)).reshape(36, 36)
    singular = torch.linalg.svdvals(matrix)
    full = torch.fft.fft2(torch.fft.irfft2(op.transfer, s=(6, 6))).abs().flatten()
    torch.testing.assert_close(full.sort(descending=True).values, singular)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_pinv_sharpens(boundary: str) -> None:
    t = torch.linspace(-1, 1, 48, dtype=torch.float64)
    x = ((t[:, None] ** 2 + t**2) < 0.4).double()
    op = Blur(gaussian(1.2, dtype=torch.float64), (48, 48), boundary)
    y = op(x)
    inside = slice(6, -6)
    blurred = y if boundary != "valid" else torch.nn.functional.pad(y, (5, 5, 5, 5))
    sharp = (op.pinv(y) - x)[inside, inside].norm()
    assert sharp < 0.85 * (blurred - x)[inside, inside].norm()


def test_wiener_inverts_what_the_kernel_kept() -> None:
    kernel = gaussian(0.5, dtype=torch.float64)
    op = Blur(kernel, (16, 16))
    x = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(op.wiener(op(x), 0.0), x)
    with pytest.raises(ConfigError, match="circular"):
        Blur(kernel, (16, 16), "reflect").wiener(x, 0.1)


def test_bad_settings_are_refused() -> None:
    kernel = motion(5, 20)
    with pytest.raises(ConfigError, match="circular, reflect, valid"):
        Blur(kernel, (8, 8), "zero")
    with pytest.raises(ShapeError, match="crop the kernel"):
        Blur(kernel, (2, 8), "reflect")
    with pytest.raises(ShapeError, match="crop the kernel"):
        Blur(kernel, (4, 8), "valid")
    with pytest.raises(ShapeError, match=r"\(height, width\)"):
        Blur(kernel[None], (8, 8))
    with pytest.raises(ConfigError, match="finite"):
        Blur(kernel * float("nan"), (8, 8))
