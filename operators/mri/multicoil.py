"""Multi-coil Cartesian MRI of slices and of volumes: y = M F S x with centred orthonormal FFT, without ever moving
a sample.

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
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import as_stored, check_stored
from restore.operators.linear import normal_solution
from restore.operators.mri.few_lines import FewLines, few_lines_of
from restore.operators.mri.fourier import fftc, ifftc, shift_grid
from restore.operators.mri.turned_coils import without_faint

_BLOCK_BYTES = 64 * 2**20  # coil images held at a time
_CACHE_BYTES = 2**19
"""The same on a processor, for each thread: what its second cache holds beside maps and results. Products with 8 coils
of 256 x 188 take a fifth less one by one, and half where other programs fill the caches."""
_PLAIN = 1e-5  # of a modulus from one
SENSE_STEPS, SENSE_DAMPING = 10, 1e-3


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MultiCoilMRI(LinearOperator):
    """Undersampled multi-coil acquisition of slices, or of volumes: y_c = mask * F(maps_c * x).

    maps and mask may be arrays, of which copies are kept. maps: (*slices, coils, H, W) complex, usually with
    sum over coils of |maps|^2 = 1. mask: (W,),
    (H, W) or broadcastable to (*slices, H, W); boolean or 0/1. x: (*batch, *slices, H, W) complex
    (real is taken as complex); y: (*batch, *slices, coils, H, W), zero frequency at [H // 2, W //
    2], exactly zero where not sampled. image_ndim: 2, or 3 for volumes encoded along three axes: (D, H, W) stands for
    (H, W) everywhere.

    The rotations of the centred transform are linear phases (`fourier.shift_ramps`): one multiplies
    the image, the other is part of the mask, and in A^H A they cancel. A^H A transforms only along the axes on
    which the mask depends (the other transforms commute with the mask and cancel): one for lines, two for a volume
    with a readout. A^H A of slices leaves out what no turn of the coils brings above 4e-6 of their energy, in single
    precision (`turned_coils`). Slices do not mix: `slice_ndim` counts them. `pinv` is ten CG-SENSE iterations with
    damping 1e-3, per slice. Raises ShapeError and ConfigError.
    """

    kind = "mri"

    maps: Tensor
    mask: Tensor
    image_ndim: int = 2

    def __post_init__(self) -> None:
        for name in ("maps", "mask"):
            kept = as_stored("MultiCoilMRI", name, getattr(self, name))
            object.__setattr__(self, name, kept)
        if self.image_ndim not in (2, 3):
            raise ConfigError(f"MultiCoilMRI: image_ndim is {self.image_ndim}, expected 2 or 3")
        wanted = f"(*slices, coils, {'H, W' if self.image_ndim == 2 else 'D, H, W'})"
        if self.maps.ndim < self.image_ndim + 1 or not self.maps.is_complex():
            found = f"{tuple(self.maps.shape)} {self.maps.dtype}"
            raise ShapeError(f"MultiCoilMRI: maps are {found}, expected complex {wanted}")
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
        """(*slices, H, W), or (*slices, D, H, W)."""
        return (*self.maps.shape[: self.slice_ndim], *self.maps.shape[-self.image_ndim :])

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*slices, coils, H, W), or (*slices, coils, D, H, W)."""
        return tuple(self.maps.shape)

    @property
    def slice_ndim(self) -> int:
        """Number of slice dimensions."""
        return self.maps.ndim - 1 - self.image_ndim

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    def project(self, y: Tensor) -> Tensor:
        """The sampled part of y."""
        return torch.where(self._sampling == 0, 0, self._measured(y))

    def coil_images(self, x: Tensor) -> Tensor:
        """maps * x: (*batch, *slices, H, W) -> (*batch, *slices, coils, H, W)."""
        return self.maps * self._image(x).unsqueeze(self._coils)

    @property
    def _axes(self) -> tuple[int, ...]:
        """Those of an image."""
        return tuple(range(-self.image_ndim, 0))

    @property
    def _coils(self) -> int:
        """The axis of coils, counted from the last of an image."""
        return -1 - self.image_ndim

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
        mask = mask.expand(shape[-self.image_ndim :] if mask.ndim <= self.image_ndim else shape)
        ndim, coils = self.image_ndim, self._coils
        return SVD(
            mask,
            lambda x: fftc(maps * x.unsqueeze(coils), ndim).squeeze(coils),
            lambda z: (back * ifftc(z.unsqueeze(coils), ndim)).squeeze(coils),
            lambda y: y.squeeze(coils) * mask,
            lambda z: (z * mask).unsqueeze(coils),
        )

    @cached_property
    def _one_plain_coil(self) -> bool:
        """Whether the only map is a phase, in the digits of single precision."""
        one = self.maps.shape[self._coils] == 1
        return one and bool((self.maps.abs() - 1).abs().max() < _PLAIN)

    @property
    def _ramps(self) -> tuple[Tensor, Tensor]:
        """Of an image; of a volume made anew, since keeping them would take as much as two."""
        return self._kept_ramps if self.image_ndim == 2 else self._made_ramps()

    @lasting
    def _kept_ramps(self) -> tuple[Tensor, Tensor]:
        return self._made_ramps()

    def _made_ramps(self) -> tuple[Tensor, Tensor]:
        shape = self.maps.shape[-self.image_ndim :]
        return shift_grid(shape, dtype=self.maps.dtype, device=self.maps.device)

    @lasting
    def _sampling(self) -> Tensor:
        """The mask as 0/1 in the maps' precision, with a place for coils: (..., 1, H|1, W|1)."""
        mask = self.mask.to(device=self.maps.device, dtype=self.maps.real.dtype)
        mask = mask.reshape(*[1] * (self.image_ndim - mask.ndim), *mask.shape)
        return mask.unsqueeze(self._coils)

    @property
    def _weights(self) -> Tensor:
        """Mask with the ramp of the frequency side; of a volume made anew."""
        return self._kept_weights if self.image_ndim == 2 else self._sampling * self._ramps[1]

    @lasting
    def _kept_weights(self) -> Tensor:
        return self._sampling * self._ramps[1]

    @property
    def _conjugate_weights(self) -> Tensor:
        """Of `_weights`."""
        if self.image_ndim == 2:
            return self._kept_conjugates
        return self._weights.conj().resolve_conj()

    @lasting
    def _kept_conjugates(self) -> Tensor:
        return self._weights.conj().resolve_conj()

    @lasting
    def _shiftless(self) -> tuple[Tensor, tuple[int, ...]]:
        """Mask in the order of an uncentred FFT, and the axes that A^H A has to transform."""
        mask = torch.fft.ifftshift(self._sampling, dim=self._axes)
        axes = tuple(axis for axis in self._axes if not _constant(mask, axis))
        for axis in set(self._axes) - set(axes):
            mask = mask.narrow(axis, 0, 1)
        return mask.to(self.maps.dtype), axes

    @lasting
    def _few_lines(self) -> FewLines | None:
        """Of a mask of lines that all slices share, the products that replace FFTs where they are quicker."""
        mask, axes = self._shiftless
        one = self.image_ndim == 2 and len(axes) == 1 and mask.numel() == mask.shape[axes[0]]
        return few_lines_of(mask.flatten()) if one else None

    @lasting
    def _turned(self) -> Tensor:
        """Maps for A^H A: of slices, as few as it needs to 4e-6; of a volume those that are there."""
        transformed = self._shiftless[1]
        if self.image_ndim == 3 or not transformed:
            return self.maps
        return without_faint(self.maps, -3 - transformed[0] if len(transformed) == 1 else None)

    def _apply(self, x: Tensor) -> Tensor:
        x, weights = (x * self._ramps[0]).unsqueeze(self._coils), self._weights
        blocks = list(self._blocks(self.maps, x.numel()))
        if len(blocks) == 1:
            return _fft(self.maps * x, self._axes).mul_(weights)
        along = x.ndim + self._coils
        y = x.new_empty((*x.shape[:along], self.maps.shape[self._coils], *x.shape[along + 1 :]))
        for block, maps in blocks:
            y.narrow(along, *block).copy_(_fft(maps * x, self._axes).mul_(weights))
        return y

    # sum conj(S) F^-1 z is computed as conj(sum S F conj(z)): conjugating fresh data in place is
    # cheaper than the copy that conjugated maps would be.

    def _adjoint(self, y: Tensor) -> Tensor:
        weight, along = self._conjugate_weights, y.ndim + self._coils
        pixels = y.numel() // self.maps.shape[self._coils]
        parts = (
            _fft((y.narrow(along, *block) * weight).conj_physical_(), self._axes).mul_(maps)
            for block, maps in self._blocks(self.maps, pixels)
        )
        return self._sum_coils(parts).mul_(self._ramps[0]).conj_physical_()

    def _normal(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(self._coils)
        parts = (
            self._there_and_back(maps * x).mul_(maps)
            for _, maps in self._blocks(self._turned, x.numel())
        )
        return self._sum_coils(parts).conj_physical_()

    def _there_and_back(self, coils: Tensor) -> Tensor:
        """The conjugate of F^H M F z, z coil images, which may be overwritten."""
        mask, axes = self._shiftless
        if self._few_lines is not None:
            return self._few_lines.conjugate(coils, axes[0])
        coils = _fft(coils, axes).mul_(mask).conj_physical_()  # lets go of what came
        return _fft(coils, axes)

    def _pinv(self, y: Tensor) -> Tensor:
        right = self._adjoint(y)
        del y  # a copy of the samples: not held meanwhile
        return normal_solution(self, right, iterations=SENSE_STEPS, damping=SENSE_DAMPING)

    def _blocks(self, maps: Tensor, pixels: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Runs of coils (first, how many) whose images of `pixels` values each fit in the working memory, with
        their maps.
        """
        coils, held = maps.shape[self._coils], _BLOCK_BYTES
        if maps.device.type == "cpu":
            held = min(held, _CACHE_BYTES * torch.get_num_threads())
        step = max(1, min(coils, held // max(1, pixels * maps.element_size())))
        for start in range(0, coils, step):
            block = start, min(step, coils - start)
            yield block, maps.narrow(maps.ndim + self._coils, *block)

    def _sum_coils(self, parts: Iterator[Tensor]) -> Tensor:
        """Sum over the coil axis and over all parts, holding one part at a time."""
        total = self._summed(next(parts))
        for part in parts:
            total += self._summed(part)
            del part  # not held while the next one is made
        return total

    def _summed(self, part: Tensor) -> Tensor:
        one = part.shape[self._coils] == 1  # of which a sum would be a copy
        return part.squeeze(self._coils) if one else part.sum(dim=self._coils)


def _fft(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Orthonormal FFT along `axes`; an empty batch and an empty list of axes pass through."""
    return torch.fft.fftn(x, dim=axes, norm="ortho") if axes and x.numel() else x


def _constant(mask: Tensor, axis: int) -> bool:
    return bool((mask == mask.narrow(axis, 0, 1)).all())
