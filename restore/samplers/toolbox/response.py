"""What an operator makes of a single bright pixel: the point spread function of a blur, whatever it is made of.

Called by samplers of blurred pictures. Pure functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.operators.base import LinearOperator


def point_response(operator: LinearOperator, like: Tensor) -> Tensor:
    """(H', W'): the first plane of A e, e one at (H // 2, W // 2) of every plane; precision and place of `like`."""
    point = torch.zeros(operator.in_shape, dtype=like.dtype, device=like.device)
    height, width = operator.in_shape[-2:]
    point[..., height // 2, width // 2] = 1
    seen = operator(point)
    return seen.reshape(-1, *seen.shape[-2:])[0]


def is_circular(operator: LinearOperator, response: Tensor) -> bool:
    """Whether the picture is taken for periodic: a pixel in the corner then spreads to all four of them."""
    height, width = response.shape
    point = torch.zeros(operator.in_shape, dtype=response.dtype, device=response.device)
    point[..., 0, 0] = 1
    seen = operator(point)
    expected = response.roll((-(height // 2), -(width // 2)), (0, 1))
    # Rounding of transforms in single precision is 1e-6 of the largest value.
    return bool(
        (seen.reshape(-1, height, width)[0] - expected).abs().max() <= 1e-4 * response.abs().max()
    )
