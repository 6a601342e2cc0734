"""Line integrals along the rays of any geometry: fan, cone, helix, parallel rays on a panel, free vectors.

Called by pipelines, benchmarks and tests as a forward model; imports the geometries, their products and the operator
contract. The parallel scan of slices has an operator of its own (`parallel_beam`), whose views share their weights; as
a member of this family it gives the same numbers.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.ct import astra_projection, astra_volumes, ray_matrices, ray_products
from restore.operators.ct.beams import Beam, ConeBeam
from restore.operators.ct.feldkamp import fdk
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.helical import helical_fbp, is_rebinnable
from restore.operators.ct.line_integrals import LineIntegrals
from restore.operators.ct.rays import Layout, layout
from restore.operators.ct.views import Views, check_sees


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class XRayTransform(LineIntegrals):
    """Joseph's projector along the rays of a geometry, and its exact transpose.

    Images (*batch, rows, columns) of a scan in the plane, or volumes (*batch, slices, rows, columns), of attenuation in
    1/mm become line integrals (*batch, views, columns) or (*batch, views, rows, columns) without unit. An item is the
    whole volume: slices mix.

    projector="astra" (an extra, in float32) is for flat fans on square pixels, by the length of rays in pixels, and on
    a CUDA device for volumes of cubic voxels, where its backprojector is not the exact transpose.
    method="sparse" is for scans in the plane; stored matrices are shared by all operators of this scan and freed with
    the last of them. Volumes are always projected without.

    geometry: `FanBeam`, `ConeBeam`, `ParallelBeam3D` or `FreeBeam`. grid: where the voxels lie. Further fields as
    `LineIntegrals`.

    Raises ConfigError for a geometry and a grid of different dimensions, a source inside the volume, views that see
    nothing of it, what ASTRA cannot project, and matrices that cannot be stored.

    >>> scan = ConeBeam(equispaced(60, 360.0), (96, 96), 1.0, 500.0, 1000.0)
    >>> A = XRayTransform(scan, VoxelGrid((48, 48, 48), 0.8))
    >>> projections = A(torch.full((48, 48, 48), 0.0195))
    """

    geometry: Beam
    grid: VoxelGrid

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.geometry.in_plane != self.grid.in_plane:
            wanted = 2 if self.geometry.in_plane else 3
            raise ConfigError(
                f"{self}: a {self.geometry.kind} scan needs a grid of {wanted} dimensions, got {self.grid.shape}"
            )
        if self.projector == "astra":
            self._check_astra()
        check_sees(self.geometry.reduced(), self.grid, str(self))
        if self.method == "sparse":
            self._check_stored()

    @classmethod
    def example(cls, generator: torch.Generator) -> XRayTransform:
        """A tiny cone beam for tests, turned by a random angle, its panel tilted and off the axis."""
        start = 6.0 * float(torch.rand((), generator=generator, device=generator.device))
        scan = ConeBeam(
            tuple(start + 0.7 * k for k in range(9)), (5, 13), (1.4, 0.6), 20.0, 30.0,
            det_offset_mm=(0.2, -0.4), tilt_deg=4.0, slant_deg=-3.0, skew_deg=2.0,
        )  # fmt: skip
        return cls(scan, VoxelGrid((3, 5, 4), (0.9, 0.7, 0.8), (0.1, 0.2, -0.1)))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(rows, columns) or (slices, rows, columns)."""
        return self.grid.shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(views, columns) or (views, rows, columns)."""
        return self.geometry.shape

    @property
    def abilities(self) -> frozenset[str]:
        """ "subsets"; "backprojects" where filtered backprojection is there; "convolves" of volumes.

        Products with a stored matrix of a slice are as quick as FFTs.
        """
        own = {"subsets", *(["backprojects"] if self._analytic else [])}
        return super().abilities | own | (set() if self.geometry.in_plane else {"convolves"})

    def subset(self, which: slice) -> XRayTransform:
        """The scan of some views, in their order."""
        return dataclasses.replace(self, geometry=self.geometry.subset(which))

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """Filtered backprojection, see `fdk` and `helical_fbp`. (*batch, *out_shape) -> (*batch, *in_shape) in 1/mm.

        Raises ConfigError for an unknown filter, and for a geometry without one.
        """
        y = self._measured(y)
        y = y.unsqueeze(-2) if self.geometry.in_plane else y

        def kernel(z: Tensor) -> Tensor:
            if isinstance(self.geometry, ConeBeam) and self.geometry.pitch_mm:
                return helical_fbp(z, self.geometry, self.grid, filter)
            return fdk(z, self.geometry, self.grid, filter)

        return self._each(kernel, y, 3, self.in_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        """Filtered backprojection where there is one, least squares for the others."""
        return self.backproject(y) if self._analytic else super()._pinv(y)

    def _apply(self, x: Tensor) -> Tensor:
        lines = self._each(self._forward, x, len(self.in_shape), self._thin_rays.shape)
        if self.rays_per_bin > 1:
            high, wide = self._rays_of_a_bin
            lines = lines.unflatten(-1, (-1, wide)).mean(-1).unflatten(-2, (-1, high)).mean(-2)
        return lines.squeeze(-2) if self.geometry.in_plane else lines

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y.unsqueeze(-2) if self.geometry.in_plane else y
        if self.rays_per_bin > 1:
            high, wide = self._rays_of_a_bin
            y = (y / (high * wide)).repeat_interleave(wide, -1).repeat_interleave(high, -2)
        return self._each(self._transpose, y, 3, self.in_shape)

    def _forward(self, x: Tensor) -> Tensor:
        if self.projector == "astra":
            if not self.geometry.in_plane:
                return self._astra_volume.forward(x)
            return astra_projection.forward(x, self._astra).unsqueeze(-2)
        if (pair := self._matrices(x)) is not None:
            return pair.forward(x, self._layout)
        return ray_products.forward(x.reshape(len(x), *self.grid.shape3), self._layout)

    def _transpose(self, y: Tensor) -> Tensor:
        if self.projector == "astra":
            if not self.geometry.in_plane:
                return self._astra_volume.adjoint(y)
            return astra_projection.adjoint(y.squeeze(-2), self._astra)
        if (pair := self._matrices(y)) is not None:
            return pair.adjoint(y, self._layout)
        return ray_products.adjoint(y, self._layout, self._axes)

    def _check_astra(self) -> None:
        """Refuse what ASTRA cannot project: of slices all but flat fans, of volumes all without CUDA."""
        if self.geometry.in_plane:
            astra_projection.fan(self.geometry, self.grid, self.rays_per_bin)
        else:
            astra_volumes.check(self.grid)

    def _check_stored(self) -> None:
        """Refuse matrices that there are not. Raises ConfigError."""
        if not self.geometry.in_plane:
            raise ConfigError(
                f"{self}: method 'sparse' stores the matrix of scans in the plane, this one is of a volume; use "
                "method='matrix-free' or 'auto'"
            )
        if self.projector == "astra":
            raise ConfigError(f"{self}: ASTRA stores no matrix; leave method='sparse' or ASTRA out")
        if (entries := ray_matrices.most_entries(self._layout)) >= 2**31:
            raise ConfigError(
                f"{self}: a matrix of {entries} entries is beyond 32-bit indices; use method='matrix-free' or 'auto'"
            )

    def stored_bytes(self, images: int = 1) -> int:
        """Of the matrix and its transpose, in this operator's precision."""
        return ray_matrices.most_bytes(self._layout, self.dtype) if self._stores(self.dtype) else 0

    def _stores(self, dtype: torch.dtype) -> bool:
        if self.projector == "astra" or not self.geometry.in_plane:
            return False
        if self.method != "auto":
            return self.method == "sparse"
        few = ray_matrices.most_entries(self._layout) < 2**31
        return few and ray_matrices.most_bytes(self._layout, dtype) <= self.memory_budget

    def _matrices(self, like: Tensor) -> ray_matrices.Pair | None:
        """Stored matrices in the precision and on the device of a tensor, None where there are to be none."""
        if not self._stores(like.dtype):
            return None
        key = like.dtype, like.device
        if key not in self._held:
            scan = self.geometry, self.grid, self.rays_per_bin
            self._held[key] = ray_matrices.stored(scan, lambda: self._layout, *key)
        return self._held[key]

    @cached_property
    def _analytic(self) -> bool:
        """Whether there is filtered backprojection: a source that goes round in a plane, or a helix that rebins."""
        return self.geometry.straight is not None or is_rebinnable(self.geometry)

    @cached_property
    def _held(self) -> dict[tuple[torch.dtype, torch.device], ray_matrices.Pair]:
        """Stored matrices that are in use here; they go with the last operator of this scan."""
        return {}

    @property
    def _rays_of_a_bin(self) -> tuple[int, int]:
        """(over its height, over its width)."""
        return (1 if self.geometry.in_plane else self.rays_per_bin), self.rays_per_bin

    @cached_property
    def _thin_rays(self) -> Views:
        """The views with a bin for every ray."""
        return self.geometry.reduced().finer(*self._rays_of_a_bin)

    @property
    def _astra(self) -> astra_projection.Fan:
        return astra_projection.fan(self.geometry, self.grid, self.rays_per_bin)

    @cached_property
    def _astra_volume(self) -> astra_volumes.VolumeProjector:
        return astra_volumes.VolumeProjector(self._thin_rays, self.grid)

    @cached_property
    def _layout(self) -> Layout:
        return layout(self._thin_rays, self.grid)

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        return ray_products.driving_axes(self._layout)
