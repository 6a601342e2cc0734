"""Singular value decompositions of forward operators, for samplers that work mode by mode.

May be called by samplers. Touches nothing; what depends on the operator alone is computed once, in double precision.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Diagonal, Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.fourier import ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI

DECOMPOSED = ("Identity", "Diagonal", "Inpainting", "Blur", "Downsample", "MultiCoilMRI")
"""Operator classes with instances of any size that `decompose` serves."""

DENSE_ENTRIES = 2**21  # of the matrix of any other operator: a decomposition of a second or two

_EPSILON = 1e-10  # singular values below this share of the largest are rounding
_PLANE = (-2, -1)
_Matrices = tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Spectral:
    """A = U S V^H with V unitary, so that white noise is white in the coordinates V^H x too.

    values: the diagonal of S, real, zero or more, broadcasting to coordinates; zero for what A does not see.
    vh: x (*batch, *in_shape) -> V^H x, coordinates of the image's rank (half a spectrum for circular blur).
    v: coordinates -> image. uh: y (*batch, *out_shape) -> U^H y in the same coordinates, zero where S is.
    """

    values: Tensor
    vh: Callable[[Tensor], Tensor]
    v: Callable[[Tensor], Tensor]
    uh: Callable[[Tensor], Tensor]


def decompose(operator: LinearOperator, like: Tensor) -> Spectral:
    """The decomposition of an operator, in the precision and on the device of `like`.

    Served: pointwise operators, circular blur, blur by a separable kernel (any boundary), downsampling, MRI with one
    coil of modulus one, and any operator whose matrix has at most DENSE_ENTRIES entries. Images of Blur and
    Downsample are real. Raises ConfigError for others.
    """
    real = like.real if like.is_complex() else like
    if isinstance(operator, Identity | Diagonal | Inpainting):
        return _pointwise(operator, real)
    if isinstance(operator, Blur) and operator.boundary == "circular":
        return _circular(operator, real)
    if isinstance(operator, Blur | Downsample):
        matrices = _separable(operator)
        if matrices is not None:
            return _kronecker(*matrices, real)
    if isinstance(operator, MultiCoilMRI) and _one_plain_coil(operator):
        return _fourier(operator, real)
    if math.prod(operator.in_shape) * math.prod(operator.out_shape) <= DENSE_ENTRIES:
        return _dense(operator, real)
    raise ConfigError(
        f"{operator} has no singular value decomposition here; there is one for {', '.join(DECOMPOSED)} "
        "(Blur: boundary 'circular' or a separable kernel; MultiCoilMRI: one coil of modulus 1) and for any operator "
        f"whose matrix has at most {DENSE_ENTRIES} entries; use dds or diffpir"
    )


def _pointwise(operator: Identity | Diagonal | Inpainting, real: Tensor) -> Spectral:
    if isinstance(operator, Identity):
        return Spectral(real.new_ones(()), _same, _same, _same)
    weight = operator.mask if isinstance(operator, Inpainting) else operator.weight
    turned = torch.sgn(weight).conj().resolve_conj().to(real.device)
    turned = turned if turned.is_complex() else turned.to(real)
    return Spectral(weight.abs().to(real), _same, _same, lambda y: y * turned)


def _circular(operator: Blur, real: Tensor) -> Spectral:
    """The Fourier basis; U carries the phase of the transfer function."""
    transfer = operator.transfer.to(real.device)
    turned = torch.sgn(transfer).conj().to(real.dtype.to_complex())
    size = operator.in_shape[-2:]
    return Spectral(
        _without_rounding(transfer.abs()).to(real),
        lambda x: torch.fft.rfft2(x, norm="ortho"),
        lambda z: torch.fft.irfft2(z, s=size, norm="ortho"),
        lambda y: torch.fft.rfft2(y, norm="ortho") * turned,
    )


def _separable(operator: Blur | Downsample) -> _Matrices | None:
    """(R, C) with A x = R x C^T for every plane; None for a kernel that is no product of a column and a row."""
    if isinstance(operator, Downsample):
        return operator.rows.double(), operator.columns.double()
    u, s, vh = torch.linalg.svd(operator.kernel.double())
    if s.numel() > 1 and s[1] > 1e-6 * s[0]:  # kernels in single precision are products up to 1e-7
        return None
    column, row = u[:, :1] * s[0], vh[:1].mT
    height, width = operator.in_shape[-2:]
    return _matrix_1d(column, height, operator.boundary), _matrix_1d(row, width, operator.boundary)


def _matrix_1d(kernel: Tensor, n: int, boundary: str) -> Tensor:
    """The matrix of a blur of one column of n pixels by a (k, 1) kernel."""
    eye = torch.eye(n, dtype=torch.float64, device=kernel.device)
    return Blur(kernel, (n, 1), boundary)(eye[..., None]).squeeze(-1).mT


def _kronecker(rows: Tensor, columns: Tensor, real: Tensor) -> Spectral:
    """Singular vectors of a Kronecker product are products of singular vectors."""
    (ur, sr, vr), (uc, sc, vc) = (_full(m, real) for m in (rows, columns))
    values = _without_rounding(sr[:, None] * sc)
    # A tall product of m x n coordinates beside n x n of the image: zeros where U has no vector.
    return Spectral(
        values.to(real),
        lambda x: vr @ x @ vc.mT,
        lambda z: vr.mT @ z @ vc,
        lambda y: ur @ y @ uc.mT,
    )


def _full(matrix: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U^H padded to n rows, n singular values, V^H) of an (m, n) matrix."""
    m, n = matrix.shape
    u, s, vh = torch.linalg.svd(matrix, full_matrices=m < n)  # V^H is n x n either way
    kept = min(m, n)
    uh, values = matrix.new_zeros(n, m), s.new_zeros(n)
    uh[:kept], values[:kept] = u[:, :kept].mH, s
    uh[values <= _EPSILON * values.amax()] = 0
    kind = real.dtype.to_complex() if matrix.is_complex() else real.dtype
    return uh.to(real.device, kind), values.to(real.device), vh.to(real.device, kind)


