"""Inpainting: some pixels are seen, the others are lost.

Called by pipelines and tests as a forward model; imports only the operator contract.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import final

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.singular import SVD, ProximalPoint
from restore.operators.base import LinearOperator, SameShape
from restore.operators.contract import check_stored
from restore.operators.diagonal import check_broadcast, pointwise_svd


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Inpainting(SameShape, LinearOperator):
    """Keep the pixels where `mask` is 1 and set the others to zero; the measurement has the image's
    shape.

    mask: boolean or 0/1, broadcastable to `shape` (for example (H, W) for images (3, H, W)). The
    adjoint is the pseudo- inverse. Raises ShapeError for a mask that does not broadcast,
    ConfigError for one with other values than 0 and 1.
    """

    task = "inpaint"

    mask: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_broadcast("Inpainting", "mask", self.mask, tuple(self.shape))
        check_stored("Inpainting", "mask", self.mask)
        # A bool mask knows no precision; stored as float32 it makes `dtype` and `to` work as for
        # other operators.
        mask = self.mask if self.mask.is_floating_point() else self.mask.to(torch.float32)
        if not bool(((mask == 0) | (mask == 1)).all()):
            low, high = self.mask.min().item(), self.mask.max().item()
            raise ConfigError(
                f"Inpainting: mask has values between {low} and {high}, expected only 0 and 1; "
                "threshold it, or use Diagonal for weights"
            )
        object.__setattr__(self, "mask", mask)

    @classmethod
    def random(cls, shape: tuple[int, ...], keep: float, generator: torch.Generator) -> Inpainting:
        """Keep each pixel with probability `keep` in 0..1, the same pixels in every channel of
        `shape` (..., H, W).
        """
        if not 0 <= keep <= 1:
            raise ConfigError(
                f"Inpainting.random: keep is {keep}, expected a fraction between 0 and 1"
            )
        mask = torch.rand(tuple(shape[-2:]), generator=generator, device=generator.device) < keep
        return cls(mask, tuple(shape))

    @classmethod
    def example(cls, generator: torch.Generator) -> Inpainting:
        """A tiny instance for tests."""
        return cls.random((3, 5, 6), 0.5, generator)

    @property
    def strength(self) -> Mapping[str, float | str]:
        """The share of seen pixels, and how far from the nearest seen one a lost pixel lies on average, in pixels.

        Pixels lost at random lie near seen ones, those of boxes and strokes do not.
        """
        seen = self.mask.broadcast_to(self.shape).reshape(-1, *self.shape[-2:])[0].cpu() != 0
        if not bool(seen.any()) or bool(seen.all()):
            return {"share of seen pixels": float(seen.float().mean())}
        away = distance_transform_edt(~seen.numpy())
        return {
            "share of seen pixels": float(seen.float().mean()),
            "mean distance of lost pixels": float(away[away > 0].mean()),
        }

    @property
    def abilities(self) -> frozenset[str]:
        """With "selects"."""
        return super().abilities | {"selects"}

    @property
    def H(self) -> LinearOperator:
        """The operator itself."""
        return self

    def project(self, y: Tensor) -> Tensor:
        """The seen pixels; zero for the others, whatever stood there."""
        return torch.where(self.mask == 0, 0, self._measured(y))

    def picture(self, y: Tensor) -> Tensor:
        """The seen pixels."""
        return self.project(y)

    def proximal_point(self, y: Tensor, precision: float) -> ProximalPoint | None:
        """Seen pixels move towards the data, the others stay. None for complex images."""
        if y.is_complex():
            return None
        mask = self.mask.to(y.device, y.dtype.to_real())
        return lambda x0, weight: torch.lerp(x0, y, mask / (1 / (weight * precision) + 1))

    @property
    def _has_svd(self) -> bool:
        return True

    def _svd(self, like: Tensor) -> SVD:
        return pointwise_svd(self.mask, like)

    def _apply(self, x: Tensor) -> Tensor:
        return x * self.mask

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask

    def _normal(self, x: Tensor) -> Tensor:
        return x * self.mask

    def _pinv(self, y: Tensor) -> Tensor:
        return y * self.mask
