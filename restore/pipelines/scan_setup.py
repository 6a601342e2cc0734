"""From measured slices to the Problem of one chunk: coil maps, phase, noise level, operator, intensity scale.

Between the scan files and `restore.solve`; used by `reconstruct`.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from restore.datasets.mri.noise_estimation import kspace_noise_std, sinogram_noise_std
from restore.datasets.scan import CTScan, MRIScan
from restore.errors import ConfigError, InputError
from restore.noise import Gaussian, Noise, PostLogPoisson
from restore.operators.base import LinearOperator
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.coil_maps import calibration_region, espirit, fold_phase, image_phase
from restore.operators.mri.fourier import ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.scaling import Scaling

RAYS_PER_BIN = 2  # a detector bin has a width: model it (benchmarks/RESULTS.md)
MapsSource = Literal["auto", "file", "espirit"]


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Some slices of a scan, ready to solve. ids name the slices by their number in the source."""

    y: Tensor
    operator: LinearOperator
    noise: Noise | None
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class MRISetup:
    """How chunks of an MRI scan are made.

    maps: from the file where it has them, or ESPIRiT from the fully sampled centre. remove_phase: put
    the low-resolution phase into the maps, so that the image left to reconstruct is nearly real and
    non-negative.
    """

    scan: MRIScan
    maps: MapsSource
    remove_phase: bool
    noise_std: float | None
    scaling: Scaling

    def chunk(self, which: range, device: torch.device) -> Chunk:
        """k-space, operator and noise of the slices `which`."""
        kspace = torch.from_numpy(self.scan.kspace[which.start : which.stop]).to(device)
        maps = self._maps(kspace, which)
        if self.remove_phase:
            maps = fold_phase(maps, image_phase(kspace, maps, calibration_size(self.scan)))
        operator = MultiCoilMRI(maps, torch.from_numpy(self.scan.mask).to(device))
        noise = Gaussian(self.noise_std) if self.noise_std else None
        return Chunk(kspace, operator, noise, _ids(self.scan, which))

    @property
    def maps_used(self) -> str:
        """What `maps` came to mean for this scan."""
        return "file" if self.maps != "espirit" and self.scan.maps is not None else "espirit"

    def _maps(self, kspace: Tensor, which: range) -> Tensor:
        if self.maps_used == "file" and self.scan.maps is not None:
            return torch.from_numpy(self.scan.maps[which.start : which.stop]).to(kspace.device)
        return espirit(kspace, calibration_size(self.scan))[0]


@dataclasses.dataclass(frozen=True, eq=False)
class CTSetup:
    """How chunks of a CT scan are made."""

    scan: CTScan
    noise: Noise | None
    scaling: Scaling

    def chunk(self, which: range, device: torch.device) -> Chunk:
        """Sinogram, operator and noise of the slices `which`."""
        y = torch.from_numpy(self.scan.sinogram[which.start : which.stop]).to(device)
        if device not in self._operators:
            operator = ParallelBeamCT(self.scan.geometry, rays_per_bin=RAYS_PER_BIN)
            self._operators[device] = operator.to(device)
        return Chunk(y, self._operators[device], self.noise, _ids(self.scan, which))

    @cached_property
    def _operators(self) -> dict[torch.device, ParallelBeamCT]:
        """One a device for all chunks: its matrices go with it."""
        return {}


def set_up_mri(
    scan: MRIScan, maps: MapsSource, remove_phase: bool, noise_std: float | None
) -> MRISetup:
    """Noise level (given, stored or estimated) and one intensity scale for the whole scan.

    Raises ConfigError where maps are asked from a file without them, InputError for k-space of zeros.
    """
    if maps == "file" and scan.maps is None:
        raise ConfigError(f"{scan.path}: holds no 'sensitivity_maps'; use --maps espirit")
    if noise_std is None:
        noise_std = scan.noise_std or _typical(
            kspace_noise_std(scan.kspace[i], scan.mask) for i in range(scan.n_slices)
        )
    peaks = [_low_resolution_peak(scan, i) for i in range(scan.n_slices)]
    if max(peaks) <= 0:
        raise InputError(scan.path, "k-space is zero everywhere", "check the file, or its mask")
    return MRISetup(
        scan,
        maps,
        remove_phase,
        noise_std,
        Scaling(max(peaks), "0.999 quantile of the calibration image"),
    )


def set_up_ct(scan: CTScan, noise_std: float | None) -> CTSetup:
    """Poisson weights where the photon count is known, else one noise level; the HU window as scale.

    noise_std 0 says that there is no noise.
    """
    from restore.scaling import CT_WINDOW_HU

    noise: Noise | None = None
    if noise_std is not None:
        noise = Gaussian(noise_std) if noise_std else None
    elif scan.photons:
        noise = PostLogPoisson(scan.photons)
    else:
        estimate = scan.noise_std or _typical(
            sinogram_noise_std(scan.sinogram[i]) for i in range(scan.n_slices)
        )
        noise = Gaussian(estimate) if estimate else None
    span = (CT_WINDOW_HU[1] - CT_WINDOW_HU[0]) / 1000 * scan.mu_water
    return CTSetup(scan, noise, Scaling(span, "attenuation of the HU window"))


def calibration_size(scan: MRIScan) -> tuple[int, int]:
    """Rows and columns of the fully sampled centre of k-space. Raises ConfigError where there is none."""
    _, _, height, width = scan.shape
    rows, columns = calibration_region(
        torch.from_numpy(np.broadcast_to(scan.mask, (height, width)).copy())
    )
    return len(range(height)[rows]), len(range(width)[columns])


def _low_resolution_peak(scan: MRIScan, index: int) -> float:
    """Bright level of the image of the calibration region alone: hardly dimmed by the undersampling."""
    kspace = torch.from_numpy(scan.kspace[index])
    rows, columns = calibration_size(scan)
    height, width = kspace.shape[-2:]
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    centre = torch.zeros_like(kspace)
    centre[:, top : top + rows, left : left + columns] = kspace[
        :, top : top + rows, left : left + columns
    ]
    rss = ifft2c(centre).abs().square().sum(0).sqrt()
    return float(torch.quantile(rss.flatten()[:: max(1, rss.numel() // 2**20)], 0.999))


def _typical(values: object) -> float | None:
    found = [v for v in values if v]  # type: ignore[attr-defined]
    return float(np.median(found)) if found else None


def _ids(scan: MRIScan | CTScan, which: range) -> tuple[str, ...]:
    return tuple(f"slice {scan.slice_indices[i]}" for i in which)
