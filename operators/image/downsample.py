"""Downsampling by an integer factor with separable matrices, so that adjoint and pseudo-inverse are
exact.

Called by pipelines and tests as a forward model; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.singular import SVD, ProximalPoint, kronecker_svd
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import check_stored
from restore.operators.image.blur import by_parts

METHODS = ("bicubic", "area", "nearest")
_CUBIC_A = -0.5  # Keys (1981): third-order accurate; what MATLAB's imresize uses


def _no_tensor() -> Tensor:
    return torch.empty(0)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Downsample(LinearOperator):
    """Images (..., H, W) -> (..., ceil(H / factor), ceil(W / factor)), as R x C^T with one small
    matrix for each axis.

    method: `bicubic` is the antialiased cubic of Keys with a = -0.5, borders mirrored with the edge
    sample repeated (the rule of MATLAB's imresize); `area` is the mean of each factor x factor
    block; `nearest` takes every factor-th sample from the first. Sizes that the factor does not
    divide are allowed: the last cell is then only partly covered by the image (bicubic sees
    mirrored samples there, `area` averages what exists).

    `like` is an empty tensor that only carries precision and device. Raises ShapeError for shapes
    without two dimensions, ConfigError for unknown methods and factors that are not integers >= 1.
    """

    task = "superres"

    shape: tuple[int, ...]
    factor: int
    method: str = "bicubic"
    like: Tensor = dataclasses.field(default_factory=_no_tensor)
    rows: Tensor = dataclasses.field(init=False)
    columns: Tensor = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(
                f"Downsample: method is '{self.method}', expected one of {', '.join(METHODS)}"
            )
        if not isinstance(self.factor, int) or self.factor < 1:
            raise ConfigError(
                f"Downsample: factor is {self.factor}, expected an integer of at least 1"
            )
        if len(self.shape) < 2 or min(self.shape[-2:]) < 1:
            raise ShapeError(
                f"Downsample: image shape is {tuple(self.shape)}, expected (..., H, W)"
            )
        check_stored("Downsample", "like", self.like)
        build = {"bicubic": _bicubic_down, "area": _area, "nearest": _nearest}[self.method]
        for name, n in zip(("rows", "columns"), self.shape[-2:], strict=True):
            object.__setattr__(self, name, build(n, self.factor).to(self.like))

    @classmethod
    def example(cls, generator: torch.Generator) -> Downsample:
        """A tiny instance for tests."""
        return cls((2, 8, 11), 2)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of a downsampled image."""
        return (*self.shape[:-2], self.rows.shape[0], self.columns.shape[0])

    @property
    def strength(self) -> Mapping[str, float | str]:
        """Factor and method."""
        return {"factor": float(self.factor), "method": self.method}

    @property
    def abilities(self) -> frozenset[str]:
        """With "interpolates"."""
        return super().abilities | {"interpolates"}

    def picture(self, y: Tensor) -> Tensor:
        """Bicubic interpolation."""
        return self.interpolate(y)

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """x0 + A^H (1/u + A A^H)^-1 (y - A x0), u = weight * precision, in the singular bases of the small matrices."""
        if y.is_complex():
            return None
        (u_rows, s_rows, rows), (u_columns, s_columns, columns) = (
            torch.linalg.svd(m.double(), full_matrices=False) for m in (self.rows, self.columns)
        )
        power = (s_rows[:, None] * s_columns).square().to(y)
        rows, columns = (s_rows[:, None] * rows).to(y), (s_columns[:, None] * columns).to(y)
        seen = u_rows.mT.to(y) @ y @ u_columns.to(y)

        def point(x0: Tensor, weight: float) -> Tensor:
            missing = (seen - rows @ (x0 @ columns.mT)).div_(1 / (weight * precision) + power)
            return x0 + (rows.mT @ missing) @ columns

        return point

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        return kronecker_svd(self.rows, self.columns, like)

    def interpolate(self, y: Tensor) -> Tensor:
        """Bicubic interpolation of y back to the image's grid: the classical baseline. y: (*batch,
        *out_shape).
        """
        y = self._measured(y)
        rows, columns = self._enlarging
        return _separable(rows, columns, y)

    def _apply(self, x: Tensor) -> Tensor:
        return _separable(self.rows, self.columns, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _separable(self.rows.mT, self.columns.mT, y)

    def _pinv(self, y: Tensor) -> Tensor:
        # Exact: the pseudo-inverse of a Kronecker product is the product of the pseudo-inverses.
        return _separable(*self._inverses, y)

    @lasting
    def _inverses(self) -> tuple[Tensor, Tensor]:
        rows = torch.linalg.pinv(self.rows.double()).to(self.rows)
        return rows, torch.linalg.pinv(self.columns.double()).to(self.columns)

    @lasting
    def _enlarging(self) -> tuple[Tensor, Tensor]:
        # `nearest` samples lie on the first pixel of their cell, the others in the middle of it.
        offset = 0.0 if self.method == "nearest" else (self.factor - 1) / 2
        sizes = zip(self.shape[-2:], self.out_shape[-2:], strict=True)
        rows, columns = (_bicubic_up(n, m, self.factor, offset).to(self.like) for n, m in sizes)
        return rows, columns


def _separable(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    real = x.dtype.to_real()
    rows, columns = rows.to(real), columns.to(real)
    return by_parts(lambda part: rows @ part @ columns.mT, x)


def _cubic(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, support (-2, 2)."""
    a, t = _CUBIC_A, t.abs()
    inner = (a + 2) * t**3 - (a + 3) * t**2 + 1
    outer = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, torch.zeros_like(t)))


def _resampling(positions: Tensor, n: int, stretch: float) -> Tensor:
    """Matrix (len(positions), n): cubic weights of width `stretch` around positions, rows summing
    to 1, mirrored borders.
    """
    reach = math.ceil(2 * stretch) + 1
    index = positions.floor().long()[:, None] + torch.arange(-reach, reach + 1)
    weights = _cubic((positions[:, None] - index) / stretch)
    weights = weights / weights.sum(dim=1, keepdim=True)
    index = index % (2 * n)
    index = torch.where(index < n, index, 2 * n - 1 - index)
    matrix = torch.zeros(len(positions), n, dtype=torch.float64)
    return matrix.scatter_add_(1, index, weights)


def _bicubic_down(n: int, factor: int) -> Tensor:
    cells = torch.arange(math.ceil(n / factor), dtype=torch.float64)
    return _resampling(cells * factor + (factor - 1) / 2, n, factor)


def _bicubic_up(n: int, m: int, factor: int, offset: float) -> Tensor:
    return _resampling((torch.arange(n, dtype=torch.float64) - offset) / factor, m, 1.0)


def _area(n: int, factor: int) -> Tensor:
    cells = torch.arange(math.ceil(n / factor))
    inside = (torch.arange(n) // factor == cells[:, None]).double()
    return inside / inside.sum(dim=1, keepdim=True)


def _nearest(n: int, factor: int) -> Tensor:
    return (torch.arange(n) == factor * torch.arange(math.ceil(n / factor))[:, None]).double()
