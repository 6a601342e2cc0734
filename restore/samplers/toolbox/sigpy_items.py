"""The slices of an MRI measurement as sigpy's reconstructions want them: one at a time, as numpy arrays.

Called by the samplers that run sigpy's own algorithms; knows problems and the multi-coil operator.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.operators.base import LinearOperator
from restore.operators.interop.arrays import array_of
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem

Item = tuple[LinearOperator, NDArray[np.complexfloating]]
"""An operator of one slice, on the CPU, and its measurement in unit intensities."""


def slices_of(problem: Problem) -> list[Item]:
    """Every slice of every item, in the order of the measurement; an operator that knows no slices is one itself."""
    operator = problem.linear.to("cpu")
    singles = _split(operator) if isinstance(operator, MultiCoilMRI) else [operator]
    shape = singles[0].out_shape
    measured = problem.unit_y.cpu().reshape(-1, *shape)
    return [(singles[i % len(singles)], array_of(y)) for i, y in enumerate(measured)]


def image_of(slices: list[NDArray[np.complexfloating]], problem: Problem) -> Tensor:
    """The images of `slices_of` as one, on the measurement's device. Shares no memory with them."""
    stacked = torch.stack([torch.from_numpy(np.ascontiguousarray(x)) for x in slices])
    return stacked.reshape(problem.image_shape).to(problem.y.device)


def _split(operator: MultiCoilMRI) -> list[LinearOperator]:
    """One operator a slice, with its maps and its mask."""
    slices = operator.maps.shape[:-3]
    maps = operator.maps.reshape(-1, *operator.maps.shape[-3:])
    mask = operator.mask
    if mask.ndim > 2:
        mask = mask.expand(*slices, *mask.shape[-2:]).reshape(-1, *mask.shape[-2:])
        return [MultiCoilMRI(s, m) for s, m in zip(maps, mask, strict=True)]
    return [MultiCoilMRI(s, mask) for s in maps[: math.prod(slices)]]
