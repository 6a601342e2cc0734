"""A covariance of the channels' noise that a file brings, as the samples of a noise scan that has it.

May be called by the readers of k-space; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.receivers.noise_scan import LEAST_PER_COIL
from restore.errors import InputError

SYMMETRIC = 1e-3
"""How far a covariance may be from its own conjugate transpose, over its largest entry: it is an estimate, rounded."""


def samples_of(covariance: NDArray[Any], coils: int, path: Path) -> NDArray[np.complex128]:
    """(coils, n) whose covariance, the mean of n n^H, is `covariance` (coils, coils) to rounding.

    Its Cholesky factor times rows of a Fourier matrix, which are at right angles. Raises InputError for what is no
    covariance of these coils.
    """
    if covariance.shape != (coils, coils) or not np.isfinite(covariance).all():
        raise InputError(
            path, f"the noise covariance has shape {covariance.shape} or is not finite",
            f"expected {(coils, coils)}, the mean of n n^H over samples of all coils",
        )  # fmt: skip
    values = covariance.astype(np.complex128)
    even = (values + values.conj().T) / 2
    largest = float(np.abs(values).max())
    levels = np.linalg.eigvalsh(even)
    if np.abs(values - even).max() > SYMMETRIC * largest or levels[0] <= 0:
        raise InputError(
            path,
            f"the noise covariance is no covariance: eigenvalues from {levels[0]:.3g} to {levels[-1]:.3g}, or not "
            "Hermitian",
            "expected the mean of n n^H over samples of all coils",
        )
    count = LEAST_PER_COIL * coils
    waves = np.exp(2j * np.pi * np.outer(np.arange(1, coils + 1), np.arange(count)) / count)
    return np.asarray(np.linalg.cholesky(even) @ waves)
