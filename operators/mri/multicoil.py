"""Multi-coil Cartesian MRI: y = M F S x with centred orthonormal FFT, without ever moving a sample.

Called by pipelines, solvers' tests and benchmarks; imports only the operator contract and its
iterations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.singular import SVD
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.contract import as_stored, check_stored
from restore.operators.mri.fourier import fft2c, ifft2c, shift_planes

_PLANE = (-2, -1)
_BLOCK_BYTES = 64 * 2**20  # coil images held at a time by adjoint and normal
_PLAIN = 1e-5  # of a modulus from one
SENSE_STEPS, SENSE_DAMPING = 10, 1e-3


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MultiCoilMRI(LinearOperator):
    """Undersampled multi-coil acquisition of slices: y_c = mask * F(maps_c * x).

    maps and mask may be arrays, of which copies are kept. maps: (*slices, coils, H, W) complex, usually with
    sum over coils of |maps|^2 = 1. mask: (W,),
    (H, W) or broadcastable to (*slices, H, W); boolean or 0/1. x: (*batch, *slices, H, W) complex
    (real is taken as complex); y: (*batch, *slices, coils, H, W), zero frequency at [H // 2, W //
    2], exactly zero where not sampled.

    The rotations of the centred transform are linear phases (`fourier.shift_ramps`): one multiplies
    the image, the other is part of the mask, and in A^H A they cancel. Where the mask depends on
    one axis only, A^H A transforms along that axis only (the other transform commutes with the mask
    and cancels). Slices do not mix: `slice_ndim` counts them. `pinv` is ten CG-SENSE iterations
    with damping 1e-3, per slice. Raises ShapeError and ConfigError.
    """

    kind = "mri"

    maps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        for name in ("maps", "mask"):
            kept = as_stored("MultiCoilMRI", name, getattr(self, name))
            object.__setattr__(self, name, kept)
        if self.maps.ndim < 3 or not self.maps.is_complex():
            found = f"{tuple(self.maps.shape)} {self.maps.dtype}"
            raise ShapeError(
                f"MultiCoilMRI: maps are {found}, expected complex (*slices, coils, H, W)"
            )
        sizes = tuple(self.mask.shape)
        allowed = [
            a == b or (a == 1) for a, b in zip(sizes[::-1], self.in_shape[::-1], strict=False)
        ]
        if not sizes or len(sizes) > len(self.in_shape) or not all(allowed):
            raise ShapeError(
                f"MultiCoilMRI: mask has shape {sizes}, expected one that broadcasts to "
                f"{self.in_shape} (*slices, H, W)"
            )
        check_stored("MultiCoilMRI", "maps", self.maps)
        check_stored("MultiCoilMRI", "mask", self.mask)
        if self.mask.is_complex() or not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ConfigError(
                "MultiCoilMRI: mask has other values than 0 and 1; pass what was sampled"
            )

    @classmethod
    def single_coil(
        cls, mask: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype = torch.complex64
    ) -> MultiCoilMRI:
        """One coil of uniform sensitivity for images of `shape` (*slices, H, W); y then is
        (*slices, 1, H, W).
        """
        if len(shape) < 2:
            raise ShapeError(
                f"MultiCoilMRI.single_coil: shape is {tuple(shape)}, expected (*slices, H, W)"
            )
        ones = torch.ones((*shape[:-2], 1, *shape[-2:]), dtype=dtype, device=mask.device)
        return cls(ones, mask)

    @classmethod
    def example(cls, generator: torch.Generator) -> MultiCoilMRI:
        """A tiny instance for tests: two slices, three coils, one odd axis."""
        maps = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.complex64)
        maps = maps / torch.linalg.vector_norm(maps, dim=-3, keepdim=True)
        return cls(maps, torch.rand(2, 6, 5, generator=generator) < 0.6)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*slices, H, W)."""
        return (*self.maps.shape[:-3], *self.maps.shape[-2:])

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*slices, coils, H, W)."""
        return tuple(self.maps.shape)

    @property
    def slice_ndim(self) -> int:
        """Number of slice dimensions."""
        return self.maps.ndim - 3

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    def project(self, y: Tensor) -> Tensor:
        """The sampled part of y."""
        return torch.where(self._sampling == 0, 0, self._measured(y))

    def coil_images(self, x: Tensor) -> Tensor:
        """maps * x: (*batch, *slices, H, W) -> (*batch, *slices, coils, H, W)."""
        return self.maps * self._image(x).unsqueeze(-3)

    @property
    def _has_svd(self) -> bool:
        return self._one_plain_coil

    def _svd(self, like: Tensor) -> SVD | None:
        """k-space is where A is diagonal: one coil's map is a phase, which belongs to V."""
        if not self._one_plain_coil:
            return None
        real = like.dtype.to_real()
        maps = self.maps.to(like.device, real.to_complex())
        back, shape = maps.conj().resolve_conj(), self.in_shape
        mask = self.mask.to(like.device, real)
        mask = mask.expand(shape[-2:] if mask.ndim <= 2 else shape)
        return SVD(
            mask,
            lambda x: fft2c(maps * x.unsqueeze(-3)).squeeze(-3),
            lambda z: (back * ifft2c(z.unsqueeze(-3))).squeeze(-3),
            lambda y: y.squeeze(-3) * mask,
            lambda z: (z * mask).unsqueeze(-3),
        )

    @cached_property
    def _one_plain_coil(self) -> bool:
        """Whether the only map is a phase, in the digits of single precision."""
        one = self.maps.shape[-3] == 1
        return one and bool((self.maps.abs() - 1).abs().max() < _PLAIN)

    @lasting
    def _ramps(self) -> tuple[Tensor, Tensor]:
        height, width = self.maps.shape[-2:]
        return shift_planes(height, width, dtype=self.maps.dtype, device=self.maps.device)

    @lasting
    def _sampling(self) -> Tensor:
        """The mask as 0/1 in the maps' precision, with a place for coils: (..., 1, H|1, W|1)."""
        mask = self.mask.to(device=self.maps.device, dtype=self.maps.real.dtype)
        mask = mask if mask.ndim > 1 else mask.unsqueeze(0)
        return mask.unsqueeze(-3)

    @lasting
    def _weights(self) -> tuple[Tensor, Tensor]:
        """Mask with the ramp of the frequency side, and its conjugate."""
        weight = self._sampling * self._ramps[1]
        return weight, weight.conj().resolve_conj()

    @lasting
    def _shiftless(self) -> tuple[Tensor, tuple[int, ...]]:
        """Mask in the order of an uncentred FFT, and the axes that A^H A has to transform."""
        mask = torch.fft.ifftshift(self._sampling, dim=_PLANE)
        axes = tuple(axis for axis in _PLANE if not _constant(mask, axis))
        for axis in set(_PLANE) - set(axes):
            mask = mask.narrow(axis, 0, 1)
        return mask.to(self.maps.dtype), axes

    def _apply(self, x: Tensor) -> Tensor:
        coils = self.maps * (x * self._ramps[0]).unsqueeze(-3)
        return _fft(coils, _PLANE).mul_(self._weights[0])

    # sum conj(S) F^-1 z is computed as conj(sum S F conj(z)): conjugating fresh data in place is
    # cheaper than the copy that conjugated maps would be.

    def _adjoint(self, y: Tensor) -> Tensor:
        weight = self._weights[1]
        parts = (
            _fft((y[..., block, :, :] * weight).conj_physical_(), _PLANE).mul_(maps)
            for block, maps in self._blocks(y.numel() // self.maps.shape[-3], y.element_size())
        )
        return _sum_coils(parts).mul_(self._ramps[0]).conj_physical_()

    def _normal(self, x: Tensor) -> Tensor:
        mask, axes = self._shiftless
        x = x.unsqueeze(-3)
        parts = (
            _fft(_fft(maps * x, axes).mul_(mask).conj_physical_(), axes).mul_(maps)
            for _, maps in self._blocks(x.numel(), self.maps.element_size())
        )
        return _sum_coils(parts).conj_physical_()

    def _pinv(self, y: Tensor) -> Tensor:
        return least_squares(self, y, iterations=SENSE_STEPS, damping=SENSE_DAMPING)

    def _blocks(self, pixels: int, element_size: int) -> Iterator[tuple[slice, Tensor]]:
        """Runs of coils whose images of `pixels` values each fit in the working memory, with their
        maps.
        """
        coils = self.maps.shape[-3]
        step = max(1, min(coils, _BLOCK_BYTES // max(1, pixels * element_size)))
        for start in range(0, coils, step):
            block = slice(start, start + step)
            yield block, self.maps[..., block, :, :]


def _fft(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Orthonormal FFT along `axes`; an empty batch and an empty list of axes pass through."""
    return torch.fft.fftn(x, dim=axes, norm="ortho") if axes and x.numel() else x


def _sum_coils(parts: Iterator[Tensor]) -> Tensor:
    """Sum over the coil axis and over all parts, holding one part at a time."""
    total = next(parts).sum(dim=-3)
    for part in parts:
        total += part.sum(dim=-3)
    return total


def _constant(mask: Tensor, axis: int) -> bool:
    return bool((mask == mask.narrow(axis, 0, 1)).all())
