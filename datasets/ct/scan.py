"""Parallel-beam line integrals as a scan, and how problems are made of them.

Made by the readers and simulators of sinograms; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.noise_estimation import sinogram_noise_std
from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.operators.ct.geometry import ParallelBeam, mu_to_hu

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.noise import Noise
    from restore.operators.ct.parallel_beam import ParallelBeamCT
    from restore.problem import Problem

RAYS_PER_BIN = 2
"""A detector bin has a width: model it (benchmarks/RESULTS.md)."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CTScan(Scan):
    """Parallel-beam line integrals of some slices.

    sinogram: float32 (slices, views, detectors), -log(counts / photons), dimensionless. geometry: the same for all
    slices, lengths in mm. photons: unattenuated counts per ray, or None where unknown. mu_water: 1/mm, between
    attenuation and HU. noise_std: of one air ray. The other fields are those of every `Scan`.
    """

    kind = "ct"
    modality: ClassVar[str] = "CT"
    holds: ClassVar[str] = "a sinogram"
    takes: ClassVar[tuple[str, ...]] = ("noise_std", "projector")
    first_look: ClassVar[str] = "fbp"

    sinogram: LazyStack
    geometry: ParallelBeam
    mu_water: float
    photons: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, views, detectors)."""
        slices, views, detectors = self.sinogram.shape
        return slices, views, detectors

    @property
    def image_shape(self) -> tuple[int, int]:
        """That of the geometry's grid."""
        return self.geometry.shape

    @property
    def abilities(self) -> frozenset[str]:
        """Those of a projector of this geometry."""
        from restore.operators.ct.parallel_beam import ParallelBeamCT

        return ParallelBeamCT(self.geometry).abilities

    @property
    def values_per_slice(self) -> int:
        """Pixels of the grid."""
        rows, columns = self.geometry.shape
        return rows * columns

    @property
    def units(self) -> str:
        """Hounsfield units."""
        return "HU"

    @property
    def sampling(self) -> str:
        """The number of views."""
        return f"{self.shape[1]} views"

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference in HU; line integrals are no image. Raises InputError."""
        if self.reference is None:
            raise InputError(
                self.path, "holds a sinogram without reference images", "reconstruct it first"
            )
        return np.asarray(self.reference[index])

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """HU of attenuation in 1/mm."""
        hu: NDArray[np.float32] = mu_to_hu(samples, self.mu_water).float().cpu().numpy()
        return hu

    def _setup(self, options: SetupOptions) -> CTSetup:
        """The noise model, and the attenuation of the HU window as intensity scale.

        Raises ConfigError where ASTRA is asked for and cannot project this scan.
        """
        from restore.operators.ct.parallel_beam import ParallelBeamCT
        from restore.scaling import CT_WINDOW_HU, Scaling

        operator = ParallelBeamCT(
            self.geometry, rays_per_bin=RAYS_PER_BIN, projector=options.projector
        )
        noise, level = self._noise(options.noise_std)
        span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * self.mu_water
        return CTSetup(
            scaling=Scaling(span, "attenuation of the HU window"),
            noise=noise, record={"noise_std": level, "projector": options.projector}, scan=self,
            operator=operator,
        )  # fmt: skip

    def _noise(self, given: float | None) -> tuple[Noise | None, float | None]:
        """A given level (0: none), else Poisson weights where the photon count is known, else one level for all.

        The number is the standard deviation of an air ray.
        """
        from restore.noise import Gaussian, PostLogPoisson

        if given is None and self.photons:
            return PostLogPoisson(self.photons), self.photons**-0.5
        level = self._noise_level() if given is None else given
        return (Gaussian(level) if level else None), level

    def _noise_level(self) -> float | None:
        """The stored level, else the median of those that the slices tell."""
        if self.noise_std:
            return self.noise_std
        levels = (sinogram_noise_std(self.sinogram[i]) for i in range(self.n_slices))
        found = [level for level in levels if level]
        return float(np.median(found)) if found else None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CTSetup(Setup):
    """How problems are made of a sinogram."""

    scan: CTScan
    operator: ParallelBeamCT

    def problem(self, which: range, device: torch.device) -> Problem:
        """Sinogram, projector and noise of the slices `which`."""
        import torch

        from restore.problem import Problem

        y = torch.from_numpy(self.scan.sinogram[which.start : which.stop]).to(device)
        if device not in self._operators:
            self._operators[device] = self.operator.to(device)
        return Problem(y, self._operators[device], self.noise, self.scaling, self.scan.ids(which))

    @cached_property
    def _operators(self) -> dict[torch.device, ParallelBeamCT]:
        """One a device for all problems: its matrices go with it."""
        return {}
