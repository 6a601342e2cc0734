"""A volume seen on another grid, turned and shifted against its own: resampling by a rigid or affine map.

Called by `slice_stacks` for stacks that are oblique to the common grid, and by tests; imports the operator contract.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, least_squares
from restore.operators.image.blur import by_parts

_POINTS_AT_ONCE = 2**21
"""Positions that are computed at once: 24 bytes each in single precision, and as much for the gradient."""

_DAMPING = (
    1e-3  # of the pseudo-inverse; weights that sum to one make the gain of a resampling about one
)


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Placement(LinearOperator):
    """y[k, i, j] = x at the place matrix (k, i, j, 1), trilinearly; zero outside the grid of x.

    shape: of x, (D, H, W). size: of y. matrix: three rows of four numbers, from indices (k, i, j, 1) of y to indices
    (slice, row, column) of x, whole at the centres of voxels. kind: "mri" or "ct".

    The adjoint is the transpose of the same weights. Raises ShapeError, ConfigError.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int, int]
    matrix: tuple[tuple[float, ...], ...]
    kind: str = "mri"

    def __post_init__(self) -> None:
        numbers = [v for row in self.matrix for v in row]
        if len(self.shape) != 3 or len(self.size) != 3 or min(*self.shape, *self.size) < 1:
            raise ShapeError(f"Placement: {self.shape} seen on {self.size}, expected two (D, H, W)")
        if [len(row) for row in self.matrix] != [4, 4, 4] or not all(map(math.isfinite, numbers)):
            raise ConfigError("Placement: the matrix is no three rows of four finite numbers")

    @classmethod
    def example(cls, generator: torch.Generator) -> Placement:
        """A tiny instance for tests: turned by an eighth of a right angle, partly beyond the border."""
        c, s = math.cos(0.2), math.sin(0.2)
        return cls(
            (5, 6, 7), (4, 5, 6), ((c, -s, 0.0, 0.8), (s, c, 0.1, 0.3), (0.0, -0.1, 1.0, 0.6))
        )

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(D, H, W) of the volume."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(D, H, W) of what is seen."""
        return tuple(self.size)

    def _apply(self, x: Tensor) -> Tensor:
        return by_parts(self._seen, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return by_parts(self._spread, y)

    def _pinv(self, y: Tensor) -> Tensor:
        # Voxels that hardly any position sees are left near zero instead of being blown up.
        return least_squares(self, y, damping=_DAMPING)

    def _seen(self, x: Tensor) -> Tensor:
        parts = [sample(x) for sample, _ in self._parts_of(x)]
        return torch.cat(parts, dim=-3)

    def _spread(self, y: Tensor) -> Tensor:
        """The transpose of `_seen`; a linear map has one Jacobian, so any point serves."""
        total = y.new_zeros((*y.shape[:-3], *self.in_shape))
        anywhere = total
        for sample, which in self._parts_of(y):
            pullback = torch.func.vjp(sample, anywhere)[1]
            total = total + pullback(y[..., which, :, :])[0]
        return total

    def _parts_of(self, like: Tensor) -> Iterator[tuple[Callable[[Tensor], Tensor], slice]]:
        """Maps of x to some slices of y, and which these are."""
        depth, rows, columns = self.size
        step = max(1, _POINTS_AT_ONCE // (rows * columns))
        for first in range(0, depth, step):
            which = slice(first, min(first + step, depth))
            grid = self._grid(which, like)

            def sample(x: Tensor, grid: Tensor = grid) -> Tensor:
                lead = x.shape[:-3]
                if x.numel() == 0:
                    return x.new_zeros((*lead, *grid.shape[1:4]))
                planes = x.reshape(1, -1, *x.shape[-3:])
                found = grid_sample(planes, grid, "bilinear", "zeros", align_corners=True)
                return found.reshape(*lead, *grid.shape[1:4])

            yield sample, which

    def _grid(self, which: slice, like: Tensor) -> Tensor:
        """Places of some slices of y as -1..1 from the first to the last voxel of x, (1, k, i, j, 3), columns first."""
        ends = ((which.start, which.stop), (0, self.size[1]), (0, self.size[2]))
        k, i, j = (
            torch.arange(low, high, dtype=torch.float64, device=like.device) for low, high in ends
        )
        k, i = k[:, None, None], i[:, None]
        parts = []
        for n, (a, b, c, d) in zip(self.shape, self.matrix, strict=True):
            place = a * k + b * i + c * j + d
            # One voxel: its place is 0 whatever -1..1 is, and a step of one voxel leaves it.
            parts.append(2 * place / (n - 1) - 1 if n > 1 else place * 2)
        return torch.stack(parts[::-1], -1)[None].to(like.dtype.to_real())
