"""The centred transform and the linear phases that replace its shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.operators.mri.fourier import fft2c, ifft2c, shift_grid, shift_ramps

DOUBLE = 1e-12  # float64: FFTs of some hundred numbers, 1e-16 an operation; 4e-15 seen


@given(st.integers(1, 21), st.integers(1, 21))
@settings(max_examples=40, deadline=None)
def test_matches_numpy_and_its_own_inverse(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(2, height, width, dtype=torch.complex128, generator=generator)
    axes = (-2, -1)
    shifted = np.fft.ifftshift(x.numpy(), axes=axes)
    expected = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    np.testing.assert_allclose(fft2c(x).numpy(), expected, atol=DOUBLE)
    torch.testing.assert_close(ifft2c(fft2c(x)), x, rtol=0, atol=DOUBLE)
    before, after = shift_grid((height, width), dtype=torch.complex128)
    folded = after * torch.fft.fft2(before * x, norm="ortho")
    torch.testing.assert_close(folded, fft2c(x), rtol=0, atol=DOUBLE)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 17), (8, 5)])
def test_matches_sigpy(height: int, width: int, generator: torch.Generator) -> None:
    sigpy = pytest.importorskip("sigpy")
    x = torch.randn(3, height, width, dtype=torch.complex128, generator=generator)
    np.testing.assert_allclose(fft2c(x).numpy(), sigpy.fft(x.numpy(), axes=(-2, -1)), atol=DOUBLE)


def test_constant_image_lies_at_the_centre() -> None:
    for n in (6, 7):
        k = fft2c(torch.ones(n, n, dtype=torch.complex128))
        assert k[n // 2, n // 2].real == pytest.approx(n)
        k[n // 2, n // 2] = 0
        assert k.abs().max() < DOUBLE


def test_ramps_of_even_length_are_signs() -> None:
    for ramp in shift_ramps(320):
        assert not ramp.imag.any()
        assert torch.equal(ramp.real.abs(), torch.ones(320))
