"""Multi-coil Cartesian MRI with several sets of maps: y = M F (S_1 x_1 + S_2 x_2), for a field of view that cuts the
object.

Called by pipelines, scripts and tests; imports only the operator contract and the transforms of this folder.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.contract import as_stored, check_stored
from restore.operators.mri.fourier import fft2c, ifft2c
from restore.operators.mri.multicoil import SENSE_DAMPING, SENSE_STEPS


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SoftSenseMRI(LinearOperator):
    """Undersampled acquisition of slices whose pixels show several places: y_c = mask * F(sum_s maps_sc x_s).

    Uecker et al., MRM 71:990, 2014 (soft SENSE): where the object reaches beyond the field of view, a pixel holds what
    lies there and what is folded onto it, seen by the coils in different ways. maps: complex (*slices, sets, coils, H,
    W), such as ESPIRiT's with `sets=2`, zero where a set is not needed. mask: (W,), (H, W) or broadcastable to
    (*slices, H, W); boolean or 0/1. x: complex (*batch, *slices, sets, H, W), the components of an item; y: (*batch,
    *slices, coils, H, W), exactly zero where not sampled. `pinv` is ten CG-SENSE iterations with damping 1e-3, per
    slice. `shown` gives the image that is looked at. Raises ShapeError and ConfigError.
    """

    kind = "mri"

    maps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        for name in ("maps", "mask"):
            object.__setattr__(self, name, as_stored("SoftSenseMRI", name, getattr(self, name)))
        if self.maps.ndim < 4 or not self.maps.is_complex():
            found = f"{tuple(self.maps.shape)} {self.maps.dtype}"
            raise ShapeError(
                f"SoftSenseMRI: maps are {found}, expected complex (*slices, sets, coils, H, W)"
            )
        sizes, image = tuple(self.mask.shape), (*self.maps.shape[:-4], *self.maps.shape[-2:])
        fits = [a in (1, b) for a, b in zip(sizes[::-1], image[::-1], strict=False)]
        if not sizes or len(sizes) > len(image) or not all(fits):
            raise ShapeError(
                f"SoftSenseMRI: mask has shape {sizes}, expected one that broadcasts to {image} (*slices, H, W)"
            )
        check_stored("SoftSenseMRI", "maps", self.maps)
        check_stored("SoftSenseMRI", "mask", self.mask)
        if self.mask.is_complex() or not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ConfigError(
                "SoftSenseMRI: mask has other values than 0 and 1; pass what was sampled"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> SoftSenseMRI:
        """A tiny instance for tests: two slices, two sets, three coils, one odd axis."""
        maps = torch.randn(2, 2, 3, 6, 5, generator=generator, dtype=torch.complex64)
        maps = maps / torch.linalg.vector_norm(maps, dim=-3, keepdim=True)
        return cls(maps, torch.rand(2, 6, 5, generator=generator) < 0.6)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*slices, sets, H, W)."""
        return (*self.maps.shape[:-3], *self.maps.shape[-2:])

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*slices, coils, H, W)."""
        return (*self.maps.shape[:-4], *self.maps.shape[-3:])

    @property
    def slice_ndim(self) -> int:
        """Number of slice dimensions."""
        return self.maps.ndim - 4

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    @property
    def sums_components(self) -> bool:
        """True."""
        return True

    def project(self, y: Tensor) -> Tensor:
        """The sampled part of y."""
        return torch.where(self._sampling == 0, 0, self._measured(y))

    def shown(self, x: Tensor) -> Tensor:
        """The root sum of squares over the components, each as bright as its maps are: that of the coils' images, as
        long as the sets are orthogonal. (*batch, *slices, sets, H, W) -> real (*batch, *slices, H, W)."""
        return torch.linalg.vector_norm(self._image(x).abs() * self._brightness, dim=-3)

    @lasting
    def _brightness(self) -> Tensor:
        return torch.linalg.vector_norm(self.maps, dim=-3)

    @lasting
    def _sampling(self) -> Tensor:
        """The mask as 0/1 in the maps' precision, with a place for coils."""
        mask = self.mask.to(self.maps.device, self.maps.real.dtype)
        return (mask if mask.ndim > 1 else mask[None]).unsqueeze(-3)

    def _apply(self, x: Tensor) -> Tensor:
        coils = (self.maps * x.unsqueeze(-3)).sum(dim=-4)
        return (fft2c(coils) if coils.numel() else coils) * self._sampling

    def _adjoint(self, y: Tensor) -> Tensor:
        sampled = y * self._sampling
        coils = ifft2c(sampled) if sampled.numel() else sampled
        return (self.maps.conj() * coils.unsqueeze(-4)).sum(dim=-3)

    def _pinv(self, y: Tensor) -> Tensor:
        return least_squares(self, y, iterations=SENSE_STEPS, damping=SENSE_DAMPING)
