"""A dense operator whose adjoint may be another matrix, as in published unmatched pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import pytest
import torch
from torch import Tensor

from restore.operators.base import LinearOperator


@dataclass(frozen=True, eq=False, repr=False)
class Dense(LinearOperator):
    matrix: Tensor
    back: Tensor
    image: tuple[int, ...]
    measurement: tuple[int, ...]
    slices: int = 0

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.image

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.measurement

    @property
    def slice_ndim(self) -> int:
        return self.slices

    @property
    def is_complex(self) -> bool:
        return self.matrix.is_complex()

    def norm(self) -> float:
        return float(torch.linalg.matrix_norm(self.matrix, 2))

    def _apply(self, x: Tensor) -> Tensor:
        return _act(self.matrix, x, self.in_shape, self.out_shape, self.slices)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _act(self.back, y, self.out_shape, self.in_shape, self.slices)


def _act(
    m: Tensor, x: Tensor, source: tuple[int, ...], target: tuple[int, ...], slices: int
) -> Tensor:
    lead = x.shape[: x.ndim - len(source) + slices]
    flat = x.reshape(*lead, prod(source[slices:]))
    return (flat @ m.mT).reshape(*lead, *target[slices:])


@pytest.fixture
def dense() -> Callable[..., LinearOperator]:
    """Build `dense(matrix, image_shape, measurement_shape, back=None, slices=0)`."""

    def build(
        matrix: Tensor,
        image: tuple[int, ...] | None = None,
        measurement: tuple[int, ...] | None = None,
        back: Tensor | None = None,
        slices: int = 0,
    ) -> LinearOperator:
        image = (matrix.shape[1],) if image is None else image
        measurement = (matrix.shape[0],) if measurement is None else measurement
        return Dense(matrix, matrix.mH if back is None else back, image, measurement, slices)

    return build
