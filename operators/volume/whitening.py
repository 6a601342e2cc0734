"""Whitening of stationary noise: what makes correlated noise white, as a forward model of the volume in it.

Called by the pipelines for volumes; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.contract import check_stored
from restore.operators.volume.circulant import Circulant


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Whitening(Circulant):
    """y = C^-1/2 x for the covariance C of noise that repeats periodically, over the last three dimensions.

    A volume v = x + n with n ~ N(0, s^2 C) becomes y = A v = A x + white noise of deviation s. power: of the noise at
    the frequencies of `torch.fft.rfftn`, (D, H, W // 2 + 1), real, above zero, of mean 1 over the whole spectrum where
    s is the deviation of the noise. shape: (D, H, W). Raises ShapeError, ConfigError.
    """

    task = "denoise"

    power: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        wanted = (*self.shape[:-1], self.shape[-1] // 2 + 1)
        if len(self.shape) != 3 or tuple(self.power.shape) != wanted:
            raise ShapeError(
                f"Whitening: the power is {tuple(self.power.shape)} for volumes {tuple(self.shape)}, expected (D, H, "
                f"W // 2 + 1) = {wanted}"
            )
        check_stored("Whitening", "power", self.power)
        if not bool(((self.power > 0) & torch.isfinite(self.power)).all()):
            raise ConfigError("Whitening: the power of the noise must be above zero and finite")

    @classmethod
    def example(cls, generator: torch.Generator) -> Whitening:
        """A tiny instance for tests: of a covariance that is even, as a real one is."""
        n = torch.randn(3, 4, 5, generator=generator)
        return cls(torch.fft.rfftn(n).abs().square() / n.numel() + 0.5, (3, 4, 5))

    @property
    def transfer(self) -> Tensor:
        """One over the root of the power."""
        return self.power.rsqrt()

    @property
    def H(self) -> Whitening:
        """The operator itself."""
        return self

    def picture(self, y: Tensor) -> Tensor:
        """The volume with its correlated noise."""
        return self._pinv(y)

    def _pinv(self, y: Tensor) -> Tensor:
        return self.filtered(y, self.power.sqrt())
