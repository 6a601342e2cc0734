"""The wavelet transform against PyWavelets, and its orthonormality."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import pywt
import torch

from restore.errors import ConfigError, ShapeError
from restore.solvers.wavelet import Wavelet

DOUBLE = 1e-12  # float64: a few levels of short filters; 2e-14 seen


def oracle(x: np.ndarray, name: str, levels: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyramid = pywt.wavedec2(x, name, mode="periodization", level=levels)
    return pywt.coeffs_to_array(pyramid)[0]


@pytest.mark.parametrize("name", ["haar", "db2", "db3", "db4", "db7", "db8"])
def test_equals_pywavelets(generator, name):
    x = torch.randn(2, 64, 96, generator=generator, dtype=torch.float64)
    transform = Wavelet.fitting(name, (64, 96), 3)
    wanted = np.stack([oracle(v, name, transform.levels) for v in x.numpy()])
    np.testing.assert_allclose(transform.analysis(x).numpy(), wanted, atol=DOUBLE)


@pytest.mark.parametrize("name", ["haar", "db3", "db4"])
def test_orthonormal_on_complex_batches(generator, name):
    transform = Wavelet(name, 2)
    x = torch.randn(3, 1, 16, 24, generator=generator, dtype=torch.complex128)
    c = torch.randn(3, 1, 16, 24, generator=generator, dtype=torch.complex128)
    torch.testing.assert_close(transform.synthesis(transform.analysis(x)), x)
    torch.testing.assert_close(transform.analysis(transform.synthesis(c)), c)
    ahead = torch.vdot(c.flatten(), transform.analysis(x).flatten())
    back = torch.vdot(transform.synthesis(c).flatten(), x.flatten())
    torch.testing.assert_close(ahead, back)
    torch.testing.assert_close(transform.analysis(x.conj()), transform.analysis(x).conj())
    torch.testing.assert_close(transform.analysis(x)[1, 0], transform.analysis(x[1, 0]))


def test_constant_image_has_no_details():
    c = Wavelet("db4", 2).analysis(torch.ones(16, 16, dtype=torch.float64))
    torch.testing.assert_close(c[:4, :4], torch.full((4, 4), 4.0, dtype=torch.float64))
    c[:4, :4] = 0
    assert float(c.abs().max()) < DOUBLE


def test_shrink_is_the_proximal_map(generator):
    """u = prox(x): x - u is a subgradient, at most tau per detail, zero on the coarse band."""
    transform, tau = Wavelet("db2", 2), 0.7
    x = torch.randn(16, 16, generator=generator, dtype=torch.complex128)
    u = transform.shrink(x, tau)
    slope, c = transform.analysis(x - u), transform.analysis(u)
    assert float(slope.abs().max()) <= tau + 1e-12
    assert float(slope[:4, :4].abs().max()) < DOUBLE
    c[:4, :4] = 0
    alive = c.abs() > 1e-9
    assert bool(alive.any())
    torch.testing.assert_close(slope[alive], tau * c[alive] / c[alive].abs())


def test_levels_and_sizes_that_fit():
    assert Wavelet.fitting("db4", (320, 320)).levels == 4
    assert Wavelet.fitting("db4", (20, 320)).levels == 2
    assert Wavelet.fitting("db4", (5, 5)).levels == 1
    assert Wavelet("db4", 1).padded((5, 9)) == (8, 10)
    assert Wavelet("db4", 4).padded((368, 230)) == (368, 240)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="'sym4'"):
        Wavelet("sym4")
    with pytest.raises(ConfigError, match="levels is 0"):
        Wavelet("haar", 0)
    with pytest.raises(ShapeError, match=r"multiples of 4; pad to \(20, 16\)"):
        Wavelet("db4", 2).analysis(torch.ones(18, 16))
    with pytest.raises(ShapeError):
        Wavelet("db4", 2).synthesis(torch.ones(16))
