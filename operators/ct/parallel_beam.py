"""Parallel-beam computed tomography: line integrals of an attenuation image.

Called by pipelines, benchmarks and tests as a forward model; imports the projection kernels,
filtered backprojection and the operator contract. Its fields hold no tensors: weights are made at the
first product, one set per geometry, precision and device, which operators of that geometry share.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.ct import (
    astra_projection,
    mirrored_matrix,
    projection,
    whole_matrix,
)
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.line_integrals import LineIntegrals


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ParallelBeamCT(LineIntegrals):
    """Joseph's projector of a parallel-beam scan, and its exact transpose.

    Images (*batch, ny, nx) of attenuation in 1/mm become line integrals (*batch, views, n_det)
    without unit; slices of a volume are a batch. Complex images are projected part by part.
    `pinv` is filtered backprojection.

    rays_per_bin, method, dtype as `LineIntegrals`; stored matrices are shared by all operators of this geometry and
    freed with the last of them.

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

    geometry: ParallelBeam

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projector == "astra":
            astra_projection.check_geometry(self.geometry)
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

    @property
    def abilities(self) -> frozenset[str]:
        """With "backprojects" and "subsets"."""
        return super().abilities | {"backprojects", "subsets"}

    def subset(self, which: slice) -> ParallelBeamCT:
        """The scan of some views, in the order of `angles`."""
        fewer = dataclasses.replace(self.geometry, angles=self.geometry.angles[which])
        return dataclasses.replace(self, geometry=fewer)

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """Filtered backprojection, see `fbp`. (*batch, views, n_det) -> (*batch, ny, nx) in 1/mm.

        Raises ConfigError for an unknown filter.
        """
        return fbp(self._measured(y), self.geometry, filter)

    def _apply(self, x: Tensor) -> Tensor:
        if (one := self._whole(x)) is not None:
            return self._each(one.forward, x, 2, self.out_shape)
        lines = self._each(self._forward, x, 2, self._rays.sinogram_shape)
        return (
            lines
            if self.rays_per_bin == 1
            else lines.unflatten(-1, (-1, self.rays_per_bin)).mean(-1)
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        if (one := self._whole(y)) is not None:
            return self._each(one.adjoint, y, 2, self.in_shape)
        if self.rays_per_bin > 1:
            y = (y / self.rays_per_bin).repeat_interleave(self.rays_per_bin, -1)
        return self._each(self._transpose, y, 2, self.in_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        return fbp(y, self.geometry)

    @cached_property
    def _rays(self) -> ParallelBeam:
        """The scan with a detector bin for every ray."""
        return whole_matrix.thin(self.geometry, self.rays_per_bin)

    @property
    def _indexable(self) -> bool:
        return projection.largest_matrix(self._rays) < 2**31

    def stored_bytes(self, images: int = 1) -> int:
        """Of the matrices and their transposes, in this operator's precision."""
        return self._bytes(self.dtype, images) if self._stores(self.dtype, images) else 0

    def _bytes(self, dtype: torch.dtype, images: int = 1) -> int:
        if mirrored_matrix.serves(self.geometry, self.rays_per_bin, self.device):
            return mirrored_matrix.most_bytes(self.geometry, self.rays_per_bin, dtype, images)
        return projection.matrix_bytes(self._rays, dtype)

    def _stores(self, dtype: torch.dtype, images: int = 1) -> bool:
        if self.method != "auto" or self.projector == "astra":
            return self.method == "sparse"
        return self._bytes(dtype, images) <= self.memory_budget and self._indexable

    def _matrices(self, like: Tensor) -> projection.Matrices | None:
        if not self._stores(like.dtype):
            return None
        key = (like.dtype, like.device)
        if key not in self._held:
            self._held[key] = projection.sparse_matrices(self._rays, *key)
        return self._held[key]

    def _whole(self, like: Tensor) -> mirrored_matrix.Matrix | None:
        """One matrix in the precision of a tensor's real numbers, None where blocks or no matrices are quicker."""
        number, images = like.real.dtype, math.prod(like.shape[:-2]) * (1 + like.is_complex())
        key = number, images >= mirrored_matrix.MANY
        if (found := self._held_whole.get(key)) is not None and like.device.type == "cpu":
            return found
        scan = self.geometry, self.rays_per_bin
        if not mirrored_matrix.serves(*scan, like.device) or not self._stores(number, images):
            return None
        self._held_whole[key] = mirrored_matrix.stored(*scan, number, images)
        return self._held_whole[key]

    @cached_property
    def _held(self) -> dict[tuple[torch.dtype, torch.device], projection.Matrices]:
        """Stored matrices that are in use here; they go with the last operator of this geometry."""
        return {}

    @cached_property
    def _held_whole(self) -> dict[tuple[torch.dtype, bool], mirrored_matrix.Matrix]:
        """Likewise, and by whether they are for many images."""
        return {}

    def _forward(self, x: Tensor) -> Tensor:
        if self.projector == "astra":
            return astra_projection.forward(x, self._rays)
        return projection.forward(x, self._rays, self._matrices(x))

    def _transpose(self, y: Tensor) -> Tensor:
        if self.projector == "astra":
            return astra_projection.adjoint(y, self._rays)
        return projection.adjoint(y, self._rays, self._matrices(y))
