"""Cartesian multi-coil k-space as a scan, and how problems are made of it.

Made by the readers and simulators of k-space; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem or an image is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.noise_estimation import kspace_noise_std
from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MRIScan(Scan):
    """Cartesian multi-coil k-space of some slices: y = mask F(S x), centred orthonormal F.

    kspace: complex64 (slices, coils, H, W), zero outside the mask; the last axis is the phase-encode axis. mask: bool
    (W,) or (H, W), the same for all slices. maps: coil sensitivities complex64 (slices, coils, H, W) with
    sum |S|^2 = 1, or None (then calibrate). recon_shape: (rows, columns) of the image, the middle of (H, W).
    noise_std: per real channel. The other fields are those of every `Scan`.
    """

    kind = "mri"
    modality: ClassVar[str] = "MR"
    holds: ClassVar[str] = "k-space"
    takes: ClassVar[tuple[str, ...]] = ("maps", "remove_phase", "noise_std")
    first_look: ClassVar[str] = "zerofilled"

    kspace: LazyStack
    mask: NDArray[np.bool_]
    recon_shape: tuple[int, int]
    maps: LazyStack | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, H, W)."""
        slices, coils, height, width = self.kspace.shape
        return slices, coils, height, width

    @property
    def image_shape(self) -> tuple[int, int]:
        """`recon_shape`."""
        return self.recon_shape

    @property
    def abilities(self) -> None:
        """Not known before the maps are: a single coil of even sensitivity can do more."""
        return

    @property
    def values_per_slice(self) -> int:
        """Real and imaginary part of H x W pixels."""
        return 2 * self.shape[2] * self.shape[3]

    @property
    def units(self) -> str:
        """Those of the source."""
        return str(self.source.get("units", ""))

    @property
    def sampling(self) -> str:
        """The kind of mask and how much it keeps."""
        pattern = str(self.settings.get("mask", "as measured"))
        return f"{pattern}, {np.count_nonzero(self.mask)} of {self.mask.size} samples"

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference, else the root sum of squares over the coils, (H, W)."""
        if self.reference is not None:
            return np.asarray(self.reference[index])
        import torch

        from restore.operators.mri.fourier import ifft2c

        coils = ifft2c(torch.from_numpy(self.kspace[index]))
        combined: NDArray[np.float32] = coils.abs().square().sum(0).sqrt().numpy()
        return combined

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """Magnitudes of (..., H, W), cut to `recon_shape`: that removes the oversampling."""
        magnitudes: NDArray[Any] = samples.abs().float().cpu().numpy()
        return center_crop(magnitudes, self.recon_shape)

    def _setup(self, options: SetupOptions) -> MRISetup:
        """Noise level (given, stored or estimated) and one intensity scale: that of the brightest slice."""
        from restore.datasets.mri.calibration import (
            PEAK_QUANTILE,
            calibration_size,
            low_resolution_peak,
        )
        from restore.noise import Gaussian
        from restore.scaling import Scaling

        if options.maps == "file" and self.maps is None:
            raise ConfigError(f"{self.path}: holds no 'sensitivity_maps'; use --maps espirit")
        level = self._noise_level() if options.noise_std is None else options.noise_std
        calibration = calibration_size(self.mask, self.shape[-2:])
        peak = max(low_resolution_peak(self.kspace[i], calibration) for i in range(self.n_slices))
        if peak <= 0:
            raise InputError(self.path, "k-space is zero everywhere", "check the file, or its mask")
        maps = self.maps if options.maps != "espirit" else None
        return MRISetup(
            scaling=Scaling(peak, f"{PEAK_QUANTILE} quantile of the calibration image"),
            noise=Gaussian(level) if level else None,
            record={"maps": "espirit" if maps is None else "file", "noise_std": level},
            scan=self, maps=maps, calibration=calibration, remove_phase=options.remove_phase,
        )  # fmt: skip

    def _noise_level(self) -> float | None:
        """The stored level, else the median of those that the slices tell."""
        if self.noise_std:
            return self.noise_std
        levels = (kspace_noise_std(self.kspace[i], self.mask) for i in range(self.n_slices))
        found = [level for level in levels if level]
        return float(np.median(found)) if found else None


def unit_maps(shape: tuple[int, ...]) -> LazyStack:
    """The sensitivity of a single coil: one everywhere. shape: (slices, 1, H, W)."""
    ones = np.ones(shape[1:], np.complex64)
    return LazyStack(tuple(shape), lambda index: ones)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MRISetup(Setup):
    """How problems are made of k-space.

    maps: of the scan, None to estimate them by ESPIRiT. calibration: rows and columns of the fully sampled centre.
    remove_phase: put the low-resolution phase into the maps, so that the image left to reconstruct is nearly real and
    non-negative.
    """

    scan: MRIScan
    maps: LazyStack | None
    calibration: tuple[int, int]
    remove_phase: bool

    def problem(self, which: range, device: torch.device) -> Problem:
        """k-space, maps and noise of the slices `which`."""
        import torch

        from restore.operators.mri.coil_maps import espirit, fold_phase, image_phase
        from restore.operators.mri.multicoil import MultiCoilMRI
        from restore.problem import Problem

        kspace = torch.from_numpy(self.scan.kspace[which.start : which.stop]).to(device)
        if self.maps is None:
            maps, _ = espirit(kspace, self.calibration)
        else:
            maps = torch.from_numpy(self.maps[which.start : which.stop]).to(device)
        if self.remove_phase:
            maps = fold_phase(maps, image_phase(kspace, maps, self.calibration))
        operator = MultiCoilMRI(maps, torch.from_numpy(self.scan.mask).to(device))
        return Problem(kspace, operator, self.noise, self.scaling, self.scan.ids(which))
