"""Cartesian k-space of a volume that is undersampled along both phase encodings, as a scan.

Made by the readers and simulators of k-space encoded along three axes; what is done with it stands in `encoded`. Where
all partitions along kz were measured alike, the slices come apart by a transform along z (`partitions`), and the scan
is one of slices.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.encoded_setup import EncodedSetup
from restore.datasets.mri.pattern.partial_fourier import check_held_real, note_partial, symmetric
from restore.datasets.mri.receivers.noise_estimation import CORNER_FRACTION, MIN_SAMPLES
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.datasets.mri.middle import Middle
    from restore.datasets.mri.receivers.channels import Whitening
    from restore.datasets.mri.receivers.virtual_coils import VirtualCoils
    from restore.operators.mri.coil_compression import CoilCompression
    from restore.operators.mri.joint_maps import JointEstimate
    from restore.operators.mri.multicoil import MultiCoilMRI
    from restore.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CartesianVolumeScan(EncodedScan):
    """y = mask F(S x) + n of one volume, F the centred orthonormal transform along three axes.

    partitions: complex64 (D, coils, H, W), k-space as it is stored, zero outside the mask: kz in front, rows along the
    readout, columns along the other phase encoding. mask: boolean, broadcastable to (D, H, W). slice_maps: complex64
    (D, coils, H, W) of the image's slices with sum |S|^2 = 1, or None. `kspace` and `maps` are these as one item,
    (1, coils, D, H, W). The other fields are those of every `EncodedScan`.
    """

    takes: ClassVar[tuple[str, ...]] = (*EncodedScan.takes, "partial_fourier")
    suspects: ClassVar[str] = (
        "coil maps or a mask that are not this scan's, motion between the lines, a centre of k-space that lies "
        "elsewhere, frequencies other than the scanner's, or a noise level that is too small"
    )

    partitions: LazyStack
    mask: NDArray[np.bool_]
    slice_maps: LazyStack | None = None
    kspace: LazyStack = dataclasses.field(init=False)
    maps: LazyStack | None = dataclasses.field(init=False)
    matrix: tuple[int, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        depth, _, height, width = self.partitions.shape
        object.__setattr__(self, "kspace", as_item(self.partitions))
        object.__setattr__(
            self, "maps", None if self.slice_maps is None else as_item(self.slice_maps)
        )
        object.__setattr__(self, "matrix", (depth, height, width))

    @property
    def sampling(self) -> str:
        """The pattern and how much it keeps."""
        pattern = str(self.settings.get("mask", "as measured"))
        whole = self.sampled
        return f"{pattern} in three dimensions, {np.count_nonzero(whole)} of {whole.size} samples"

    @property
    def difficulty(self) -> dict[str, float | str]:
        """Acceleration, points of the plane of phase encodings, and whether coils tell places apart."""
        rate = self.sampled.size / max(int(np.count_nonzero(self.sampled)), 1)
        coils = "one" if self.shape[1] == 1 else "several"
        return {"acceleration": round(rate, 3), "lines": "points in 3-D", "coils": coils}

    @cached_property
    def sampled(self) -> NDArray[np.bool_]:
        """The mask in full, (D, H, W)."""
        return np.broadcast_to(self.mask, self.matrix)

    def operator(self, maps: Tensor) -> MultiCoilMRI:
        """`MultiCoilMRI` of volumes."""
        import torch

        from restore.operators.mri.multicoil import MultiCoilMRI

        mask = torch.from_numpy(np.array(self.mask)).to(maps.device)
        return MultiCoilMRI(maps, mask, image_ndim=3)

    @property
    def readout(self) -> int:
        """The axis of a volume (D, H, W) along which every line was measured alike. Raises ConfigError."""
        return self._readout()[0]

    @property
    def whole_readout(self) -> int | None:
        """As `readout`, counted from the last axis; None where there is none, or not all of it was measured."""
        try:
            axis, along = self._readout()
        except ConfigError:
            return None
        return axis - 3 if along == slice(0, self.matrix[axis]) else None

    def compression(self, kspace: Tensor, virtual: VirtualCoils) -> CoilCompression:
        """By the box that was fully sampled, where one matrix serves a place along the readout; else by what lies about
        the centre."""
        if virtual.kind == "svd":
            return super().compression(kspace, virtual)
        try:
            box = self._box()
        except ConfigError:  # the maps are then given, and all lines tell
            box = None
        return virtual.of(kspace, self.whole_readout, box)

    def middle(self, item: int) -> Middle:
        """Of the box that was fully sampled, split along z.

        Splitting along the readout instead, where each place is a problem of two dimensions without weights, gave maps
        that lie farther off: the few lines of two phase encodings tell less than those of one with the readout. Raises
        ConfigError.
        """
        return self._middle_of(self._box())

    def symmetric_middle(self) -> Middle:
        """Of what of that box was fully sampled on both sides. Raises ConfigError."""
        z, rows, columns = (
            symmetric(part, n) for part, n in zip(self._box(), self.matrix, strict=True)
        )
        return self._middle_of((z, rows, columns))

    def map_middle(self, item: int, level: float | None) -> Middle | None:
        """As `middle`; where few of its lines were measured, filled by image and maps that are estimated together.

        Raises InputError.
        """
        import torch

        from restore.datasets.mri.middle import middle_of_volume
        from restore.datasets.mri.receivers.few_lines import filling_doubt, volume_filling_note
        from restore.operators.mri.filling import cube_about_middle, filled_cube, needs_filling

        seen = self.seen_middle(item, needed=True)
        box, (readout, _) = self._box(), self._readout()
        lines = tuple(part for axis, part in enumerate(box) if axis != readout)
        mask = torch.from_numpy(self.sampled.copy())
        if not needs_filling(lines, mask, (self.shape[1], *self.matrix)):
            return seen
        cube = cube_about_middle(self.matrix)
        samples = torch.from_numpy(self._block(cube))
        block, inner, estimate = filled_cube(samples, mask[cube], readout)
        z, rows, columns = (
            slice(outer.start + part.start, outer.start + part.stop)
            for outer, part in zip(cube, inner, strict=True)
        )
        self.note(volume_filling_note(lines))
        doubt = filling_doubt(estimate, level, "the volume")
        if doubt is not None:
            self.note(doubt)
        return middle_of_volume(block, (z, rows, columns), self.matrix)

    def _block(self, box: tuple[slice, ...]) -> NDArray[np.complex64]:
        """K-space (coils, d, h, w) of a box."""
        z, rows, columns = box
        return np.stack(
            [self.partitions[d][:, rows, columns] for d in range(z.start, z.stop)], axis=1
        )

    def _box(self) -> tuple[slice, slice, slice]:
        """The fully sampled middle of k-space. Raises ConfigError."""
        from restore.datasets.mri.calibration import calibration_lines, is_enough

        axis, along = self._readout()
        plane = np.logical_or.reduce(self.sampled, axis=axis)
        box = list(calibration_lines(plane, (plane.shape[0], plane.shape[1])))
        box.insert(axis, along)
        z, rows, columns = box
        if not (is_enough((rows, columns)) and is_enough((z, rows))):
            lines = " x ".join(str(part.stop - part.start) for part in box)
            raise ConfigError(
                f"the fully sampled middle of k-space is {lines}: too little to estimate coil maps from"
            )
        return z, rows, columns

    def _middle_of(self, box: tuple[slice, slice, slice]) -> Middle:
        import torch

        from restore.datasets.mri.middle import middle_of_volume

        return middle_of_volume(torch.from_numpy(self._block(box)), box, self.matrix)

    def _readout(self) -> tuple[int, slice]:
        """The axis along which every line was measured alike, rows first, and from where to where.

        Raises ConfigError where there is none.
        """
        for axis in (1, 2, 0):
            along = self.sampled.any(axis=tuple(a for a in range(3) if a != axis))
            across = self.sampled.any(axis=axis, keepdims=True)
            shape = [-1 if a == axis else 1 for a in range(3)]
            if np.array_equal(along.reshape(shape) & across, self.sampled):
                return axis, _run(np.asarray(along))
        raise ConfigError(
            "the lines of k-space were measured differently along all three axes: no readout is whole"
        )

    def check_joint(self) -> None:
        """Raise ConfigError for one coil, and for masks so even that aliases explain the samples."""
        import torch

        from restore.operators.mri.joint_maps import check_sampling

        if self.shape[1] < 2:
            raise ConfigError("joint estimate: one coil tells nothing of its map; leave --maps out")
        check_sampling(torch.from_numpy(np.array(self.mask)), self.matrix)

    def joint_estimate(self, kspace: Tensor) -> JointEstimate:
        """Of the samples about the centre, along all three axes."""
        import torch

        from restore.operators.mri.joint_maps import joint_estimate

        return joint_estimate(kspace, torch.from_numpy(np.array(self.mask)))

    def radius(self) -> NDArray[np.float64]:
        """Root sum of squares of the coordinates over half the matrix, NaN where nothing was measured."""
        squares = np.zeros(self.matrix)
        for axis, n in enumerate(self.matrix):
            shape = [-1 if a == axis else 1 for a in range(3)]
            squares += np.square((np.arange(n) - n // 2) / max(n / 2, 1)).reshape(shape)
        return np.where(self.sampled, np.sqrt(squares), np.nan)

    def measured_noise(self) -> float | None:
        """The level of the outermost samples, signal there included; None where they are too few."""
        radius = self.radius()
        far = radius >= np.nanquantile(radius, 1 - CORNER_FRACTION)
        found = [self.partitions[d][:, far[d]] for d in range(len(far)) if far[d].any()]
        samples = np.concatenate(found, axis=1)
        if samples.shape[1] < MIN_SAMPLES:
            return None
        parts = np.concatenate([samples.real, samples.imag], axis=1).astype(np.float64)
        level = float(np.sqrt(np.mean(std_by_median(parts, axis=1) ** 2)))
        return level if np.isfinite(level) and level > 0 else None

    def _setup(self, options: SetupOptions) -> EncodedSetup:
        """As of every `EncodedScan`, after a look at what the partitions and the mask show by themselves."""
        from restore.datasets.mri.checks.artefacts import faults_of
        from restore.datasets.mri.checks.filtered import filter_note

        for d in range(len(self.partitions)):
            for fault in faults_of(self.partitions[d], self.sampled[d]):
                self.note(f"partition {d}: {fault}")
        middle, told = len(self.partitions) // 2, {options.noise_std, self.noise_std} != {None}
        found = filter_note(
            self.partitions[middle], self.sampled[middle], None if told else self.measured_noise()
        )
        if found is not None:
            self.note(found)
        held_real = self._held_real(options)
        note_partial(
            self.sampled, self.notes, phase_known=options.remove_phase, held_real=held_real
        )
        setup = super()._setup(options)
        if not held_real:
            return setup
        return RealVolumeSetup(
            **{f.name: getattr(setup, f.name) for f in dataclasses.fields(setup)}
        )

    def _check(self, options: SetupOptions) -> None:
        """As of every `EncodedScan`, and whether the volume can be held real."""
        super()._check(options)
        self._held_real(options)

    def _held_real(self, options: SetupOptions) -> bool:
        """Whether the volume is to be held real. Raises ConfigError where it cannot be."""
        if options.partial_fourier == "none":
            return False
        try:
            box = self._box()
        except ConfigError:  # the check says what that means here
            box = None
        check_held_real(self.path, [self.sampled], [box], options)
        return True

    def _whitening(self, level: float | None) -> Whitening | None:
        """By the noise scan, else by what partitions show of air."""
        from restore.datasets.mri.receivers.channels import whitening_of

        return whitening_of(
            self.partitions, self.sampled, self.noise_scan, level, self.path, self.notes
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RealVolumeSetup(EncodedSetup):
    """Of a volume that is held real, with the phase that the symmetric middle of k-space shows in the maps."""

    scan: CartesianVolumeScan

    def problem(self, which: range, device: torch.device) -> Problem:
        """That of every `EncodedSetup`, for real images. Raises InputError."""
        import torch

        from restore.operators.mri.multicoil import MultiCoilMRI
        from restore.operators.mri.real_images import RealImages

        problem = super().problem(which, device)
        encoding = problem.operator
        assert isinstance(encoding, MultiCoilMRI)  # noqa: S101  (for the type checker: `scan.operator` made it)
        return dataclasses.replace(
            problem, y=torch.view_as_real(problem.y), operator=RealImages(encoding)
        )

    def _phased(self, item: int, middle: Middle) -> Middle:
        return self.scan.symmetric_middle()


def as_item(stack: LazyStack) -> LazyStack:
    """Partitions or slices (D, coils, H, W) as one volume (1, coils, D, H, W)."""
    depth, coils, height, width = stack.shape

    def load(index: int) -> NDArray[np.complex64]:
        volume = np.empty((coils, depth, height, width), np.complex64)
        for d in range(depth):
            volume[:, d] = stack[d]
        return volume

    return LazyStack((1, coils, depth, height, width), load)


def _run(measured: NDArray[np.bool_]) -> slice:
    """The run of measured places about the middle. Raises ConfigError where the middle is none of them."""
    n = measured.size
    gaps = np.flatnonzero(~measured)
    if not measured[n // 2]:
        raise ConfigError(
            "the middle of k-space was not measured: coil maps cannot be estimated from it"
        )
    return slice(
        int(gaps[gaps < n // 2].max(initial=-1)) + 1, int(gaps[gaps > n // 2].min(initial=n))
    )
