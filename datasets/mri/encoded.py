"""Multi-coil k-space that is no Cartesian grid of slices: along a trajectory, or of a volume encoded along three
axes.

Made by the readers and simulators of such scans; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem or an image is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median
from restore.datasets.mri.channel_memory import held_channels
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.encoded_setup import EncodedSetup, whitened
from restore.datasets.mri.receivers.virtual_coils import VirtualCoils
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from restore.datasets.mri.middle import Middle
    from restore.datasets.mri.off_resonance.precession import Precession
    from restore.datasets.mri.receivers.channels import Whitening
    from restore.operators.base import LinearOperator
    from restore.operators.mri.coil_compression import CoilCompression
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.scaling import Scaling

OUTERMOST = 0.95
"""Of the largest distance from the centre of k-space: samples beyond show the noise."""

LEAST_SAMPLES = 32
"""There, below which a level would be a guess."""

INNERMOST = 2**15
"""Samples, those nearest to the centre of k-space, that virtual coils are made of."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EncodedScan(Scan):
    """Abstract: y = A x + n for slices that share one encoding, or for one volume whose slices do not come apart.

    kspace: complex64 (items, coils, *samples), an item being a slice or the volume. matrix: the pixels of an item,
    (H, W) or (D, H, W). maps: complex64 (items, coils, *matrix) with sum |S|^2 = 1, or None (then calibrate).
    recon_shape: (rows, columns) of the image, the middle of (H, W). noise_scan: samples without an object (coils,
    n), or None. noise_std: per real channel. dwell_s, times_s: what the file tells of when samples were taken, between
    those of a readout or of each. precession: by a field map. The other fields are those of every `Scan`.
    """

    kind = "mri"
    modality: ClassVar[str] = "MR"
    holds: ClassVar[str] = "k-space"
    takes: ClassVar[tuple[str, ...]] = (
        "maps",
        "remove_phase",
        "noise_std",
        "coils_virtual",
        "maps_sets",
    )
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
    dwell_s: float | None = None
    times_s: NDArray[np.float64] | None = None
    precession: Precession | None = None

    @abstractmethod
    def operator(self, maps: Tensor) -> LinearOperator:
        """The encoding of slices or of the volume with these maps (*slices, coils, *matrix)."""

    @abstractmethod
    def middle(self, item: int) -> Middle:
        """The fully sampled middle of k-space of an item. Raises ConfigError where there is none."""

    @abstractmethod
    def check_joint(self) -> None:
        """Raise ConfigError where the samples cannot tell image and maps apart."""

    @abstractmethod
    def joint_estimate(self, kspace: Tensor) -> JointEstimate:
        """Image and maps of an item (coils, *samples), estimated together. Raises ConfigError."""

    @abstractmethod
    def radius(self) -> NDArray[np.float64]:
        """The distance of each sample from the centre of k-space, over that of the edge; NaN where nothing was
        measured."""

    @property
    def whole(self) -> bool:
        """Whether the slices are one volume."""
        return len(self.matrix) == 3

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """Samples and maps of the channels; what their transforms take besides."""
        items = 1 if self.whole else slices
        samples, pixels = math.prod(self.shape[2:]), math.prod(self.matrix)
        sizes = items * samples, items * pixels
        kept, passing = held_channels(self.shape[1], *sizes, options, False)
        return kept | ({} if self.precession is None else self.precession.held(slices)), passing

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
        """False: gridding, or zeros for most of a volume, do not fit what they are made of."""
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
        from restore.datasets.mri.files.given_maps import checked_maps
        from restore.noise import noise_model
        from restore.scaling import Scaling

        maps, joint = self._given_maps(options), options.maps == "joint"
        level, told = options.noise_std, options.noise_std is not None
        if level is None:
            told = self.noise_std is not None
            level = self.noise_std if told else self.measured_noise()
            if not told and level is not None:
                self.note(f"noise_std {level:.3g} estimated from the outermost samples")
        whitening = self._whitening(level)
        if whitening is not None and level:
            level = whitening.level_of(level, told)
        if maps is not None:
            maps = checked_maps(maps, self.path, self.notes)
            self._hold_against(maps)
        used = "joint" if joint else "espirit" if maps is None else "file"
        setup = EncodedSetup(
            scaling=Scaling(), noise=noise_model(level), record={"maps": used, "noise_std": level},
            scan=self, maps=maps, remove_phase=options.remove_phase, whitening=whitening,
            virtual=VirtualCoils.parse(options.coils_virtual),
        )  # fmt: skip
        self._note_virtual(setup)
        if joint:
            setup = dataclasses.replace(setup, estimates=self._estimates(setup, level))
        setup = dataclasses.replace(setup, scaling=self._scaling(setup))
        if self.precession is not None:
            self.precession.look(self, setup)
        return setup

    def _hold_against(self, maps: LazyStack) -> None:
        """The maps of the middle slice beside the middle of k-space. Raises InputError."""
        from restore.datasets.mri.files.given_maps import hold_against

        item = len(self.kspace) // 2
        middle = self.seen_middle(item, needed=False)
        if middle is None or self.shape[1] < 2:
            return
        depth = self.matrix[0] // 2
        one = maps[item][:, depth] if self.whole else maps[item]
        seen = middle.plane(depth if self.whole else 0)
        hold_against(one, seen.numpy(), middle.region, self.path, self.notes)

    def _check(self, options: SetupOptions) -> None:
        """Whether there are channels to compress, maps or a middle of k-space to estimate them from, in the first
        item."""
        if self.precession is not None:
            self.precession.check(self.path, options)
        virtual = VirtualCoils.parse(options.coils_virtual)
        if virtual is not None:
            virtual.check(self.path, self.shape[1], self.whole_readout)
        maps = self._given_maps(options)
        if options.maps == "joint":
            self.check_joint()
        else:
            self.seen_middle(0, needed=maps is None)

    def _estimates(self, setup: EncodedSetup, level: float | None) -> tuple[JointEstimate, ...]:
        """Image and maps of every item, estimated together. Raises ConfigError."""
        from restore.datasets.mri.receivers.joint import joint_note

        self.check_joint()
        found = tuple(self.joint_estimate(setup.samples(i)[0]) for i in range(len(self.kspace)))
        self.note(joint_note(found, level, of_volume=self.whole))
        return found

    def _note_virtual(self, setup: EncodedSetup) -> None:
        """Say what the virtual coils leave out of each item. Raises ConfigError for more of them than channels."""
        virtual, whitening = setup.virtual, setup.whitening
        if virtual is None:
            return
        coils = self.shape[1] if whitening is None else len(whitening.matrix)
        virtual.check(self.path, coils, self.whole_readout)
        found = [setup.compression(setup.white(self.kspace[i])) for i in range(len(self.kspace))]
        self.note(virtual.note(coils, [one.dropped for one in found if one is not None]))

    @property
    def whole_readout(self) -> int | None:
        """The axis, from the last, along which every line was measured alike; None where samples are no lines."""
        return None

    def compression(self, kspace: Tensor, virtual: VirtualCoils) -> CoilCompression:
        """Of an item (coils, *samples), whitened, by what lies about the centre of k-space."""
        return virtual.of(kspace.flatten(1)[:, self.innermost], None, None)

    @cached_property
    def innermost(self) -> NDArray[np.intp]:
        """Of the samples of an item, flat, the `INNERMOST` that lie nearest to the centre of k-space."""
        radius = self.radius().reshape(-1)
        if radius.size <= INNERMOST:
            return np.arange(radius.size)
        return np.argpartition(radius, INNERMOST)[:INNERMOST]

    def _whitening(self, level: float | None) -> Whitening | None:
        """Virtual channels of equal noise by the noise scan, or None where nothing is to be done or known.

        level: that of the noise, 0 for none.
        """
        from restore.datasets.mri.receivers.channels import whitening_by_scan

        if self.noise_scan is None or self.shape[1] == 1 or level == 0:
            return None
        return whitening_by_scan(self.noise_scan, self.notes)

    def _given_maps(self, options: SetupOptions) -> LazyStack | None:
        """Those of the file, None where they are to be estimated. Raises ConfigError."""
        if options.maps == "file" and self.maps is None:
            raise ConfigError(f"{self.path}: holds no 'sensitivity_maps'; use --maps espirit")
        if options.maps_sets > 1:
            raise ConfigError(
                f"{self.path}: --maps-sets 2 is for Cartesian slices; use --maps-sets 1"
            )
        return self.maps if options.maps in ("auto", "file") else None

    def seen_middle(self, item: int, needed: bool) -> Middle | None:
        """`middle`, or None where there is none and none is needed: the phase is then left in the image.

        Raises InputError.
        """
        try:
            return self.middle(item)
        except ConfigError as cause:
            if needed:
                raise InputError(
                    self.path,
                    str(cause),
                    "give coil maps in the file ('sensitivity_maps'); --maps joint estimates them together with the "
                    "image",
                ) from cause
        return None

    def map_middle(self, item: int, level: float | None) -> Middle | None:
        """What maps are estimated from: `seen_middle`. level: of the noise. Raises InputError."""
        return self.seen_middle(item, needed=True)

    def _scaling(self, setup: EncodedSetup) -> Scaling:
        """By the images of the middle of k-space, or the maps' image where there is no middle. Raises InputError."""
        import torch

        from restore.datasets.mri.calibration import PEAK_QUANTILE, low_resolution_peak
        from restore.scaling import Scaling

        peaks, maps, whitening = [], setup.maps, setup.whitening
        for item in range(len(self.kspace)):
            middle = setup.middle(item)
            if middle is not None:
                planes = (middle.plane(index) for index in range(len(middle.samples)))
                peaks += [low_resolution_peak(one.numpy(), middle.region) for one in planes]
            elif maps is not None:
                white = [
                    torch.from_numpy(whitened(whitening, v[item])) for v in (maps, self.kspace)
                ]
                peaks.append(self.operator(white[0]).unit_scale(white[1]).scale)
        peak = max(peaks, default=0.0)
        if peak <= 0:
            raise InputError(self.path, "k-space is zero everywhere", "check the file")
        return Scaling(peak, f"{PEAK_QUANTILE} quantile of the calibration image")

    def note(self, text: str) -> None:
        """Add a note that is not there yet."""
        if text not in self.notes:
            self.notes.append(text)
