"""inversebench-mri: multi-coil MRI as InverseBench measures and scores it, slice by slice.

Zheng and others, "InverseBench: benchmarking plug-and-play diffusion priors for inverse problems in physical sciences"
(arXiv:2503.11043). Slices are brought to 320 x 320 samples, the target is the coil-combined image of the full k-space
(MVUE) divided by the 0.99 quantile of its magnitude, one random mask of a fixed number of columns serves all slices.
Maps are by our ESPIRiT of the full centre, not by BART, so figures come near published ones without being comparable
in the last digit; none of them compares with those of the fastMRI leaderboard. Called by the runner.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.case import Case, Conditions, Figures, ScanCase
from restore.bench.fastmri import FastMRIFolder, measured_columns, read_facts
from restore.bench.maps_cache import cache_key, cached_maps, discard, maps_path, slice_maps
from restore.bench.protocol import Setting
from restore.bench.store import place_of
from restore.datasets.content_hash import sha256_of
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.fastmri_files.fastmri import read_slices
from restore.datasets.mri.oversampling import remove_readout_oversampling
from restore.datasets.mri.pattern.sampling import Mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.metrics import SSIM_GAUSSIAN_VARIANT, nmse, psnr, ssim_gaussian
from restore.operators.mri.fourier import fft2c, ifft2c

RULES = 1
"""Counts up when figures come out otherwise for the same files, settings and methods."""

MEASUREMENTS = ("raw", "simulated")
CALIBRATION = 24
QUANTILE = 0.99
FEWEST = 12
"""Slices below which a volume is taken whole: leaving out ten of them would leave next to nothing."""

TARGET = f"MVUE magnitude of the full k-space over its {QUANTILE} quantile, slice by slice"
RANGE_RULE = "maximum of each target slice (the mean of them is given)"


def inversebench_mask(width: int, acceleration: float, seed: int = 0) -> Mask:
    """The random mask of InverseBench, bool (W,): floor(W / R) columns, 8 % of W (R <= 6) or 4 % of them in the centre.

    seed: of numpy's legacy generator, which draws the same columns as the published code does. Raises ConfigError.
    """
    if not (np.isfinite(acceleration) and acceleration > 1):
        raise ConfigError(f"acceleration must be above 1, got {acceleration}")
    low = int((0.08 if acceleration <= 6 else 0.04) * width)
    total = int(width / acceleration)
    if not 0 < low <= total:
        raise ConfigError(
            f"{width} columns at acceleration {acceleration:g}: {low} in the centre and {total} in all, expected at "
            "least one in the centre"
        )
    mask = np.zeros(width, bool)
    mask[(width - low) // 2 : (width + low) // 2] = True
    outer = np.flatnonzero(~mask)
    drawn = np.random.RandomState(seed).choice(outer, total - low, replace=False)
    mask[drawn] = True
    return mask


@dataclasses.dataclass(frozen=True)
class InverseBenchMRI(FastMRIFolder):
    """Slice-wise figures against the MVUE image.

    measurements: "raw" is the measured k-space under the mask; "simulated" is made of the target itself without noise.
    size: samples along both axes, fewer where k-space is smaller. slice_range: slices left out at both ends.
    Files that are undersampled already do not take part; single-coil ones are refused.
    """

    name: ClassVar[str] = "inversebench-mri"
    average_over: ClassVar[str] = "slices"

    measurements: tuple[str, ...] = MEASUREMENTS
    coils: str = dataclasses.field(default="multicoil", kw_only=True)
    size: int = 320
    slice_range: tuple[int, int] = (5, -5)

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [m for m in self.measurements if m not in MEASUREMENTS]
        if wrong or not self.measurements:
            raise ConfigError(
                f"measurements are {' and '.join(MEASUREMENTS)}, got {self.measurements}"
            )
        first, last = self.slice_range
        if self.size < 2 or self.size % 2 or first < 0 or last >= 0:
            raise ConfigError(
                f"size is an even number and slice_range (first >= 0, last < 0), got {self.size} and {self.slice_range}"
            )

    def settings(self) -> tuple[Setting, ...]:
        """Acceleration and kind of measurement: "4x-raw", "4x-simulated", ..."""
        return tuple(
            Setting(f"{r}x-{m}", {"acceleration": r, "measurement": m})
            for r in self.accelerations
            for m in self.measurements
        )

    def describe(self) -> dict[str, Any]:
        """Size, slices and the version of these rules."""
        return {"size": self.size, "slice_range": list(self.slice_range), "rules": RULES}

    def open(self, volume: str, setting: Setting, run: Path) -> Case | None:
        """The resized, scaled, undersampled volume. Makes all its coil maps, if they are not cached: the target needs
        them."""
        path = self.path(volume)
        facts = read_facts(path)
        if facts.single_coil:
            raise InputError(
                path, "holds a single coil", f"{self.name} is for multi-coil k-space; use fastmri-volume"
            )  # fmt: skip
        if facts.own_mask:
            return None
        source = read_slices(path)
        measured = measured_columns(source)
        which = self._slices(source)
        full = resized(source, which, min(self.size, *source.shape[-2:]) // 2 * 2)
        maps = self._maps(full, which, maps_path(run, volume))
        combined = np.stack([_mvue(full.kspace[i], maps[i]) for i in range(full.n_slices)])
        scale = np.quantile(np.abs(combined), QUANTILE, axis=(1, 2)).astype(np.float32)
        if not scale.min() > 0:
            raise InputError(path, f"slice {which[int(scale.argmin())]} holds no signal")
        combined /= scale[:, None, None]
        acceleration, kind = setting.values["acceleration"], setting.values["measurement"]
        mask = inversebench_mask(full.shape[-1], acceleration)
        simulated = kind == "simulated"
        measure = _simulated(combined, maps, mask) if simulated else _raw(full.kspace, mask)
        std = None if simulated else full.noise_std
        scan = dataclasses.replace(
            full, kspace=LazyStack(full.shape, measure), mask=mask, maps=maps, noise_std=std
        )
        reference = np.abs(combined)
        rule = (
            "none: simulated without"
            if simulated
            else f"{facts.noise_rule(std)}, in the units of the file"
        )
        conditions = Conditions(
            target=TARGET, mask=f"InverseBench random, {int(mask.sum())} of {mask.size} columns", mask_seed="0",
            noise_std=std, noise_rule=rule, details=self._details(source, full, setting, mask, measured),
        )  # fmt: skip
        return ScanCase(
            scan=scan, conditions=conditions, place=place_of(scan), reference=reference, maps="file",
            noise_std=0.0 if simulated else None, divisor=None if simulated else scale,
            scoring=lambda image: slice_figures(image, reference, scan.slice_indices),
        )  # fmt: skip

    def close(self, volume: str, setting: Setting, run: Path) -> None:
        """Remove the maps, which all settings share, after the last of these."""
        if not self.keep_maps and setting.name == self.settings()[-1].name:
            discard(maps_path(run, volume))

    def _slices(self, source: MRIScan) -> range:
        everything = range(source.n_slices)
        if source.n_slices < FEWEST:
            return everything
        return everything[slice(*self.slice_range)] or everything

    def _maps(self, full: MRIScan, which: range, path: Path) -> LazyStack:
        key = cache_key(
            content=sha256_of(full.path), shape=full.shape, slices=list(which), calib=CALIBRATION
        )
        return cached_maps(path, full.shape, key, lambda i: slice_maps(full.kspace[i], CALIBRATION))

    def _details(
        self, source: MRIScan, full: MRIScan, setting: Setting, mask: Mask, measured: Mask
    ) -> dict[str, Any]:
        """What else a figure depends on, in plain values."""
        side = full.shape[-1]
        acceleration = setting.values["acceleration"]
        return {
            "acceleration": acceleration, "acceleration_measured": round(mask.size / int(mask.sum()), 4),
            "center_fraction": 0.08 if acceleration <= 6 else 0.04, "measurement": setting.values["measurement"],
            "size": side, "size_of_the_protocol": self.size, "coils": full.shape[1],
            "kspace_shape": list(source.shape[-2:]), "split": self.split,
            "slices_left_out": source.n_slices - full.n_slices, "slices_of_the_volume": source.n_slices,
            "padded_columns_in_the_mask": int((mask & ~center_crop(measured[None], (1, side))[0]).sum()),
            "maps": f"ESPIRiT of the full k-space, centre {CALIBRATION} x {CALIBRATION}, not cropped",
        }  # fmt: skip


def resized(source: MRIScan, which: range, side: int) -> MRIScan:
    """Slices of a fully sampled scan as k-space of side x side: the middle columns of k-space (a coarser image of the
    same width) and the middle rows of the image (a shorter field of view). Neither maps nor reference are left."""
    height, width = source.shape[-2:]

    def load(index: int) -> NDArray[Any]:
        middle = center_crop(source.kspace[which[index]], (height, side))
        return remove_readout_oversampling(middle, side).astype(np.complex64, copy=False)

    affine = source.affine
    if affine is not None:
        # From indices (column, row, slice) here to those of the image that `source.affine` places.
        rows, columns = source.recon_shape
        step = width / side
        left = width // 2 - side // 2 * step - (width - columns) // 2
        top = (height - side) // 2 - (height - rows) // 2
        index = np.diag([step, 1.0, float(which.step), 1.0])
        index[:3, 3] = left, top, which.start
        affine = affine @ index
    return dataclasses.replace(
        source, kspace=LazyStack((len(which), source.shape[1], side, side), load),
        mask=np.ones(side, bool), maps=None, reference=None, recon_shape=(side, side), affine=affine,
        slice_indices=tuple(source.slice_indices[i] for i in which),
    )  # fmt: skip


def slice_figures(image: NDArray[Any], reference: NDArray[Any], slices: tuple[int, ...]) -> Figures:
    """Means over slices of PSNR, SSIM and NMSE, each with the maximum of the target slice as range.

    image, reference: (slices, H, W) magnitudes; the image is clipped to 0 ... that maximum. Raises ShapeError,
    ConfigError.
    """
    tops = [float(target.max()) for target in reference]
    x = [np.clip(a, 0, top) for a, top in zip(image, tops, strict=True)]
    each = list(zip(x, reference, tops, strict=True))
    per_slice = {
        "slice": [float(i) for i in slices],
        "psnr": [psnr(a, b, data_range=top) for a, b, top in each],
        "ssim": [ssim_gaussian(a, b, data_range=top) for a, b, top in each],
        "nmse": [nmse(a, b) for a, b, _ in each],
        "data_range": tops,
    }
    mean = {name: float(np.mean(values)) for name, values in per_slice.items()}
    return Figures(
        psnr=mean["psnr"], ssim=mean["ssim"], nmse=mean["nmse"], data_range=mean["data_range"],
        data_range_rule=RANGE_RULE, ssim_variant=SSIM_GAUSSIAN_VARIANT, per_slice=per_slice,
    )  # fmt: skip


def _mvue(kspace: NDArray[Any], maps: NDArray[Any]) -> NDArray[np.complex64]:
    """The minimum-variance combination of the coils, complex (H, W)."""
    images = ifft2c(torch.from_numpy(kspace)).numpy()
    weight = np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    combined: NDArray[np.complex64] = np.sum(maps.conj() * images, axis=0) / weight
    return combined.astype(np.complex64, copy=False)


def _raw(kspace: LazyStack, mask: Mask) -> Any:
    def measure(index: int) -> NDArray[Any]:
        return np.where(mask, kspace[index], np.complex64(0)).astype(np.complex64)

    return measure


def _simulated(combined: NDArray[Any], maps: LazyStack, mask: Mask) -> Any:
    def measure(index: int) -> NDArray[Any]:
        spectrum = fft2c(torch.from_numpy(maps[index] * combined[index])).numpy()
        return np.where(mask, spectrum, np.complex64(0)).astype(np.complex64)

    return measure
