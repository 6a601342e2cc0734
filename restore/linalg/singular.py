"""Singular value decompositions as four maps, and how to get them from a matrix or from two small ones.

May be called by operators, which give their own, and by everything above. Knows matrices and tensors, no operator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

LinearMap = Callable[[Tensor], Tensor]
ProximalPoint = Callable[[Tensor, float], Tensor]
"""(x0, weight) -> argmin_v 1/2 ||v - x0||^2 + weight f(v); x0 (*batch, *in_shape), weight > 0."""

_EPSILON = 1e-10  # singular values below this share of the largest are rounding of the double precision SVD


@dataclasses.dataclass(frozen=True, eq=False)
class SVD:
    """A = U S V^H with V unitary, so that white noise is white in the coordinates V^H x too.

    values: the diagonal of S, real, zero or more, broadcasting to coordinates; zero for what A does not see.
    vh: x (*batch, *in_shape) -> V^H x, coordinates of the image's rank (half a spectrum for circular blur).
    v: coordinates -> image. uh: y (*batch, *out_shape) -> U^H y in the same coordinates, zero where S is.
    u: coordinates -> measurement, U S z where z is multiplied by `values` first; the adjoint of uh.
    """

    values: Tensor
    vh: LinearMap
    v: LinearMap
    uh: LinearMap
    u: LinearMap

    def apply(self, x: Tensor) -> Tensor:
        """A x, by way of the decomposition."""
        return self.u(self.values * self.vh(x))

    def scaled(self, factor: float | complex) -> SVD:
        """The decomposition of factor * A, factor not zero; its phase goes into U."""
        size = abs(factor)
        turn = factor / size
        back = turn.conjugate()
        return dataclasses.replace(
            self,
            values=self.values * size,
            uh=lambda y: self.uh(y * back),
            u=lambda z: self.u(z) * turn,
        )

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint:
        """The map to argmin_v 1/2 ||v - x0||^2 + weight precision/2 ||A v - y||^2, mode by mode.

        x0 + V S (U^H y - S V^H x0) / (1/(weight precision) + S^2): what A does not see stays as it is in x0.
        """
        seen, power = self.uh(y), self.values.square()

        def point(x0: Tensor, weight: float) -> Tensor:
            missing = seen - self.values * self.vh(x0)
            return x0 + self.v(missing * (self.values / (1 / (weight * precision) + power)))

        return point


def matrix_svd(
    matrix: Tensor, in_shape: tuple[int, ...], out_shape: tuple[int, ...], like: Tensor
) -> SVD:
    """Of a matrix (measurement entries, image entries) between tensors, in the precision and on the device of `like`.

    Decomposed in double precision: O(n^3) time.
    """
    wide = torch.complex128 if matrix.is_complex() else torch.float64
    uh, values, vh = full_factors(matrix.to(wide), like)

    def across(m: Tensor, x: Tensor, source: tuple[int, ...], target: tuple[int, ...]) -> Tensor:
        lead = x.shape[: x.ndim - len(source)]
        kind = torch.promote_types(m.dtype, x.dtype)
        return (x.reshape(*lead, -1).to(kind) @ m.mT.to(kind)).reshape(*lead, *target)

    v, u = vh.mH, uh.mH
    return SVD(
        values.reshape(in_shape),
        lambda x: across(vh, x, in_shape, in_shape),
        lambda z: across(v, z, in_shape, in_shape),
        lambda y: across(uh, y, out_shape, in_shape),
        lambda z: across(u, z, in_shape, out_shape),
    )


def kronecker_svd(rows: Tensor, columns: Tensor, like: Tensor) -> SVD:
    """Of x -> rows x columns^T on the last two dimensions of real images, from that of two small matrices.

    Singular vectors of a Kronecker product are products of singular vectors. Coordinates have the image's shape; a
    tall product has zeros where U has no vector.
    """
    (ur, sr, vr), (uc, sc, vc) = (full_factors(m.double(), like) for m in (rows, columns))
    return SVD(
        without_rounding(sr.double()[:, None] * sc.double()).to(sr),
        lambda x: vr @ x @ vc.mT,
        lambda z: vr.mT @ z @ vc,
        lambda y: ur @ y @ uc.mT,
        lambda z: ur.mT @ z @ uc,
    )


def full_factors(matrix: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U^H padded to n rows, n singular values, V^H) of an (m, n) matrix, on the device and in the precision of `like`.

    Rows of U^H are zero where the singular value is.
    """
    m, n = matrix.shape
    u, s, vh = torch.linalg.svd(matrix, full_matrices=m < n)  # V^H is n x n either way
    kept = min(m, n)
    uh, values = matrix.new_zeros(n, m), s.new_zeros(n)
    uh[:kept], values[:kept] = u[:, :kept].mH, s
    values = without_rounding(values)
    uh[values == 0] = 0
    real = like.dtype.to_real()
    kind = real.to_complex() if matrix.is_complex() else real
    place = like.device
    return uh.to(place, kind), values.to(place, real), vh.to(place, kind)


def without_rounding(values: Tensor) -> Tensor:
    """Singular values, zero where they are rounding of a larger one."""
    return torch.where(values > _EPSILON * values.amax(), values, 0)
