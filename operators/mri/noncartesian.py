"""Multi-coil MRI along any trajectory: y_c = F(S_c x) at the samples, in two or three dimensions.

Called by pipelines, scripts and benchmarks; imports the operator contract and the transforms of this folder.
"""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.linalg.conjugate_gradients import cg
from restore.operators.base import LinearOperator, lasting
from restore.operators.contract import as_stored, check_stored
from restore.operators.mri.density import sample_weights
from restore.operators.mri.nonuniform import nufft, nufft_adjoint
from restore.operators.mri.toeplitz import block_bytes, convolve, toeplitz_spectrum
from restore.operators.mri.trajectories import Trajectory

_BLOCK_BYTES = (
    4 * 2**20
)  # padded coil images held at a time by the normal operator: what caches hold
SENSE_STEPS, SENSE_DAMPING = 10, 1e-3


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NonCartesianMRI(LinearOperator):
    """Multi-coil acquisition along a trajectory: y_c(k) = sum_r maps_c(r) x(r) exp(-2 pi i k r / n) / sqrt(pixels).

    maps: (*slices, coils, *image) complex, usually with sum over coils of |maps|^2 = 1, `image` of two dimensions or
    three as the trajectory, which all slices share; arrays are copied. x: (*batch, *slices, *image) complex; y:
    (*batch, *slices, coils, readouts, samples). A trajectory on the grid of the pixels gives what `MultiCoilMRI`
    does.

    A^H is the adjoint to rounding. A^H A is a convolution by the Toeplitz kernel of the trajectory (`toeplitz`): it
    agrees with A^H after A to the accuracy of the transform, 1e-5 in single precision and 1e-13 in double. `pinv`
    is ten CG-SENSE iterations with damping 1e-3, in which samples count as much as the room in k-space that they have
    (Pruessmann et al., MRM 46:638, 2001; `density`). Raises ShapeError and ConfigError (samples outside the band of
    the image; no finufft).
    """

    kind = "mri"

    maps: Tensor
    trajectory: Trajectory

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", as_stored("NonCartesianMRI", "maps", self.maps))
        if not isinstance(self.trajectory, Trajectory):
            raise ConfigError(
                f"NonCartesianMRI: trajectory is a {type(self.trajectory).__name__}, expected Trajectory(points)"
            )
        ndim = self.trajectory.ndim
        if self.maps.ndim < ndim + 1 or not self.maps.is_complex():
            found = f"{tuple(self.maps.shape)} {self.maps.dtype}"
            raise ShapeError(
                f"NonCartesianMRI: maps are {found}, expected complex (*slices, coils, *image) with an image of "
                f"{ndim} dimensions, as the trajectory"
            )
        check_stored("NonCartesianMRI", "maps", self.maps)
        self.trajectory.radians(self._image_shape)

    @classmethod
    def single_coil(
        cls, trajectory: Trajectory, shape: tuple[int, ...], *, dtype: torch.dtype = torch.complex64
    ) -> NonCartesianMRI:
        """One coil of uniform sensitivity for images of `shape` (*slices, *image). Raises ShapeError, ConfigError."""
        lead = len(shape) - trajectory.ndim
        if lead < 0:
            raise ShapeError(
                f"NonCartesianMRI.single_coil: shape is {tuple(shape)}, expected (*slices, *image)"
            )
        return cls(torch.ones((*shape[:lead], 1, *shape[lead:]), dtype=dtype), trajectory)

    @classmethod
    def example(cls, generator: torch.Generator) -> NonCartesianMRI:
        """A tiny instance for tests: two slices, three coils, one odd axis, samples anywhere."""
        maps = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.complex64)
        maps = maps / torch.linalg.vector_norm(maps, dim=-3, keepdim=True)
        points = torch.rand(7, 6, 2, generator=generator, dtype=torch.float64) - 0.5
        return cls(maps, Trajectory(points.numpy() * np.array([6, 5])))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*slices, *image)."""
        return (*self.maps.shape[: self.slice_ndim], *self._image_shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*slices, coils, readouts, samples)."""
        return (*self.maps.shape[: self.slice_ndim + 1], *self.trajectory.shape)

    @property
    def slice_ndim(self) -> int:
        """Number of slice dimensions."""
        return self.maps.ndim - 1 - self.trajectory.ndim

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    @property
    def _image_shape(self) -> tuple[int, ...]:
        return tuple(self.maps.shape[self.maps.ndim - self.trajectory.ndim :])

    @property
    def _coils(self) -> int:
        """The axis of coils, counted from the last of an image."""
        return -1 - self.trajectory.ndim

    def gridded(self, y: Tensor) -> Tensor:
        """A^H W y, W the room that each sample has in k-space: the image at its own intensities. Raises
        ShapeError."""
        return self.adjoint(self._measured(y) * self._weights)

    def _apply(self, x: Tensor) -> Tensor:
        return nufft(self.maps * x.unsqueeze(self._coils), self.trajectory, self.trajectory.ndim)

    def _adjoint(self, y: Tensor) -> Tensor:
        coils = nufft_adjoint(y, self.trajectory, self._image_shape)
        return (coils * self.maps.conj()).sum(dim=self._coils)

    def _normal(self, x: Tensor) -> Tensor:
        return self._convolved(x, self._spectrum)

    def _pinv(self, y: Tensor) -> Tensor:
        right = self._adjoint(y * self._weights)
        spectrum = self._weighted_spectrum
        enough = (
            4 * torch.finfo(right.dtype).eps
        )  # a residual below it is rounding of the right side

        def system(x: Tensor) -> Tensor:
            return torch.add(self._convolved(x, spectrum), x, alpha=SENSE_DAMPING)

        return cg(system, right, iters=SENSE_STEPS, tol=enough, item_ndim=self.item_ndim).x

    @lasting
    def _weights(self) -> Tensor:
        weights = sample_weights(self.trajectory, self._image_shape)
        return torch.from_numpy(weights).to(self.maps.device, self.dtype)

    @lasting
    def _spectrum(self) -> Tensor:
        found = toeplitz_spectrum(self.trajectory, self._image_shape)
        return found.to(self.maps.device, self.dtype)

    @lasting
    def _weighted_spectrum(self) -> Tensor:
        weights = sample_weights(self.trajectory, self._image_shape)
        found = toeplitz_spectrum(self.trajectory, self._image_shape, weights)
        return found.to(self.maps.device, self.dtype)

    def _convolved(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """sum over coils of conj(S) F^H W F S x, a few coil images at a time."""
        ndim, lead = self.trajectory.ndim, self.slice_ndim
        maps = self.maps.flatten(0, lead - 1) if lead else self.maps.unsqueeze(0)
        out = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, maps.dtype), device=x.device)
        items = x.reshape(-1, len(maps), *x.shape[x.ndim - ndim :])
        held = spectrum.numel() * out.element_size()
        step = max(1, block_bytes(x) // held)
        for item, answers in zip(items, out.view(items.shape), strict=True):
            for one, its_maps, answer in zip(item, maps, answers, strict=True):
                answer.zero_()
                for part in its_maps.split(step):
                    seen = convolve(part * one, spectrum)
                    # conj(S) z as conj(S conj(z)): conjugating fresh data in place is cheaper than the maps.
                    seen = seen.conj_physical_().mul_(part)
                    answer += seen.sum(dim=0) if len(part) > 1 else seen[0]
        return out.conj_physical_()
