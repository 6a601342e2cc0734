"""Phase retrieval: magnitudes of any complex linear measurement.

Called by pipelines and tests as a non-linear forward model; imports the operator contracts and the spectral start.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator, NonlinearOperator
from restore.operators.phase.coded_fourier import CodedFourier
from restore.operators.phase.starts import error_reduction, nearest, spectral_start


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Magnitudes(NonlinearOperator):
    """Phase retrieval: |A x|, with A = `CodedFourier` for (coded) diffraction, `PupilViews` for Fourier ptychography.

    linear: a complex linear operator. real_images: images are real, which leaves the sign open, else a phase common to
    all pixels; magnitudes of a plain Fourier transform do not tell an image from one that is turned by 180 degrees or
    moved either. Detectors count intensities: y is their square root, whose noise (that of counts) is 1/2 everywhere.

    `pinv` is the classical way: from the leading eigenvector of A^H diag(y^2) A (Chen, Candes 2015) and from phases
    of zero (which serves ptychography), alternating projections (Gerchberg, Saxton 1972); of both the one that explains
    y, with the sign or phase that makes the image's sum positive. `start_steps`: of each
    iteration. The gradient at a magnitude of zero is taken as zero. Raises ConfigError.

    >>> A = Magnitudes(CodedFourier.random_phases((64, 64), 4, generator))
    >>> result = restore.solve(y, A, noise=0.02, sampler="reddiff")
    """

    linear: LinearOperator
    real_images: bool = True
    start_steps: int = 60

    def __post_init__(self) -> None:
        if not isinstance(self.linear, LinearOperator) or not self.linear.is_complex:
            raise ConfigError(f"Magnitudes: {self.linear} is no complex linear operator")
        if self.start_steps < 1:
            raise ConfigError(f"Magnitudes: start_steps is {self.start_steps}, expected at least 1")

    @classmethod
    def example(cls, generator: torch.Generator) -> Magnitudes:
        """A tiny instance for tests."""
        return cls(CodedFourier.random_phases((4, 5), 4, generator))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.linear.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the magnitudes."""
        return self.linear.out_shape

    @property
    def slice_ndim(self) -> int:
        """As the linear operator."""
        return self.linear.slice_ndim

    @property
    def is_complex(self) -> bool:
        """Whether images are complex; magnitudes never are."""
        return not self.real_images

    def picture(self, y: Tensor) -> Tensor:
        """The classical image: magnitudes look like nothing of it."""
        return self.pinv(y)

    def _apply(self, x: Tensor) -> Tensor:
        return self.linear(x).abs()

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._images(self.linear.adjoint(v * torch.sgn(self.linear(x))))

    def _images(self, x: Tensor) -> Tensor:
        """x among the images that there are."""
        return x.real if self.real_images and x.is_complex() else x

    def _pinv(self, y: Tensor) -> Tensor:
        starts = (
            spectral_start(self.linear, y, self._images, self.start_steps),
            self._images(self.linear._pinv(y + 0j)),  # all phases zero
        )
        first, second = (
            error_reduction(self.linear, y, x, self._images, self.start_steps) for x in starts
        )
        x = nearest(self.linear, y, (first, second))
        ends = tuple(range(-self.item_ndim, 0))
        turn = torch.sgn(x.sum(ends, keepdim=True))
        return x * torch.where(turn == 0, torch.ones_like(turn), turn.conj())