def _one_plain_coil(operator: MultiCoilMRI) -> bool:
    modulus = operator.maps.abs()
    return operator.maps.shape[-3] == 1 and bool((modulus - 1).abs().max() < 1e-5)


def _fourier(operator: MultiCoilMRI, real: Tensor) -> Spectral:
    """k-space is where A is diagonal: one coil's map is a phase, which belongs to V."""
    shape = operator.in_shape
    mask = operator.mask.to(real).expand(shape[-2:] if operator.mask.ndim <= 2 else shape)
    back = operator.maps.conj().resolve_conj()
    return Spectral(
        mask,
        lambda x: operator.full_kspace(x).squeeze(-3),
        lambda z: (back * ifft2c(z.unsqueeze(-3))).squeeze(-3),
        lambda y: y.squeeze(-3) * mask,
    )


def _dense(operator: LinearOperator, real: Tensor) -> Spectral:
    """By the matrix, made column by column."""
    shape, n = operator.in_shape, math.prod(operator.in_shape)
    kind = operator.dtype.to_complex() if operator.is_complex else operator.dtype
    eye = torch.eye(n, dtype=kind, device=operator.device).reshape(n, *shape)
    matrix = operator(eye).reshape(n, -1).mT
    uh, values, vh = _full(matrix.to(torch.complex128 if kind.is_complex else torch.float64), real)
    back = vh.mH

    def across(m: Tensor, x: Tensor, rank: int) -> Tensor:
        lead = x.shape[: x.ndim - rank]
        return (x.reshape(*lead, -1).to(m.dtype) @ m.mT).reshape(*lead, *shape)

    return Spectral(
        _without_rounding(values).to(real).reshape(shape),
        lambda x: across(vh, x, len(shape)),
        lambda z: across(back, z, len(shape)),
        lambda y: across(uh, y, len(operator.out_shape)),
    )


def _without_rounding(values: Tensor) -> Tensor:
    return torch.where(values > _EPSILON * values.amax(), values, 0)


def _same(x: Tensor) -> Tensor:
    return x
