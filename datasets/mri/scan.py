"""Cartesian multi-coil k-space as a scan, made ready for its problems (`kspace_setup`).

Made by the readers and simulators of k-space; the layers above use it by the contract of `restore.datasets.scan`.
torch is imported where a problem or an image is asked for, not before: reading a volume needs none.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.channel_memory import held_channels
from restore.datasets.mri.cropping import center_crop
from restore.datasets.mri.kspace_setup import MRISetup
from restore.datasets.mri.pattern.partial_fourier import check_held_real, note_partial
from restore.datasets.mri.pattern.sampling import slice_mask
from restore.datasets.mri.receivers.noise_estimation import kspace_noise_std, middle_noise_std
from restore.datasets.mri.receivers.reception import Reception
from restore.datasets.mri.receivers.virtual_coils import VirtualCoils, readout_axis
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from restore.datasets.mri.off_resonance.precession import Precession
    from restore.datasets.mri.receivers.channels import Whitening
    from restore.operators.mri.coil_maps import Region
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.scaling import Scaling

TOO_LOUD, TOO_QUIET = 3.0, 30.0
"""Times the level that the corners of k-space show, where signal of small or sharp objects can be ten times
the noise."""

APART = 2.0
"""Loudest over quietest slice from which each has a noise level of its own."""

MOST_SHADE = 12.0
"""Brightest over darkest place of maps of whitened channels in those of the real ones, which solvers can follow. Linked
channels reach 7, one of ten times the gain 10."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MRIScan(Scan):
    """Cartesian multi-coil k-space of some slices: y = mask F(S x), centred orthonormal F.

    kspace: complex64 (slices, coils, H, W), zero outside the mask; the last axis is the phase-encode axis. mask: of
    `sampling.Mask`, for all slices or one a slice. maps: coil sensitivities complex64 (slices, coils, H, W) with
    sum |S|^2 = 1, or None (then calibrate). second_maps: another set, where the field of view cuts the object, or
    None. recon_shape: (rows, columns) of the image, the middle of (H, W).
    noise_std: per real channel; noise_estimated: it stands not in the file. noise_scan: samples without an object
    (coils, n), or None. dwell_s, times_s: what the file tells of when samples were taken, between those of a readout or
    of each. precession: by a field map. The other fields are those of every `Scan`.
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
        "partial_fourier",
    )
    components: ClassVar[bool] = True
    first_look: ClassVar[str] = "zerofilled"
    suspects: ClassVar[str] = (
        "coil maps or a mask that are not this scan's, motion between the lines, a centre of k-space that lies "
        "elsewhere, interference in some samples, a filter laid over k-space, or a noise level that is too small"
    )

    kspace: LazyStack
    mask: NDArray[np.bool_]
    recon_shape: tuple[int, int]
    maps: LazyStack | None = None
    second_maps: LazyStack | None = None
    noise_scan: NDArray[np.complex128] | None = None
    noise_estimated: bool = False
    dwell_s: float | None = None
    times_s: NDArray[np.float64] | None = None
    precession: Precession | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, H, W)."""
        slices, coils, height, width = self.kspace.shape
        return slices, coils, height, width

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """Samples and maps of the coils; what their transforms, and ESPIRiT where maps are estimated, take besides."""
        pixels = math.prod(self.shape[2:]) * slices
        estimated = self._given_maps(options) is None
        kept, passing = held_channels(self.shape[1], pixels, pixels, options, estimated)
        return kept | ({} if self.precession is None else self.precession.held(slices)), passing

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

    @property
    def difficulty(self) -> dict[str, float | str]:
        """Acceleration, what is left out (whole columns, rows or points), whether coils tell places apart, and how many
        lines in the centre of k-space were all measured."""
        from restore.datasets.mri.calibration import centre_lines

        mask = slice_mask(self.mask, 0)
        lines = "columns" if mask.ndim == 1 or bool((mask == mask[:1]).all()) else "points"
        if lines == "points" and bool((mask == mask[:, :1]).all()):
            lines = "rows"
        coils = "one" if self.shape[1] == 1 else "several"
        rate = self.mask.size / max(int(np.count_nonzero(self.mask)), 1)
        centre = centre_lines(mask, self.shape[2:])
        return {"acceleration": round(rate, 3), "lines": lines, "coils": coils, "centre": centre}

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
        """Noise level (given, stored or estimated), channels, maps where they are estimated together with images, and
        one intensity scale: that of the brightest slice."""
        from restore.datasets.mri.files.given_maps import checked_maps, hold_against
        from restore.datasets.mri.receivers.channels import whitening_of
        from restore.datasets.mri.receivers.exchanged import note_exchanged
        from restore.noise import noise_model

        maps = self._given_maps(options)
        level, apart = self._noise_level() if options.noise_std is None else (options.noise_std, ())
        self._doubt(level)
        self._note_filter(level, options.noise_std is not None)
        whitening = whitening_of(
            self.kspace, self.mask, self.noise_scan, level, self.path, self.notes
        )
        if whitening is not None and level:
            told = options.noise_std is not None or not self.noise_estimated
            level = whitening.level_of(level, told)
        if maps is not None:
            maps = checked_maps(maps, self.path, self.notes)
        joint = options.maps == "joint"
        regions = self._regions(needed=maps is None and not joint)
        middle = self.n_slices // 2
        region = regions[middle if len(regions) > 1 else 0]
        if maps is not None and region is not None and self.shape[1] > 1:
            both = [m[middle] for m in (maps, self._second(options)) if m is not None]
            hold_against(np.stack(both), self.kspace[middle], region, self.path, self.notes)
        if regions[0] is not None:
            note_exchanged(self.kspace, regions[0], self.notes)
        reception = self._reception(regions, whitening, options.coils_virtual)
        estimates = self._estimates(reception, level) if joint else ()
        sampled = np.broadcast_to(slice_mask(self.mask, middle), self.shape[-2:])
        phase_known = options.remove_phase and region is not None
        held_real = self._held_real(options)
        note_partial(sampled, self.notes, phase_known=phase_known, held_real=held_real)
        if options.remove_phase and None in regions and not joint:
            self.note("too few calibration lines to see the image's phase: it stays in the image")
        widens = self._widens(options, maps)
        if not joint and (maps is None or options.maps_sets > 1):
            self._note_maps(reception, max(1, options.maps_sets), widens)
        shade = None if whitening is None or maps is not None else self._shade(whitening, regions)
        setup = MRISetup(
            scaling=self._scaling(regions, maps, whitening, estimates), noise=noise_model(level),
            record={"maps": "joint" if joint else "espirit" if maps is None else "file", "noise_std": level},
            scan=self, kspace=self.kspace, mask=self.mask, maps=maps, reception=reception,
            remove_phase=options.remove_phase, estimates=estimates,
            levels=tuple(level * a for a in apart) if level else (), shade=shade,
            sets=max(1, options.maps_sets), widens=widens, precession=self.precession,
            second_maps=None if maps is None else self._second(options), held_real=held_real,
        )  # fmt: skip
        if self.precession is not None:
            self.precession.look(self, setup)
        return setup

    def _reception(
        self, regions: tuple[Region | None, ...], whitening: Whitening | None, words: str
    ) -> Reception:
        """The channels as problems see them; says what virtual coils leave out. Raises ConfigError for more of them
        than channels."""
        virtual, readout = VirtualCoils.parse(words), readout_axis(self.mask)
        reception = Reception(regions, whitening, virtual, readout)
        if virtual is None:
            return reception
        coils = self.shape[1] if whitening is None else len(whitening.matrix)
        virtual.check(self.path, coils, readout)
        dropped = []
        for index in range(self.n_slices):
            found = reception.compression(reception.white(self.kspace[index]), index)
            dropped.append(0.0 if found is None else found.dropped)
        self.note(virtual.note(coils, dropped))
        return reception

    def _widens(self, options: SetupOptions, maps: LazyStack | None) -> bool:
        """Whether slices may have two sets of maps: by ESPIRiT, of complex images without a field map."""
        asked = options.maps_sets == 0 and maps is None and options.maps != "joint"
        return asked and options.partial_fourier == "none" and self.precession is None

    def _note_maps(self, reception: Reception, sets: int, widens: bool) -> None:
        """Say how components become an image, that the middle slice asks for several, or that few lines are filled."""
        from restore.datasets.mri.receivers.cut_field import note_cut
        from restore.datasets.mri.receivers.few_lines import filling_note
        from restore.operators.mri.coil_maps import field_is_cut

        filled = filling_note(reception.regions, self.mask, self.shape[1:]) if sets == 1 else None
        if filled is not None:
            self.note(filled)
        index = self.n_slices // 2
        if sets > 1:
            self.note(
                "two sets of coil maps: the image is the root sum of squares of both components, as the coils see it"
            )
        elif field_is_cut(reception.samples(self.kspace[index], index), reception.region(index)):
            (name,) = self.ids(range(index, index + 1))
            note_cut(self.notes, name, widens=widens)

    def _estimates(self, reception: Reception, level: float | None) -> tuple[JointEstimate, ...]:
        """Image and maps of every slice, estimated together. Raises ConfigError."""
        from restore.datasets.mri.receivers.joint import joint_estimates, joint_note

        estimates = tuple(joint_estimates(self.kspace, self.mask, reception))
        self.note(joint_note(estimates, level))
        return estimates

    def _check(self, options: SetupOptions) -> None:
        """Whether there are maps, or lines to estimate them from, and channels to compress; reads nothing."""
        if self.precession is not None:
            self.precession.check(self.path, options)
        maps = self._given_maps(options)
        second = maps is None or self.second_maps is not None
        if options.maps_sets > 1 and (not second or options.maps == "joint"):
            raise ConfigError(
                f"{self.path}: two sets of coil maps come from --maps espirit, or from --maps FILE of two sets"
            )
        if options.maps == "joint":
            from restore.datasets.mri.receivers.joint import check_masks

            check_masks(self.mask, self.shape[1:])
        else:
            self._regions(needed=maps is None)
        self._held_real(options)
        virtual = VirtualCoils.parse(options.coils_virtual)
        if virtual is not None:
            virtual.check(self.path, self.shape[1], readout_axis(self.mask))

    def _held_real(self, options: SetupOptions) -> bool:
        """Whether images are to be held real. Raises ConfigError where they cannot be."""
        if options.partial_fourier == "none":
            return False
        masks = self.mask if self.mask.ndim == 3 else self.mask[None]
        whole = [np.broadcast_to(mask, self.shape[-2:]) for mask in masks]
        check_held_real(self.path, whole, self._regions(needed=False), options)
        return True

    def _given_maps(self, options: SetupOptions) -> LazyStack | None:
        """Those of the file, None where they are to be estimated. Raises ConfigError."""
        if options.maps == "file" and self.maps is None:
            raise ConfigError(f"{self.path}: holds no 'sensitivity_maps'; use --maps espirit")
        return self.maps if options.maps in ("auto", "file") else None

    def _second(self, options: SetupOptions) -> LazyStack | None:
        """The second set of the file where two are asked for."""
        return self.second_maps if options.maps_sets > 1 else None

    def _shade(self, whitening: Whitening, regions: tuple[Region | None, ...]) -> float | None:
        """None where the brightness of the real channels can be kept, else that of the whole image in theirs.

        It cannot where one of them outshines all others.
        """
        region = regions[self.n_slices // 2 if len(regions) > 1 else 0]
        kspace = self.kspace[self.n_slices // 2]
        if region is None:
            return whitening.gain(kspace, (slice(None), slice(None)))
        seen = whitening.shading(kspace, region)
        if float(seen.max() / seen.min()) < MOST_SHADE:
            return None
        self.note(
            "gains of the channels differ by much: the image's brightness follows the whitened channels"
        )
        return whitening.gain(kspace, region)

    def _regions(self, needed: bool) -> tuple[Region | None, ...]:
        """Calibration region of all slices, or of each where masks differ. Raises InputError where one is needed."""
        from restore.datasets.mri.calibration import calibration_lines, is_enough

        masks = self.mask if self.mask.ndim == 3 else self.mask[None]
        found: list[Region | None] = []
        for mask in masks:
            region, why = None, "the middle of k-space was not measured"
            try:
                region = calibration_lines(mask, self.shape[-2:])
            except ConfigError:
                pass
            if region is not None and not is_enough(region):
                rows, columns = (part.stop - part.start for part in region)
                why = f"the fully sampled middle of k-space is {rows} x {columns}"
                region = None
            if region is None and needed:
                raise InputError(
                    self.path,
                    f"{why}: too little to estimate coil maps from",
                    "give coil maps in the file ('sensitivity_maps'), or a scan with calibration lines; --maps joint "
                    "estimates maps together with the image, where lines are not evenly spaced",
                )
            found.append(region)
        return tuple(found)

    def _scaling(
        self,
        regions: tuple[Region | None, ...],
        maps: LazyStack | None,
        whitening: Whitening | None,
        estimates: tuple[JointEstimate, ...],
    ) -> Scaling:
        """By the calibration images, those estimated with the maps, or the maps' images where slices have no
        calibration lines. Raises InputError."""
        import torch

        from restore.datasets.mri.calibration import PEAK_QUANTILE, low_resolution_peak
        from restore.datasets.mri.checks.artefacts import faults_of
        from restore.operators.mri.multicoil import MultiCoilMRI
        from restore.scaling import Scaling

        peaks, calibrated = [], bool(estimates) or None not in regions
        for i in range(self.n_slices):
            kspace = self.kspace[i]
            for fault in faults_of(kspace, slice_mask(self.mask, i)):
                self.note(f"slice {i}: {fault}")
            kspace = kspace if whitening is None else whitening.apply(kspace)
            region = regions[i if len(regions) > 1 else 0]
            if estimates:
                lines, (rows, columns) = estimates[i].centre(self.shape[-2:])
                kspace, region = lines.numpy(), (rows, columns)
            if calibrated and region is not None:
                peaks.append(low_resolution_peak(kspace, region))
            elif maps is not None and kspace.any():
                seen = maps[i] if whitening is None else whitening.apply(maps[i])
                mask = torch.from_numpy(np.array(slice_mask(self.mask, i)))
                operator = MultiCoilMRI(torch.from_numpy(seen), mask)
                peaks.append(operator.unit_scale(torch.from_numpy(kspace)).scale)
        peak = max(peaks, default=0.0)
        if peak <= 0:
            raise InputError(self.path, "k-space is zero everywhere", "check the file, or its mask")
        rule = "calibration image" if calibrated else "image by the maps"
        return Scaling(peak, f"{PEAK_QUANTILE} quantile of the {rule}")

    def note(self, text: str) -> None:
        """Add a note that is not there yet."""
        if text not in self.notes:
            self.notes.append(text)

    def _doubt(self, told: float | None) -> None:
        """A note on a level that the corners of k-space contradict: they show noise, and signal besides."""
        seen = middle_noise_std(self.kspace, self.mask)
        if not told or not seen:
            return
        if told > TOO_LOUD * seen:
            self.note(
                f"the noise is said to be {told:.3g}, and the corners of k-space show {seen:.3g} at most: "
                "details may be "
                "lost for it; look at the level and its unit"
            )
        elif told < seen / TOO_QUIET:
            self.note(
                f"the noise is said to be {told:.3g}, and the corners of k-space show {seen:.3g}: look at "
                "the level and "
                "its unit"
            )

    def _note_filter(self, level: float | None, told: bool) -> None:
        """Say that the middle slice looks filtered. told: whether somebody said the level."""
        from restore.datasets.mri.checks.filtered import filter_note

        middle = self.n_slices // 2
        told = told or (self.noise_std is not None and not self.noise_estimated)
        note = filter_note(
            self.kspace[middle], slice_mask(self.mask, middle), None if told else level
        )
        if note is not None:
            self.note(note)

    def _noise_level(self) -> tuple[float | None, tuple[float, ...]]:
        """The stored level, else that of the slices; and, where these differ by much, each one's over that."""
        if self.noise_std is not None and not self.noise_estimated:
            return self.noise_std, ()  # 0: the file says that it is exact
        found = [
            kspace_noise_std(self.kspace[i], slice_mask(self.mask, i)) for i in range(self.n_slices)
        ]
        levels = [level for level in found if level]
        if not levels:
            return self.noise_std or None, ()
        middle = float(np.median(levels))
        if max(levels) < APART * min(levels):
            return self.noise_std or middle, ()
        self.note(
            f"noise differs between slices, from {min(levels):.3g} to {max(levels):.3g} by the corners of "
            "k-space: each "
            "has its own level"
        )
        return middle, tuple((level or middle) / middle for level in found)


def unit_maps(shape: tuple[int, ...]) -> LazyStack:
    """The sensitivity of a single coil: one everywhere. shape: (slices, 1, H, W)."""
    ones = np.ones(shape[1:], np.complex64)
    return LazyStack(tuple(shape), lambda index: ones)
