"""Geometric transforms: images that are turned, scaled, shifted, sheared or freely deformed.

Called by pipelines, training and tests as a forward model; imports the operator contract, and
kornia when an operator is made or applied.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.contract import check_stored
from restore.operators.image.blur import by_parts

PADDINGS = ("zeros", "border")
_DAMPING = 1e-3  # of the pseudo-inverse; weights that sum to one make the gain of a warp about one


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Warp(LinearOperator):
    """y[i, j] = x at the place `positions[i, j]`, bilinearly, over the last two dimensions.

    positions: (H', W', 2) real, for every pixel of the measurement the column and the row of the
    image that it shows, in pixels from the middle of the first one. shape: of an image, (..., H,
    W) with sides of at least 2; leading dimensions are warped alike. padding: what lies outside the
    image, "zeros" or its "border" pixels. Real and complex images, (..., H', W') measurements.

    The samples are those of `kornia.geometry.transform.remap`; the adjoint is the vector-Jacobian
    product of the same function, so that both use the same weights (on a GPU its sums are not
    always in the same order). Raises ShapeError, ConfigError.
    """

    positions: Tensor
    shape: tuple[int, ...]
    padding: str = "zeros"

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise ConfigError(
                f"Warp: padding is '{self.padding}', expected one of {', '.join(PADDINGS)}"
            )
        sizes = tuple(self.positions.shape)
        if len(sizes) != 3 or sizes[2] != 2 or 0 in sizes or not self.positions.is_floating_point():
            raise ShapeError(
                f"Warp: positions are {sizes} {self.positions.dtype}, expected real (rows, columns, 2)"
            )
        if len(self.shape) < 2 or min(self.shape[-2:]) < 2:
            raise ShapeError(
                f"Warp: image shape is {tuple(self.shape)}, expected (..., H, W), sides of 2 or more"
            )
        check_stored("Warp", "positions", self.positions)
        if not bool(torch.isfinite(self.positions).all()):
            raise ConfigError("Warp: positions hold values that are not finite")

    @classmethod
    def affine(
        cls,
        shape: tuple[int, ...],
        *,
        angle_deg: float = 0.0,
        scale: float = 1.0,
        shift: tuple[float, float] = (0.0, 0.0),
        shear_deg: tuple[float, float] = (0.0, 0.0),
        padding: str = "zeros",
        dtype: torch.dtype = torch.float32,
    ) -> Warp:
        """The image turned about its middle (anticlockwise as displayed), magnified, sheared and
        shifted by (columns, rows) pixels; the size stays.

        shear_deg: the first moves what lies above the middle to the right, the second what lies
        left of it down.
        Raises ConfigError for a scale that is not positive and for numbers that are not finite.
        """
        from kornia.geometry.transform import get_affine_matrix2d

        numbers = (angle_deg, scale, *shift, *shear_deg)
        if not all(map(math.isfinite, numbers)) or scale <= 0:
            raise ConfigError(f"Warp: expected finite numbers and a scale above 0, got {numbers}")
        height, width = shape[-2:]
        to = torch.float64
        shears = torch.deg2rad(torch.tensor(shear_deg, dtype=to))
        matrix = get_affine_matrix2d(
            torch.tensor([shift], dtype=to), torch.tensor([[(width - 1) / 2, (height - 1) / 2]], dtype=to),
            torch.full((1, 2), scale, dtype=to), torch.tensor([-angle_deg], dtype=to), shears[:1], shears[1:],
        )[0]  # fmt: skip
        return cls.projective(matrix, shape, padding=padding, dtype=dtype)

    @classmethod
    def projective(
        cls,
        matrix: Tensor,
        shape: tuple[int, ...],
        *,
        padding: str = "zeros",
        dtype: torch.dtype = torch.float32,
    ) -> Warp:
        """The image moved by a homography: its pixel (column, row) goes to matrix (column, row, 1).

        matrix: (3, 3) real. Raises ShapeError, ConfigError for a matrix that cannot be inverted.
        """
        from kornia.geometry import transform_points
        from kornia.geometry.grid import create_meshgrid

        if tuple(matrix.shape) != (3, 3):
            raise ShapeError(f"Warp: the matrix is {tuple(matrix.shape)}, expected (3, 3)")
        double = matrix.double()
        if not bool(torch.isfinite(double).all()) or float(torch.linalg.det(double)) == 0:
            raise ConfigError(
                "Warp: the matrix has no inverse: it puts different pixels in one place"
            )
        height, width = shape[-2:]
        grid = create_meshgrid(height, width, False, double.device, torch.float64)
        places = transform_points(torch.linalg.inv(double)[None], grid.reshape(1, -1, 2))
        return cls(places.reshape(height, width, 2).to(dtype), shape, padding)

    @classmethod
    def example(cls, generator: torch.Generator) -> Warp:
        """A tiny instance for tests: every pixel goes its own way, some beyond the border."""
        places = torch.rand(5, 6, 2, generator=generator) * torch.tensor([8.0, 7.0]) - 1
        return cls(places, (2, 6, 7))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Leading dimensions of the image, then the size of the positions."""
        return (*self.shape[:-2], *self.positions.shape[:2])

    @lasting
    def _grid(self) -> Tensor:
        """The positions as -1..1 from the first to the last pixel."""
        from kornia.geometry import normalize_pixel_coordinates

        return normalize_pixel_coordinates(self.positions, *self.shape[-2:])

    def _apply(self, x: Tensor) -> Tensor:
        return by_parts(self._warped, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return by_parts(self._spread, y)

    def _pinv(self, y: Tensor) -> Tensor:
        # Pixels that hardly any position sees are left near zero instead of being blown up.
        return least_squares(self, y, damping=_DAMPING)

    def _warped(self, x: Tensor) -> Tensor:
        """x: (..., H, W) real; all leading dimensions pass as channels of one image."""
        from kornia.geometry.transform import remap

        leading = x.shape[:-2]
        if x.numel() == 0:
            return x.new_zeros((*leading, *self.out_shape[-2:]))
        columns, rows = self._grid.to(x.dtype)[None].unbind(-1)
        found = remap(
            x.reshape(1, -1, *x.shape[-2:]), columns, rows, "bilinear", self.padding,
            align_corners=True, normalized_coordinates=True,
        )  # fmt: skip
        return found.reshape(*leading, *self.out_shape[-2:])

    def _spread(self, y: Tensor) -> Tensor:
        """The transpose of `_warped`; a linear map has one Jacobian, so any point serves."""
        if y.numel() == 0:
            return y.new_zeros((*y.shape[:-2], *self.in_shape[-2:]))
        anywhere = y.new_zeros((*y.shape[:-2], *self.in_shape[-2:]))
        pullback = torch.func.vjp(self._warped, anywhere)[1]
        return pullback(y)[0]
