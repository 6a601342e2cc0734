"""Cartesian k-space of images that are real once their smooth phase is in the maps: what one side of k-space tells of
the other.

Called by the set-up of scans and by scripts; imports the operator contract and the encoding that it restricts.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator, lasting, least_squares
from restore.operators.mri.multicoil import SENSE_DAMPING, SENSE_STEPS, MultiCoilMRI
from restore.scaling import Scaling


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RealImages(LinearOperator):
    """An encoding restricted to real images: A x for real x, with k-space as pairs of real and imaginary part.

    x: real (*batch, *slices, H, W) or (*batch, *slices, D, H, W); y: real (*batch, *encoding.out_shape, 2), as
    `torch.view_as_real` makes it, so that map and adjoint, Re A^H y, are linear over the real numbers. The maps of
    the encoding hold the image's phase (`coil_maps.fold_phase`): least squares then is partial Fourier SENSE (Bydder
    and Robson, MRM 53:1393, 2005). `gridded` is homodyne reconstruction (Noll, Nishimura and Macovski, IEEE TMI
    10:154, 1991) with a step for its weights. `pinv` is ten CG iterations with damping 1e-3, per slice. Raises
    ConfigError for complex images.
    """

    kind = "mri"

    encoding: MultiCoilMRI

    @classmethod
    def example(cls, generator: torch.Generator) -> RealImages:
        """A tiny instance for tests."""
        return cls(MultiCoilMRI.example(generator))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """That of the encoding."""
        return self.encoding.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """That of the encoding, and 2."""
        return (*self.encoding.out_shape, 2)

    @property
    def slice_ndim(self) -> int:
        """That of the encoding."""
        return self.encoding.slice_ndim

    def project(self, y: Tensor) -> Tensor:
        """The sampled part of y."""
        return torch.view_as_real(self.encoding.project(_joined(self._measured(y))))

    def unit_scale(self, y: Tensor) -> Scaling:
        """That of the encoding."""
        return self.encoding.unit_scale(_joined(self._measured(y)))

    def gridded(self, y: Tensor) -> Tensor:
        """Re A^H of y, twice where the sample on the other side of the zero frequency was not measured."""
        weighted = _joined(self._measured(y)) * self._density
        return self.encoding.adjoint(weighted).real.clone()

    @lasting
    def _density(self) -> Tensor:
        """(..., 1, H|1, W|1): 1 where both sides were measured, 2 where one was."""
        sampled = self.encoding._sampling
        mirrored = sampled
        for axis in range(-self.encoding.image_ndim, 0):
            # The frequency -k of k: of an even number of places the first has no other side and is its own.
            mirrored = mirrored.flip(axis).roll(1 - sampled.shape[axis] % 2, axis)
        return 2 - mirrored

    def _image(self, x: Tensor) -> Tensor:
        x = super()._image(x)
        if x.is_complex():
            raise ConfigError(
                f"{self}: the image is {x.dtype}, expected real numbers; its phase belongs into the coil maps"
            )
        return x

    def _apply(self, x: Tensor) -> Tensor:
        return torch.view_as_real(self.encoding._apply(x.to(x.dtype.to_complex())))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.encoding._adjoint(_joined(y)).real.clone()

    def _normal(self, x: Tensor) -> Tensor:
        return self.encoding._normal(x.to(x.dtype.to_complex())).real.clone()

    def _pinv(self, y: Tensor) -> Tensor:
        return least_squares(self, y, iterations=SENSE_STEPS, damping=SENSE_DAMPING)


def _joined(y: Tensor) -> Tensor:
    """Pairs (..., 2) as complex numbers (...)."""
    return torch.complex(y[..., 0], y[..., 1])
