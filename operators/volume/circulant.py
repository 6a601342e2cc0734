"""Maps of volumes that are a factor at every frequency, as whitening is; the filter itself serves blur too.

Imported by the operators of this room alone.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from restore.linalg.singular import SVD, ProximalPoint, without_rounding
from restore.operators.base import LinearOperator, SameShape

_AXES = (-3, -2, -1)


class Circulant(SameShape, LinearOperator):
    """Abstract: y = irfftn(transfer * rfftn(x)) over the last three dimensions, which repeat periodically.

    shape: (D, H, W). Real and complex volumes.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def transfer(self) -> Tensor:
        """Real or complex, (D, H, W // 2 + 1), of a real kernel."""

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """Frequency by frequency, (X0 / u + conj(T) Y) / (1 / u + |T|^2) with u = weight * precision.

        None for complex volumes.
        """
        if y.is_complex():
            return None
        transfer = self.transfer.to(y.device)
        power = transfer.abs().square().to(y.dtype)
        seen = torch.fft.rfftn(y, dim=_AXES) * transfer.conj()

        def point(x0: Tensor, weight: float) -> Tensor:
            ridge = 1 / (weight * precision)
            spectrum = (
                torch.fft.rfftn(x0, dim=_AXES).mul_(ridge).add_(seen).mul_(1 / (ridge + power))
            )
            return torch.fft.irfftn(spectrum, s=self.shape, dim=_AXES)

        return point

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        """The Fourier basis; U carries the phase of the transfer function."""
        real = like.dtype.to_real()
        transfer = self.transfer.to(like.device)
        turn = torch.sgn(transfer).to(real.to_complex())

        def forth(x: Tensor) -> Tensor:
            return torch.fft.rfftn(x, dim=_AXES, norm="ortho")

        def back(z: Tensor) -> Tensor:
            return torch.fft.irfftn(z, s=self.shape, dim=_AXES, norm="ortho")

        return SVD(
            without_rounding(transfer.abs()).to(real), forth, back,
            lambda y: forth(y) * turn.conj(), lambda z: back(z * turn),
        )  # fmt: skip

    def filtered(self, x: Tensor, gain: Tensor) -> Tensor:
        """x with its spectrum multiplied by a gain of the transfer function's shape."""
        return filtered(x, gain, self.shape)

    def _apply(self, x: Tensor) -> Tensor:
        return self.filtered(x, self.transfer)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.filtered(y, self.transfer.conj())

    def _normal(self, x: Tensor) -> Tensor:
        return self.filtered(x, self.transfer.abs().square())


def filtered(x: Tensor, gain: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Volumes (..., *shape), real or complex, with their spectrum multiplied by gain (D, H, W // 2 + 1)."""
    if not x.numel():  # no volume at all, which no transform takes
        return x.clone()
    if x.is_complex():
        return torch.complex(filtered(x.real, gain, shape), filtered(x.imag, gain, shape))
    spectrum = torch.fft.rfftn(x, dim=_AXES) * gain
    return torch.fft.irfftn(spectrum, s=shape, dim=_AXES)
