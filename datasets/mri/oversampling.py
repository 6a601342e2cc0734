"""Remove the readout oversampling of k-space.

May be called by the pipelines, benchmarks and tests; touches nothing but its arguments. Scanners
sample the readout (axis H) twice as densely as the image needs, and the object lies in the middle
of a field of view that is twice as tall. Every readout is measured in full, so its 1-D transform is
known, and cutting it there loses nothing of the middle: the k-space that remains is that of the cut
image, at a fraction of the work for every later step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from restore.datasets.mri.cropping import center_crop
from restore.errors import ShapeError


def remove_readout_oversampling(kspace: NDArray[Any], rows: int) -> NDArray[Any]:
    """K-space (..., H, W) as if the field of view had only the middle `rows` rows: (..., rows, W).

    kspace: complex, centred and orthonormal, sampled in full along H: the mask may depend on the
    column only, and columns of zeros stay zeros. The rows kept are those of `center_crop`. White
    noise stays white with the same standard deviation, because the map has orthonormal rows. Raises
    ShapeError where there are not that many rows.
    """
    height = kspace.shape[-2] if kspace.ndim >= 2 else 0
    if not 1 <= rows <= height:
        raise ShapeError(
            f"remove_readout_oversampling: {rows} rows of k-space {kspace.shape}; expected 1 to "
            f"{height}"
        )
    if rows == height:
        return kspace.copy()
    image = _centred(fft.ifft, kspace)
    return _centred(fft.fft, center_crop(image, (rows, kspace.shape[-1])))


def _centred(transform: Any, values: NDArray[Any]) -> NDArray[Any]:
    spectrum = transform(fft.ifftshift(values, axes=-2), axis=-2, norm="ortho")
    return np.asarray(fft.fftshift(spectrum, axes=-2))
