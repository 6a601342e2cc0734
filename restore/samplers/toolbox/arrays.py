"""Items of a batch as arrays of other libraries, one after the other, and back.

Called by samplers whose work is scikit-image's. An item is a slice (H, W) or a photograph (C, H, W). Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import ConfigError

Planes = NDArray[np.float64]


def by_item(x: Tensor, item_ndim: int, method: Callable[[Planes, int], Planes]) -> Tensor:
    """method(planes, number of the item) of every item of x, in x's shape, kind of number and place.

    planes: (channels, H, W) in double precision; leading dimensions of an item are channels, and a complex item has its
    real planes before its imaginary ones. Raises ConfigError for items without two dimensions.
    """
    if item_ndim < 2:
        raise ConfigError(
            f"pictures of (..., H, W) are needed, got items of {item_ndim} dimensions"
        )
    items = x.detach().reshape(-1, *x.shape[x.ndim - item_ndim :])
    found = [_back(method(_planes(item), k), item) for k, item in enumerate(items)]
    return torch.stack(found).reshape(x.shape)


def _planes(item: Tensor) -> Planes:
    flat = item.reshape(-1, *item.shape[-2:]).cpu()
    both = torch.cat([flat.real, flat.imag]) if flat.is_complex() else flat
    return both.double().numpy()


def _back(planes: Planes, item: Tensor) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(planes)).to(item.real.dtype)
    if item.is_complex():
        found = torch.complex(*found.chunk(2))
    return found.reshape(item.shape).to(item.device)
