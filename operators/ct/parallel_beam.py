"""Parallel-beam computed tomography: line integrals of an attenuation image.

Called by pipelines, benchmarks and tests as a forward model; imports the projection kernels,
filtered backprojection and the operator contract. Its fields hold no tensors: weights are made at the
first product, one set per geometry, precision and device, which operators of that geometry share.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.ct import astra_projection, projection
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import MU_WATER_PER_MM, ParallelBeam
from restore.scaling import CT_WINDOW_HU, Scaling

_METHODS = ("auto", "sparse", "matrix-free")
_PROJECTORS = ("auto", "own", "astra")
_CPU = torch.device("cpu")


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ParallelBeamCT(LinearOperator):
    """Joseph's projector of a parallel-beam scan, and its exact transpose.

    Images (*batch, ny, nx) of attenuation in 1/mm become line integrals (*batch, views, n_det)
    without unit; slices of a volume are a batch. Complex images are projected part by part.
    `pinv` is filtered backprojection.

    rays_per_bin: a detector bin measures the mean over its width, by that many rays side by side; 1 is the
    thin ray through its centre, for comparison with other packages.

    method: "sparse" keeps A and its transpose as sparse matrices, made at the first product,
    shared by all operators of this geometry and freed with the last of them; "matrix-free" makes
    the weights anew in every product; "auto" is "sparse" where that takes at most `memory_budget`
    bytes. dtype: float32 or float64, a
    lower bound: an image of higher precision is projected in its own.

    projector: "own", or "astra" for the ASTRA toolbox (an extra; `astra_projection`), which computes in float32
    whatever the precision, one image at a time, and takes square pixels. "auto" is "own" everywhere: on a CPU both are
    Joseph's method, equal to rounding, ours as fast or faster (benchmarks/PERFORMANCE.md); on CUDA only ours has an
    exact transpose; and a result must not depend on what else is installed. `method` is for "own" alone.

    Raises ConfigError for an unknown method, projector or precision, no rays, a matrix too large to store, or a scan
    that ASTRA cannot project.

    >>> scan = ParallelBeam.covering(shape=(64, 64), views=90, pixel_mm=0.8)
    >>> A = ParallelBeamCT(scan)
    >>> sinogram = A(torch.full((64, 64), 0.0195))
    """

    kind = "ct"

    geometry: ParallelBeam
    method: str = "auto"
    memory_budget: float = 1e9
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    rays_per_bin: int = 1
    projector: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ConfigError(
                f"ParallelBeamCT: method is {self.method!r}, expected one of {', '.join(_METHODS)}"
            )
        if self.projector not in _PROJECTORS:
            raise ConfigError(
                f"ParallelBeamCT: projector is {self.projector!r}, expected one of {', '.join(_PROJECTORS)}"
            )
        if self.projector == "astra":
            astra_projection.check_geometry(self.geometry)
        if self.rays_per_bin < 1:
            raise ConfigError(
                f"ParallelBeamCT: rays_per_bin is {self.rays_per_bin}, expected 1 or more"
            )
        if self.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"ParallelBeamCT: dtype is {self.dtype}, expected torch.float32 or torch.float64"
            )
        if self.method == "sparse" and not self._indexable:
            raise ConfigError(
                f"{self}: a matrix of {projection.largest_matrix(self._rays)} entries is beyond "
                "32-bit indices; use method='matrix-free' or 'auto'"
            )

    @classmethod
    def example(cls, generator: torch.Generator) -> ParallelBeamCT:
        """A tiny instance for tests, turned by a random angle."""
        start = 180.0 * float(torch.rand((), generator=generator, device=generator.device))
        return cls(
            ParallelBeam.covering(shape=(9, 12), views=7, pixel_mm=0.5, start_deg=start),
            rays_per_bin=2,
        )

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(ny, nx)."""
        return self.geometry.shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(views, n_det)."""
        return self.geometry.sinogram_shape

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy for another device or another precision."""
        target = self._target(target)
        if isinstance(target, torch.dtype):
            return dataclasses.replace(self, dtype=target)
        return dataclasses.replace(self, device=target)

    @property
    def abilities(self) -> frozenset[str]:
        """With "backprojects"."""
        return super().abilities | {"backprojects"}

    def unit_scale(self, y: Tensor) -> Scaling:
        """Attenuation of 1500 HU above that of air, so that a CT window fills 0..1, whatever y is."""
        return attenuation_scale()

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """Filtered backprojection, see `fbp`. (*batch, views, n_det) -> (*batch, ny, nx) in 1/mm.

        Raises ConfigError for an unknown filter.
        """
        return fbp(self._measured(y), self.geometry, filter)

    def _apply(self, x: Tensor) -> Tensor:
        lines = self._product(self._forward, x, self._rays.sinogram_shape)
        return (
            lines
            if self.rays_per_bin == 1
            else lines.unflatten(-1, (-1, self.rays_per_bin)).mean(-1)
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.rays_per_bin > 1:
            y = (y / self.rays_per_bin).repeat_interleave(self.rays_per_bin, -1)
        return self._product(self._transpose, y, self.in_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        return fbp(y, self.geometry)

    @cached_property
    def _rays(self) -> ParallelBeam:
        """The scan with a detector bin for every ray."""
        g, n = self.geometry, self.rays_per_bin
        if n == 1:
            return g
        return dataclasses.replace(g, n_det=g.n_det * n, det_spacing_mm=g.det_spacing_mm / n)

    @property
    def _indexable(self) -> bool:
        return projection.largest_matrix(self._rays) < 2**31

    def _matrices(self, like: Tensor) -> projection.Matrices | None:
        if self.method == "matrix-free":
            return None
        if self.method == "auto":
            size = projection.matrix_bytes(self._rays, like.dtype)
            if size > self.memory_budget or not self._indexable:
                return None
        key = (like.dtype, like.device)
        if key not in self._held:
            self._held[key] = projection.sparse_matrices(self._rays, *key)
        return self._held[key]

    @cached_property
    def _held(self) -> dict[tuple[torch.dtype, torch.device], projection.Matrices]:
        """Stored matrices that are in use here; they go with the last operator of this geometry."""
        return {}

    def _product(
        self, kernel: Callable[[Tensor], Tensor], x: Tensor, shape: tuple[int, ...]
    ) -> Tensor:
        batch = x.shape[:-2]
        if x.is_complex():
            parts = self._product(kernel, torch.stack([x.real, x.imag]), shape)
            return torch.complex(parts[0], parts[1])
        flat = x.reshape(math.prod(batch), *x.shape[-2:])
        return kernel(flat).view(*batch, *shape)

    def _forward(self, x: Tensor) -> Tensor:
        if self.projector == "astra":
            return astra_projection.forward(x, self._rays)
        return projection.forward(x, self._rays, self._matrices(x))

    def _transpose(self, y: Tensor) -> Tensor:
        if self.projector == "astra":
            return astra_projection.adjoint(y, self._rays)
        return projection.adjoint(y, self._rays, self._matrices(y))


def attenuation_scale() -> Scaling:
    """The scale of images in 1/mm under which air is 0 and 1500 HU is 1."""
    span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * MU_WATER_PER_MM
    return Scaling(span, "attenuation of the HU window")
