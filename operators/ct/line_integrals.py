"""What every CT operator shares: precision, device, rays a bin, the scale of attenuation, batches of real images.

The base of `parallel_beam` and `x_ray_transform`; imports the operator contract.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import MU_WATER_PER_MM
from restore.scaling import CT_WINDOW_HU, Scaling

METHODS = ("auto", "sparse", "matrix-free")
PROJECTORS = ("auto", "own", "astra")
_CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LineIntegrals(LinearOperator):
    """Abstract: line integrals, without unit, of attenuation images in 1/mm; complex images part by part.

    rays_per_bin: a detector bin measures the mean over its width (and height), by that many rays side by side; 1 is the
    thin ray through its centre, for comparison with other packages.

    method: "sparse" keeps A and its transpose as sparse matrices, made at the first product; "matrix-free" makes
    the weights anew in every product; "auto" is "sparse" where that takes at most `memory_budget` bytes.
    dtype: float32 or float64, a lower bound: an image of higher precision is projected in its own.
    projector: "own", or "astra" for the ASTRA toolbox (an extra) where it can do the scan; "auto" is "own".

    A subclass gives `_forward` and `_transpose`, which take (n, *image) and (n, *measurement of thin rays).
    Raises ConfigError for an unknown method, projector or precision, and no rays.
    """

    kind = "ct"

    method: str = "auto"
    memory_budget: float = 1e9
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    rays_per_bin: int = 1
    projector: str = "auto"

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field, known in (("method", METHODS), ("projector", PROJECTORS)):
            if (found := getattr(self, field)) not in known:
                raise ConfigError(
                    f"{name}: {field} is {found!r}, expected one of {', '.join(known)}"
                )
        if self.rays_per_bin < 1:
            raise ConfigError(f"{name}: rays_per_bin is {self.rays_per_bin}, expected 1 or more")
        if self.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"{name}: dtype is {self.dtype}, expected torch.float32 or torch.float64"
            )

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy for another device or another precision."""
        target = self._target(target)
        if isinstance(target, torch.dtype):
            return dataclasses.replace(self, dtype=target)
        return dataclasses.replace(self, device=target)

    def stored_bytes(self, images: int = 1) -> int:
        """What the weights take that are stored at the first products with so many images at once, 0 where each product
        makes them anew."""
        return 0

    def unit_scale(self, y: Tensor) -> Scaling:
        """Attenuation of 1500 HU above that of air, so that a CT window fills 0..1, whatever y is."""
        return attenuation_scale()

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _transpose(self, y: Tensor) -> Tensor: ...

    def _each(
        self, kernel: Callable[[Tensor], Tensor], x: Tensor, ndim: int, shape: tuple[int, ...]
    ) -> Tensor:
        """A kernel of (n, ...) on any batch of real or complex arrays of `ndim` dimensions."""
        batch = x.shape[: x.ndim - ndim]
        if x.is_complex():
            parts = self._each(kernel, torch.stack([x.real, x.imag]), ndim, shape)
            return torch.complex(parts[0], parts[1])
        flat = x.reshape(math.prod(batch), *x.shape[x.ndim - ndim :])
        return kernel(flat).view(*batch, *shape)


def attenuation_scale() -> Scaling:
    """The scale of images in 1/mm under which air is 0 and 1500 HU is 1."""
    span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * MU_WATER_PER_MM
    return Scaling(span, "attenuation of the HU window")
