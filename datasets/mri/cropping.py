"""The middle of an image or of k-space, as fastMRI cuts it.

May be called by everybody; touches nothing but its arguments.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from restore.errors import ShapeError


def center_crop(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The middle of the last two axes, from (n - m) // 2 on. A view.

    Raises ShapeError where the image is smaller than `shape`.
    """
    if image.ndim < 2 or not all(0 < m <= n for m, n in zip(shape, image.shape[-2:], strict=True)):
        raise ShapeError(f"center_crop: cannot cut {shape} out of {image.shape}")
    top, left = ((n - m) // 2 for n, m in zip(image.shape[-2:], shape, strict=True))
    return image[..., top : top + shape[0], left : left + shape[1]]
