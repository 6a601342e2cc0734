"""Virtual coils: orthonormal, principal by numpy's SVD, the same for samples and maps, smooth along a readout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.coil_compression import (
    CoilCompression,
    geometric_compression,
    svd_compression,
)
from restore.operators.mri.fourier import fft2c, ifft2c

COILS, SHAPE = 12, (30, 21)
DOUBLE = (
    1e-10  # float64: sums of 1e4 products, and eigenvectors whose gaps divide 1e-16; 1e-13 seen
)
SINGLE = 1e-4  # float32: the same of 6e-8; 3e-6 seen
WHITE = 0.1  # 4 standard errors of the covariance of 2000 samples


def loops() -> Tensor:
    """Coils on a circle around an image, none alike."""
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in SHAPE)
    angle = 2 * torch.pi * torch.arange(COILS, dtype=torch.float64)[:, None, None] / COILS
    down, across = y[:, None] - 1.3 * torch.sin(angle), x - 1.3 * torch.cos(angle)
    return torch.complex(across, down * torch.cos(angle)) / (down**2 + across**2 + 0.1) ** 1.5


def image() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(SHAPE, generator=generator, dtype=torch.complex128)


def compressions(kspace: Tensor, virtual: int) -> dict[str, CoilCompression]:
    return {
        "svd": svd_compression(kspace, virtual),
        "rows": geometric_compression(kspace, virtual, -2),
        "columns": geometric_compression(kspace, virtual, -1),
    }


def test_rows_are_orthonormal_and_noise_stays_white() -> None:
    noise = torch.randn(COILS, 50, 40, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)  # fmt: skip
    for name, found in compressions(noise, 4).items():
        products = found.matrix @ found.matrix.mH
        identity = torch.eye(4, dtype=products.dtype).expand_as(products)
        torch.testing.assert_close(products, identity, rtol=0, atol=DOUBLE)
        fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(2), dtype=noise.dtype)  # fmt: skip
        seen = found.samples(fresh).flatten(1)
        covariance = seen @ seen.mH / seen.shape[1]
        assert (covariance - torch.eye(4)).abs().max() < WHITE, name


def test_svd_is_numpys() -> None:
    kspace = fft2c(loops() * image())
    found = svd_compression(kspace[:, 8:20], 5)
    left, values, _ = np.linalg.svd(kspace[:, 8:20].flatten(1).numpy(), full_matrices=False)
    projection = left[:, :5] @ left[:, :5].conj().T
    ours = (found.matrix.mH @ found.matrix).numpy()
    np.testing.assert_allclose(ours, projection, rtol=0, atol=DOUBLE)
    assert found.dropped == pytest.approx(1 - (values[:5] ** 2).sum() / (values**2).sum())
    assert svd_compression(kspace, COILS).dropped < DOUBLE


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_samples_and_maps_are_of_the_same_coils(dtype: torch.dtype) -> None:
    maps, picture = loops().to(dtype), image().to(dtype)
    kspace = fft2c(maps * picture)
    for found in compressions(kspace, 5).values():
        expected = fft2c(found.maps(maps) * picture)
        assert found.samples(kspace).dtype == dtype
        close = SINGLE if dtype == torch.complex64 else DOUBLE
        scale = float(expected.abs().max())
        torch.testing.assert_close(found.samples(kspace), expected, rtol=0, atol=close * scale)


@pytest.mark.parametrize("readout", [-2, -1])
def test_along_the_readout_fewer_coils_keep_more_and_turn_smoothly(readout: int) -> None:
    kspace = fft2c(loops() * image())
    middle = torch.zeros_like(kspace)
    part = (slice(None), slice(None), slice(6, 15)) if readout == -2 else (slice(None), slice(9, 21))  # fmt: skip
    middle[part] = kspace[part]
    found = geometric_compression(middle, 3, readout)
    assert found.dropped < 0.5 * svd_compression(middle[part], 3).dropped
    # The energy that is left, counted place by place in the image of the lines.
    images = ifft2c(middle).abs().square().sum()
    seen = ifft2c(found.samples(middle)).abs().square().sum()
    assert found.dropped == pytest.approx(1 - float(seen / images), rel=1e-6)
    # No turn brings neighbours nearer: their products are Hermitian and positive.
    products = found.matrix[1:] @ found.matrix[:-1].mH
    torch.testing.assert_close(products, products.mH, rtol=0, atol=DOUBLE)
    assert torch.linalg.eigvalsh(products).min() > 0
    # Lines that were not measured stay zero.
    assert torch.equal(found.samples(middle) != 0, (middle[:3] != 0))


def test_what_makes_no_sense_is_refused() -> None:
    kspace = fft2c(loops() * image())
    for wrong in (0, COILS + 1, -1):
        with pytest.raises(ConfigError, match="expected 1 to 12"):
            svd_compression(kspace, wrong)
        with pytest.raises(ConfigError, match="expected 1 to 12"):
            geometric_compression(kspace, wrong, -2)
    with pytest.raises(ShapeError, match="readout 0"):
        geometric_compression(kspace, 3, 0)
    with pytest.raises(ShapeError, match="complex"):
        svd_compression(kspace.real, 3)
    assert svd_compression(torch.zeros(3, 8, dtype=torch.complex64), 2).dropped == 0
