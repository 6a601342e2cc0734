"""Sampling of a volume axis by axis: thin cells become slices of a thickness, small pixels larger ones.

Called by pipelines and tests as a forward model; imports the operator contract. `slice_stacks` makes them of affines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.singular import SVD, full_factors, without_rounding
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import check_stored
from restore.operators.image.blur import by_parts
from restore.operators.volume.slice_profile import SliceProfile, sampling_matrix

_RELIABLE = 0.1
"""Singular values below this share of the largest are left out of the pseudo-inverse: they would blow noise up."""

_SPLINE_KNOTS = 4  # of a cubic; fewer slices are joined by lines


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AxisSampling(LinearOperator):
    """A volume (D, H, W) times a matrix along each axis, its axes then exchanged: y = permute(x M_z M_y M_x).

    shape: of an image. matrices: one for each of its axes, (samples, cells), such as those of
    `slice_profile.sampling_matrix`, or None where the axis is kept as it is. order: which axis of the image each axis
    of the measurement is. Rows of zeros mean that nothing was measured there. kind: "mri" or "ct".

    The singular value decomposition is that of the matrices. `pinv` and `interpolate` are cubic splines through the
    slices; that of `pinv` is chosen so that its slices are those measured. Raises ShapeError, ConfigError.
    """

    task = "superres"

    shape: tuple[int, int, int]
    matrices: tuple[Tensor | None, Tensor | None, Tensor | None]
    order: tuple[int, int, int] = (0, 1, 2)
    kind: str = "mri"

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or len(self.matrices) != 3 or sorted(self.order) != [0, 1, 2]:
            raise ShapeError(
                f"AxisSampling: shape {tuple(self.shape)} with {len(self.matrices)} matrices in the order "
                f"{tuple(self.order)}, expected (D, H, W), three matrices, and each of the axes 0, 1, 2 once"
            )
        for n, matrix in zip(self.shape, self.matrices, strict=True):
            if matrix is None:
                continue
            check_stored("AxisSampling", "a matrix", matrix)
            if matrix.ndim != 2 or matrix.shape[1] != n or matrix.is_complex():
                raise ShapeError(
                    f"AxisSampling: a matrix of {tuple(matrix.shape)} for an axis of {n}, expected (samples, {n}), real"
                )
        if not all(matrix is None or bool(matrix.any()) for matrix in self.matrices):
            raise ConfigError(
                "AxisSampling: no sample along an axis sees the volume: they do not lie in the same place"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> AxisSampling:
        """A tiny instance for tests: slices of 2.7 cells, wider pixels along an axis, axes exchanged."""
        thick = sampling_matrix(
            np.array([0.85, 3.55, 6.25, 8.0]), SliceProfile("rect", 2.7), 9, 1.0
        )
        wide = sampling_matrix(np.array([4.1, 2.6, 1.1]), SliceProfile("gauss", 1.5), 6, 1.0)
        matrices = (torch.from_numpy(thick).float(), None, torch.from_numpy(wide).float())
        return cls((9, 4, 6), matrices, (2, 0, 1))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The samples along each axis, in `order`."""
        sizes = [
            n if m is None else m.shape[0] for n, m in zip(self.shape, self.matrices, strict=True)
        ]
        return tuple(sizes[a] for a in self.order)

    @property
    def abilities(self) -> frozenset[str]:
        """With "interpolates"."""
        return super().abilities | {"interpolates"}

    def picture(self, y: Tensor) -> Tensor:
        """The cubic splines of `interpolate`."""
        return self.interpolate(y)

    def project(self, y: Tensor) -> Tensor:
        """y, zero in samples that saw nothing."""
        y = self._measured(y)
        for place, axis in enumerate(self.order):
            matrix = self.matrices[axis]
            seen = None if matrix is None else (matrix != 0).any(1)
            if seen is not None and not bool(seen.all()):
                y = torch.where(seen.reshape(-1, *[1] * (2 - place)), y, 0)
        return y

    def interpolate(self, y: Tensor) -> Tensor:
        """Cubic splines through the samples along each axis; beyond the last one its value. y: (*batch, *out_shape)."""
        return self._spread(self._splines, self._measured(y))

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        factors = [None if m is None else full_factors(m.double(), like) for m in self.matrices]
        uh, s, vh = zip(*(f or (None, None, None) for f in factors), strict=True)
        values = torch.ones((), dtype=torch.float64, device=like.device)
        for one, n in zip(s, self.shape, strict=True):
            column = torch.ones(n, device=like.device) if one is None else one
            values = values[..., None] * column.double()
        u, v = (tuple(None if f is None else f.mT for f in part) for part in (uh, vh))
        return SVD(
            without_rounding(values).to(like.dtype.to_real()),
            lambda x: _along_axes(vh, x),
            lambda z: _along_axes(v, z),
            lambda y: _along_axes(uh, self._unordered(y)),
            lambda z: self._ordered(_along_axes(u, z)),
        )

    def _apply(self, x: Tensor) -> Tensor:
        return self._ordered(by_parts(lambda part: _along_axes(self.matrices, part), x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._spread(tuple(None if m is None else m.mT for m in self.matrices), y)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._spread(self._inverses, y)

    def _spread(self, matrices: tuple[Tensor | None, ...], y: Tensor) -> Tensor:
        return by_parts(lambda part: _along_axes(matrices, self._unordered(part)), y)

    def _ordered(self, x: Tensor) -> Tensor:
        lead = x.ndim - 3
        return x.permute(*range(lead), *(lead + a for a in self.order)).contiguous()

    def _unordered(self, y: Tensor) -> Tensor:
        lead = y.ndim - 3
        return y.permute(*range(lead), *(lead + self.order.index(a) for a in range(3)))

    @lasting
    def _splines(self) -> tuple[Tensor | None, ...]:
        return self._from_matrices(_spline)

    @lasting
    def _inverses(self) -> tuple[Tensor | None, ...]:
        """S (M S)^+ of the splines S and the sampling M: the smooth volume whose slices are those measured."""

        def inverse(matrix: Tensor) -> Tensor:
            spline = _spline(matrix)
            return spline @ torch.linalg.pinv(matrix @ spline, rtol=_RELIABLE)

        return self._from_matrices(inverse)

    def _from_matrices(self, make: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, ...]:
        return tuple(None if m is None else make(m.double().cpu()).to(m) for m in self.matrices)


def _along_axes(matrices: tuple[Tensor | None, ...], x: Tensor) -> Tensor:
    """Multiply real x (..., D, H, W) by a matrix along each of its last three axes."""
    for axis, matrix in zip((-3, -2, -1), matrices, strict=True):
        if matrix is not None:
            x = (x.movedim(axis, -1) @ matrix.mT.to(x.dtype)).movedim(-1, axis)
    return x if x.is_contiguous() else x.contiguous()


def _spline(matrix: Tensor) -> Tensor:
    """(cells, samples): cubic splines, level at their ends, through samples at the middles of a sampling matrix's rows.

    Constant beyond the outer samples. Rows of zeros have no say.
    """
    weights = matrix.numpy()
    cells = np.arange(weights.shape[1])
    seen = np.flatnonzero(weights.any(1))
    middles = weights[seen] @ cells
    order = np.argsort(middles)
    seen, middles = seen[order], middles[order]
    spline = np.zeros((len(cells), len(weights)))
    inside = np.clip(cells, middles[0], middles[-1])
    eye = np.eye(len(seen))
    if len(seen) >= _SPLINE_KNOTS:
        spline[:, seen] = CubicSpline(middles, eye, bc_type="clamped")(inside)
    else:
        spline[:, seen] = np.stack([np.interp(inside, middles, unit) for unit in eye], 1)
    return torch.from_numpy(spline)
