"""Blur whose point spread function changes over the image: a grid of them, interpolated.

Called by pipelines and tests as a forward model; imports the operator contract and `Blur`, of which it is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from restore.errors import ShapeError
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.contract import check_stored
from restore.operators.image.blur import Blur

_NOISE_TO_SIGNAL = 1e-3  # of the pseudo-inverse, relative to the largest squared gain, as `Blur`


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VaryingBlur(LinearOperator):
    """y = sum_k W_k (kernel_k * x): each pixel of y is blurred by the kernel interpolated for its place.

    kernels: (rows, columns, h, w), real, not normalised here: the kernel in the middle of each cell of that grid, into
    which the image is cut evenly. Between middles the weights W_k are bilinear and one in sum, beyond the outermost
    they stay. shape: of an image, (..., H, W). boundary: as `Blur`, which one kernel equals. A product takes as many
    FFTs as there are kernels. Nagy, O'Leary, "Restoring images degraded by spatially variant blur", SIAM J. Sci.
    Comput. 19, 1998 (linear interpolation). Raises ShapeError, ConfigError.
    """

    task = "deblur"

    kernels: Tensor
    shape: tuple[int, ...]
    boundary: str = "circular"

    def __post_init__(self) -> None:
        check_stored("VaryingBlur", "kernels", self.kernels)
        if self.kernels.ndim != 4 or 0 in self.kernels.shape or self.kernels.is_complex():
            found = f"{tuple(self.kernels.shape)} {self.kernels.dtype}"
            raise ShapeError(
                f"VaryingBlur: kernels is {found}, expected real (rows, columns, height, width)"
            )
        for kernel in self.kernels.flatten(0, 1):
            Blur(kernel, self.shape, self.boundary)  # refuses what does not fit
        for cells, pixels in zip(self.kernels.shape[:2], self.shape[-2:], strict=True):
            if cells > pixels:
                raise ShapeError(
                    f"VaryingBlur: {tuple(self.kernels.shape[:2])} kernels for an image of "
                    f"{tuple(self.shape[-2:])}, expected no more than one a pixel"
                )

    @classmethod
    def of(
        cls, kernels: Sequence[Sequence[Tensor]], shape: tuple[int, ...], boundary: str = "circular"
    ) -> VaryingBlur:
        """Of rows of kernels (h, w) of any sizes: smaller ones get a border of zeros, their centres stay.

        Raises ShapeError for rows of unequal length, and as the class.
        """
        if len({len(row) for row in kernels}) != 1 or any(
            k.ndim != 2 for row in kernels for k in row
        ):
            raise ShapeError(
                "VaryingBlur.of: expected rows of equally many kernels (height, width)"
            )
        size = [max(k.shape[axis] for row in kernels for k in row) for axis in (0, 1)]
        stacked = torch.stack([torch.stack([_bordered(k, size) for k in row]) for row in kernels])
        return cls(stacked, tuple(shape), boundary)

    @classmethod
    def example(cls, generator: torch.Generator) -> VaryingBlur:
        """A tiny instance for tests."""
        return cls(torch.rand(2, 3, 3, 2, generator=generator), (2, 6, 7), "reflect")

    @property
    def abilities(self) -> frozenset[str]:
        """ "periodic" for `circular`."""
        return super().abilities | ({"periodic"} if self.boundary == "circular" else set())

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """As `Blur`: the image's shape, less the border for `valid`."""
        return self._blurs[0].out_shape

    @lasting
    def _blurs(self) -> tuple[Blur, ...]:
        """One for each kernel, row by row."""
        kernels = self.kernels.flatten(0, 1)
        return tuple(Blur(kernel, self.shape, self.boundary) for kernel in kernels)

    @lasting
    def weights(self) -> Tensor:
        """(rows x columns, *size of y): the share of each kernel in each pixel of the measurement, one in sum."""
        rows, columns = (
            _hats(cells, pixels, left, tap)
            for cells, pixels, left, tap in zip(
                self.kernels.shape[:2],
                self.shape[-2:],
                self._blurs[0].out_shape[-2:],
                self.kernels.shape[2:],
                strict=True,
            )
        )
        return torch.einsum("ai,bj->abij", rows, columns).flatten(0, 1).to(self.kernels)

    def _apply(self, x: Tensor) -> Tensor:
        return sum(
            (w * blur._apply(x) for w, blur in zip(self.weights, self._blurs, strict=True)),
            x.new_zeros(()),
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        return sum(
            (blur._adjoint(w * y) for w, blur in zip(self.weights, self._blurs, strict=True)),
            y.new_zeros(()),
        )

    def _pinv(self, y: Tensor) -> Tensor:
        """A few damped steps of conjugate gradients, as of a `Blur` with borders; that of the `Blur` for one kernel."""
        first = self._blurs[0]
        if len(self._blurs) == 1:
            return first._pinv(y)
        damping = _NOISE_TO_SIGNAL * max(float(blur._largest_power) for blur in self._blurs)
        # What lies beyond the measured picture begins as its edge, not as black.
        start = first.spread(y) if self.boundary == "valid" else torch.zeros_like(self._adjoint(y))
        return start + least_squares(self, y - self._apply(start), iterations=8, damping=damping)


def _bordered(kernel: Tensor, size: list[int]) -> Tensor:
    """A kernel among zeros, its centre (h // 2, w // 2) at that of the larger size."""
    grid = kernel.new_zeros(size)
    top, left = (n // 2 - k // 2 for n, k in zip(size, kernel.shape, strict=True))
    grid[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return grid


def _hats(cells: int, pixels: int, left: int, taps: int) -> Tensor:
    """(cells, left): linear weights between the middles of even cells, for the `left` outputs that remain."""
    first = taps - 1 - taps // 2 if left != pixels else 0
    at = (torch.arange(first, first + left, dtype=torch.float64) + 0.5) * cells / pixels - 0.5
    at = at.clamp(0, cells - 1)
    return (1 - (at - torch.arange(cells)[:, None]).abs()).clamp(min=0)
