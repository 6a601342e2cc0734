"""Removing the readout oversampling is the same as cutting the image."""

from __future__ import annotations

import numpy as np
import pytest
import sigpy

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.oversampling import remove_readout_oversampling
from restore.errors import ShapeError

DOUBLE = 1e-12  # float64: a transform; 2e-15 seen


def noise(*shape: int) -> np.ndarray:
    parts = np.random.default_rng(0).normal(size=(2, *shape))
    return parts[0] + 1j * parts[1]


@pytest.mark.parametrize("sizes", [(64, 32), (63, 32), (64, 31), (65, 31), (48, 48), (7, 1)])
def test_it_is_the_kspace_of_the_cut_image(sizes: tuple[int, int]) -> None:
    height, rows = sizes
    kspace = noise(3, height, 21)
    small = remove_readout_oversampling(kspace, rows)
    expected = center_crop(sigpy.ifft(kspace, axes=(-2, -1)), (rows, 21))
    np.testing.assert_allclose(sigpy.ifft(small, axes=(-2, -1)), expected, atol=DOUBLE)


def test_columns_of_zeros_stay_zero_and_the_type_stays() -> None:
    mask = np.arange(20) % 3 == 0
    kspace = (noise(2, 40, 20) * mask).astype(np.complex64)
    small = remove_readout_oversampling(kspace, 20)
    assert small.dtype == np.complex64
    assert not small[..., ~mask].any()
    assert small[..., mask].all()


def test_white_noise_stays_white_with_its_deviation() -> None:
    """The map along H, as a matrix, has orthonormal rows."""
    matrix = remove_readout_oversampling(np.eye(25)[..., None] + 0j, 12)[..., 0].T
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(12), atol=DOUBLE)


@pytest.mark.parametrize("rows", [0, 41])
def test_rows_that_are_not_there(rows: int) -> None:
    with pytest.raises(ShapeError, match="expected 1 to 40"):
        remove_readout_oversampling(noise(2, 40, 20), rows)
