"""Multi-coil k-space that is no Cartesian grid of slices: along a trajectory, or of a volume encoded along three
axes.

Made by the readers and simulators of such scans; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem or an image is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median
from restore.datasets.mri.cropping import center_crop
from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.datasets.mri.channels import Whitening
    from restore.operators.base import LinearOperator
    from restore.operators.mri.coil_maps import Region
    from restore.problem import Problem
    from restore.scaling import Scaling

OUTERMOST = 0.95
"""Of the largest distance from the centre of k-space: samples beyond show the noise."""

LEAST_SAMPLES = 32
"""There, below which a level would be a guess."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EncodedScan(Scan):
    """Abstract: y = A x + n for slices that share one encoding, or for one volume whose slices do not come apart.

    kspace: complex64 (items, coils, *samples), an item being a slice or the volume. matrix: the pixels of an item,
    (H, W) or (D, H, W). maps: complex64 (items, coils, *matrix) with sum |S|^2 = 1, or None (then calibrate).
    recon_shape: (rows, columns) of the image, the middle of (H, W). noise_scan: samples without an object (coils,
    n), or None. noise_std: per real channel. The other fields are those of every `Scan`.
    """

    kind = "mri"
    modality: ClassVar[str] = "MR"
    holds: ClassVar[str] = "k-space"
    takes: ClassVar[tuple[str, ...]] = ("maps", "remove_phase", "noise_std")
    first_look: ClassVar[str] = "zerofilled"
    suspects: ClassVar[str] = (
        "a trajectory in other units or axes, or that the gradients did not follow, coil maps that are not this "
        "scan's, motion between the readouts, frequencies other than the scanner's, or a noise level that is too "
        "small"
    )

    kspace: LazyStack
    matrix: tuple[int, ...]
    recon_shape: tuple[int, int]
    maps: LazyStack | None = None
    noise_scan: NDArray[np.complex128] | None = None

    @abstractmethod
    def operator(self, maps: Tensor) -> LinearOperator:
        """The encoding of slices or of the volume with these maps (*slices, coils, *matrix)."""

    @abstractmethod
    def centre(self, kspace: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
        """The middle of k-space (coils, *samples) of an item on the grid, (coils, *matrix), and where it lies.

        Raises ConfigError where there is none.
        """

    @abstractmethod
    def radius(self) -> NDArray[np.float64]:
        """The distance of each sample from the centre of k-space, over that of the edge; NaN where nothing was
        measured."""

    @property
    def whole(self) -> bool:
        """Whether the slices are one volume."""
        return len(self.matrix) == 3

    @property
    def n_slices(self) -> int:
        """Of the images."""
        return self.matrix[0] if self.whole else self.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """(items, coils, *samples)."""
        return self.kspace.shape

    @property
    def image_shape(self) -> tuple[int, int]:
        """`recon_shape`."""
        return self.recon_shape

    @property
    def abilities(self) -> frozenset[str]:
        """Those of its operators."""
        return frozenset({"linear"})

    @property
    def values_per_slice(self) -> int:
        """Real and imaginary part of H x W pixels."""
        return 2 * self.matrix[-2] * self.matrix[-1]

    @property
    def direct_explains(self) -> bool:
        """False: gridding does not fit what it grids."""
        return False

    @property
    def units(self) -> str:
        """Those of the source."""
        return str(self.source.get("units", ""))

    def ids(self, which: range) -> tuple[str, ...]:
        """Names of slices, or that of the volume."""
        return ("volume",) if self.whole else super().ids(which)

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference, else the root sum of squares of the coils' images by the operator's inverse, (H, W)."""
        if self.reference is not None:
            return np.asarray(self.reference[index])
        import torch

        kspace = torch.from_numpy(self.kspace[0 if self.whole else index]).unsqueeze(1)
        alone = self.operator(torch.ones(1, *self.matrix, dtype=kspace.dtype))
        combined = alone.pinv(kspace).abs().square().sum(0).sqrt().numpy()
        return center_crop(combined[index] if self.whole else combined, self.recon_shape)

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """Magnitudes of (..., H, W), cut to `recon_shape`."""
        magnitudes: NDArray[Any] = samples.abs().float().cpu().numpy()
        return center_crop(magnitudes, self.recon_shape)

    def measured_noise(self) -> float | None:
        """The level of the outermost samples, signal there included; None where they are too few."""
        radius = self.radius()
        far = radius >= OUTERMOST * np.nanmax(radius)
        samples = self.kspace[len(self.kspace) // 2][:, far]
        if samples.shape[1] < LEAST_SAMPLES:
            return None
        parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
        level = float(np.sqrt(np.mean(std_by_median(parts, axis=1) ** 2)))
        return level if np.isfinite(level) and level > 0 else None

    def _setup(self, options: SetupOptions) -> EncodedSetup:
        """Noise level (given, stored or seen), channels, one intensity scale: that of the brightest slice."""
        from restore.datasets.mri.channels import whitening_by_scan
        from restore.datasets.mri.given_maps import checked_maps
        from restore.noise import noise_model

        maps = self._given_maps(options)
        level, told = options.noise_std, options.noise_std is not None
        if level is None:
            told = self.noise_std is not None
            level = self.noise_std if told else self.measured_noise()
            if not told and level is not None:
                self._tell(f"noise_std {level:.3g} estimated from the outermost samples")
        whitening = None
        if self.noise_scan is not None and self.shape[1] > 1 and level != 0:
            whitening = whitening_by_scan(self.noise_scan, self.notes)
        if whitening is not None and level:
            level = whitening.level_of(level, told)
        if maps is not None:
            maps = checked_maps(maps, self.path, self.notes)
        return EncodedSetup(
            scaling=self._scaling(), noise=noise_model(level),
            record={"maps": "espirit" if maps is None else "file", "noise_std": level},
            scan=self, maps=maps, remove_phase=options.remove_phase, whitening=whitening,
        )  # fmt: skip

    def _check(self, options: SetupOptions) -> None:
        """Whether there are maps or a middle of k-space to estimate them from, in the first item."""
        self._given_maps(options)
        self.hybrid(0)

    def _given_maps(self, options: SetupOptions) -> LazyStack | None:
        """Those of the file, None where they are to be estimated. Raises ConfigError."""
        if options.maps == "file" and self.maps is None:
            raise ConfigError(f"{self.path}: holds no 'sensitivity_maps'; use --maps espirit")
        return None if options.maps == "espirit" else self.maps

    def hybrid(self, item: int) -> tuple[Tensor, Region]:
        """The middle of k-space of an item, slice by slice (slices, coils, H, W), and its rows and columns.

        A volume is transformed along z, weighted so that nothing rings. Raises InputError where there is no middle.
        """
        import torch

        from restore.operators.mri.fourier import ifftc

        try:
            lines, region = self.centre(torch.from_numpy(self.kspace[item]))
        except ConfigError as cause:
            raise InputError(
                self.path, str(cause), "give coil maps in the file ('sensitivity_maps')"
            ) from cause
        if not self.whole:
            return lines.unsqueeze(0), (region[0], region[1])
        depth, part = self.matrix[0], region[0]
        place = torch.arange(depth) - depth // 2
        reach = max(depth // 2 - part.start, part.stop - 1 - depth // 2) + 1
        window = torch.cos(torch.pi / 2 * (place / reach).clamp(-1, 1)) ** 2
        lines = (lines * window[:, None, None]).movedim(1, -1)
        return ifftc(lines, 1).movedim(-1, 0), (region[1], region[2])

    def _scaling(self) -> Scaling:
        """By the images of the middle of k-space. Raises InputError."""
        from restore.datasets.mri.calibration import PEAK_QUANTILE, low_resolution_peak
        from restore.scaling import Scaling

        peaks = []
        for item in range(len(self.kspace)):
            slices, region = self.hybrid(item)
            peaks += [low_resolution_peak(one.numpy(), region) for one in slices]
        peak = max(peaks, default=0.0)
        if peak <= 0:
            raise InputError(self.path, "k-space is zero everywhere", "check the file")
        return Scaling(peak, f"{PEAK_QUANTILE} quantile of the calibration image")

    def _tell(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EncodedSetup(Setup):
    """How problems are made of such k-space.

    maps: of the scan, None to estimate them by ESPIRiT. remove_phase: put the low-resolution phase into the maps,
    so that the image left to reconstruct is nearly real and non-negative. whitening: of the channels, or None.
    """

    scan: EncodedScan
    maps: LazyStack | None
    remove_phase: bool
    whitening: Whitening | None = None

    def problem(self, which: range, device: torch.device) -> Problem:
        """k-space, maps and noise of the slices `which`, all of them where they are one volume. Raises InputError."""
        import torch

        from restore.problem import Problem

        scan = self.scan
        items = range(1) if scan.whole else which
        maps = torch.stack([self._maps(item) for item in items])
        kspace = torch.stack([torch.from_numpy(self._white(scan.kspace[item])) for item in items])
        if scan.whole:
            maps, kspace = maps[0], kspace[0]
        operator = scan.operator(maps.to(device))
        return Problem(kspace.to(device), operator, self.noise, self.scaling, scan.ids(which))

    def _white(self, values: NDArray[Any]) -> NDArray[Any]:
        """(coils, ...) as the whitened channels see it."""
        if self.whitening is None:
            return values
        flat = self.whitening.apply(values.reshape(len(values), 1, -1))
        return flat.reshape(-1, *values.shape[1:])

    def _maps(self, item: int) -> Tensor:
        """(coils, *matrix) of the file or by ESPIRiT, with the image's phase if it is to be removed."""
        import torch

        from restore.operators.mri.coil_maps import espirit, fold_phase, image_phase

        given = None if self.maps is None else torch.from_numpy(self._white(self.maps[item]))
        if given is not None and not self.remove_phase:
            return given
        slices, region = self.scan.hybrid(item)
        seen = slices
        if self.whitening is not None:
            seen = torch.from_numpy(self.whitening.apply(slices.numpy()))
        if given is None:
            maps, _ = espirit(seen, region)
            maps = _aligned(maps, seen, region)
            if self.whitening is not None:
                maps = maps * self.whitening.shading(slices.numpy(), region).unsqueeze(-3)
        else:
            maps = given.movedim(1, 0) if self.scan.whole else given.unsqueeze(0)
        if self.remove_phase:
            maps = fold_phase(maps, image_phase(seen, maps, region))
        return maps.movedim(0, 1).contiguous() if self.scan.whole else maps[0]


def _aligned(maps: Tensor, kspace: Tensor, region: Region) -> Tensor:
    """Maps (slices, coils, H, W) with the phase of one virtual coil for all slices: the principal one of
    the volume.
    """
    import torch

    centre = kspace[..., region[0], region[1]].movedim(1, 0).flatten(1)
    reference = torch.linalg.eigh(centre @ centre.mH).eigenvectors[:, -1]
    along = (maps * reference.conj()[:, None, None]).sum(dim=1, keepdim=True)
    return maps * torch.where(along == 0, torch.ones_like(along), along.conj().sgn())
