"""Views of a microscope with tilted illumination: each passes another part of the spectrum through the pupil.

Called as the linear part of `Magnitudes`, which is then Fourier ptychography; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import check_stored
from restore.operators.phase.ffts import fft2, ifft2


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PupilViews(LinearOperator):
    """Small pictures (views, h, w) of a large field (H, W): for each tilt, the window of the spectrum around it times
    the pupil, transformed back (both transforms orthonormal).

    pupil: (h, w), real or complex, the zero frequency in its middle (h // 2, w // 2). tilts: (views, 2) whole
    frequencies (rows, columns) at which the middle of the window lies. A^H A multiplies the spectrum by how
    often, and how bright, each frequency was seen, so that `pinv` is exact there and zero elsewhere.

    Zheng, Horstmeyer, Yang, "Wide-field, high-resolution Fourier ptychographic microscopy", Nature Photonics 7, 2013.
    Raises ShapeError, ConfigError.
    """

    is_complex = True

    pupil: Tensor
    tilts: Tensor
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        check_stored("PupilViews", "pupil", self.pupil)
        if len(self.shape) != 2 or self.pupil.ndim != 2 or 0 in self.pupil.shape:
            raise ShapeError(
                f"PupilViews: pupil {tuple(self.pupil.shape)} and field {tuple(self.shape)}, expected (h, w) and (H, W)"
            )
        if not bool(torch.isfinite(self.pupil).all()):
            raise ConfigError("PupilViews: pupil has values that are not finite")
        tilts = self.tilts
        if (
            tilts.ndim != 2
            or tilts.shape[1] != 2
            or not len(tilts)
            or tilts.is_floating_point()
            or tilts.is_complex()
        ):
            raise ShapeError(
                f"PupilViews: tilts are {tuple(tilts.shape)} {tilts.dtype}, expected whole numbers (views, 2)"
            )
        for axis, (n, small) in enumerate(zip(self.shape, self.pupil.shape, strict=True)):
            first = tilts[:, axis] + n // 2 - small // 2
            if int(first.min()) < 0 or int(first.max()) + small > n:
                raise ConfigError(
                    f"PupilViews: windows of {small} frequencies at tilts up to {int(tilts[:, axis].abs().max())} "
                    f"leave the spectrum of {n}; give a larger field or smaller tilts"
                )

    @classmethod
    def array(
        cls, shape: tuple[int, int], *, size: int, radius: float, side: int, step: int
    ) -> PupilViews:
        """An array of side x side lamps, `step` frequencies apart, and a round pupil of `radius` frequencies in windows
        of size x size, as bright as makes the norm one."""
        d = torch.arange(size) - size // 2
        pupil = (d[:, None] ** 2 + d**2 <= radius**2).float()
        lamps = (torch.arange(side) - side // 2) * step
        tilts = torch.cartesian_prod(lamps, lamps)
        most = float(cls(pupil, tilts, shape)._seen.max())
        return cls(pupil / most**0.5, tilts, shape)

    @classmethod
    def example(cls, generator: torch.Generator) -> PupilViews:
        """A tiny instance for tests."""
        pupil = torch.randn(4, 5, generator=generator, dtype=torch.complex64)
        tilts = torch.tensor([[0, 0], [-2, 1], [1, -1], [2, 2], [-1, -2]])
        return cls(pupil, tilts, (9, 10))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(views, h, w)."""
        return (len(self.tilts), *self.pupil.shape)

    @lasting
    def _places(self) -> Tensor:
        """(views x h x w): where each frequency of each window lies in the flattened spectrum, zero frequency first."""
        rows, columns = (
            (self.tilts[:, axis, None] + torch.arange(small, device=self.tilts.device) - small // 2)
            % n
            for axis, (n, small) in enumerate(zip(self.shape, self.pupil.shape, strict=True))
        )
        return (rows[:, :, None] * self.shape[1] + columns[:, None]).flatten()

    @lasting
    def _seen(self) -> Tensor:
        """(H, W): the sum of |pupil|^2 of the windows over each frequency."""
        power = self.pupil.abs().square().expand(self.out_shape).flatten()
        return (
            power.new_zeros(self.shape)
            .flatten()
            .index_add(0, self._places, power)
            .reshape(self.shape)
        )

    def _apply(self, x: Tensor) -> Tensor:
        spectrum = fft2(x).flatten(-2)
        windows = spectrum[..., self._places].unflatten(-1, self.out_shape)
        return ifft2(torch.fft.ifftshift(windows * self.pupil, (-2, -1)))

    def _adjoint(self, y: Tensor) -> Tensor:
        windows = torch.fft.fftshift(fft2(y), (-2, -1)) * self.pupil.conj()
        flat = windows.flatten(-3)
        empty = flat.new_zeros((*flat.shape[:-1], self.shape[0] * self.shape[1]))
        spectrum = empty.index_add(-1, self._places, flat)
        return ifft2(spectrum.unflatten(-1, self.shape))

    def _normal(self, x: Tensor) -> Tensor:
        return ifft2(fft2(x) * self._seen)

    def _pinv(self, y: Tensor) -> Tensor:
        seen = torch.where(self._seen > 0, 1 / self._seen, 0)
        return ifft2(fft2(self._adjoint(y)) * seen)
