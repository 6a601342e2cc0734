"""A scan over time: readouts or views in the order in which they were taken, cut into frames of as many each.

Made by `restore.datasets.open.open_scan`, of any scan whose samples follow each other in time; the layers above use it
by the contract of `restore.datasets.scan`. What all frames share (coil maps, phase, channels, noise, intensity scale,
the axis of rotation) is found once, from all samples together. torch is imported where a problem is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.noise import Noise
    from restore.problem import Problem

FRAMES, FRAME_S = "frames", "frame_s"
"""What a scan's settings tell of time: into how many frames it is cut, and the seconds of one."""

DEFAULT_S = 0.1
"""Seconds of a simulated frame."""

_OF_CLASS = ("modality", "holds", "takes", "first_look", "suspects")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SeriesScan(Scan):
    """Frames of some slices, every slice of a frame before the next frame: item t * slices + z.

    measured: all samples, as one scan without time, whose `time_axis` is cut. frames: how many, two at least. frame_s:
    from one to the next in seconds, None where nobody told. reference: (items, *image_shape), or None. slice_indices:
    of the items. The other fields are those of `measured`. Raises ConfigError for samples without an order in time,
    and for frames that would not have as many each.
    """

    measured: Scan
    frames: int
    frame_s: float | None = None

    def __post_init__(self) -> None:
        for name in _OF_CLASS:  # of the kind of scan that it holds
            object.__setattr__(self, name, getattr(self.measured, name))
        axis = self.measured.time_axis
        if axis is None:
            raise ConfigError(
                f"{self.path}: {self.holds} of this kind does not say what was measured after what; frames are cut "
                "from k-space along a trajectory of slices (Cartesian lines too, as `restore simulate mri --frames "
                "--acceleration` writes them) and from views of parallel rays"
            )
        count = self.measured.shape[axis]
        if not 2 <= self.frames <= count or count % self.frames:
            fit = [n for n in range(2, count + 1) if count % n == 0]
            near = sorted(sorted(fit, key=lambda n: abs(n - self.frames))[:3])
            raise ConfigError(
                f"{self.path}: {self.frames} frames of {count} readouts or views: two at least, of as many each"
                + (f"; {', '.join(map(str, near))} would do" if near else "")
            )
        if self.frame_s is not None and not (np.isfinite(self.frame_s) and self.frame_s > 0):
            raise ConfigError(f"{self.path}: a frame of {self.frame_s} s; expected a time above 0")

    @property
    def kind(self) -> str:
        """As measured."""
        return self.measured.kind

    @property
    def abilities(self) -> frozenset[str] | None:
        """What all frames can do."""
        found = self.measured.abilities
        return None if found is None else found - {"subsets", "svd"}

    @property
    def per_frame(self) -> int:
        """Readouts or views of a frame."""
        axis = self.measured.time_axis or 0
        return self.measured.shape[axis] // self.frames

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the measurement, items in front."""
        sizes = list(self.measured.shape)
        sizes[self.measured.time_axis or 0] = self.per_frame
        return (self.frames * self.measured.n_slices, *sizes[1:])

    @property
    def image_shape(self) -> tuple[int, int]:
        """As measured."""
        return self.measured.image_shape

    @property
    def values_per_slice(self) -> int:
        """As measured."""
        return self.measured.values_per_slice

    @property
    def units(self) -> str:
        """As measured."""
        return self.measured.units

    @property
    def direct_explains(self) -> bool:
        """False: a frame has few samples."""
        return False

    @property
    def sampling(self) -> str:
        """What was measured, and of how many frames."""
        return f"{self.measured.sampling}, in {self.frames} frames"

    @property
    def difficulty(self) -> dict[str, float | str]:
        """That of all samples, and the frames."""
        return {**self.measured.difficulty, "frames": self.frames}

    def held(self, slices: int, options: SetupOptions) -> tuple[dict[str, int], dict[str, int]]:
        """What is held of all samples of the slices, whose parts the frames are."""
        return self.measured.held(min(slices, self.measured.n_slices), options)

    def image_of(self, index: int) -> NDArray[np.float32]:
        """The reference; a frame has too few samples to be looked at. Raises InputError."""
        if self.reference is None:
            raise InputError(
                self.path, "holds frames without reference images", "reconstruct them first"
            )
        return np.asarray(self.reference[index])

    def in_source_units(self, samples: Tensor) -> NDArray[np.float32]:
        """As measured."""
        return self.measured.in_source_units(samples)

    def in_units(self, units: str, mu_water: float | None) -> Self:
        """The same series with images in other units. Raises ConfigError."""
        whole = self.measured.in_units(units, mu_water)
        frames = dataclasses.replace(self.measured, reference=self.reference)
        shown = frames.in_units(units, mu_water).reference
        return dataclasses.replace(self, measured=whole, reference=shown)

    def ids(self, which: range) -> tuple[str, ...]:
        """Slice and frame, which seed a sampler's noise."""
        frames, slices = zip(*(divmod(i, self.measured.n_slices) for i in which), strict=True)
        indices = self.measured.slice_indices
        return tuple(f"slice {indices[z]}/frame {t}" for t, z in zip(frames, slices, strict=True))

    def volume(self, data: NDArray[Any]) -> Volume:
        """Items as a series of volumes, in the place of the measured slices."""
        slices = self.measured.n_slices
        placed = self.measured.volume(data[:slices])
        return dataclasses.replace(placed, data=data, frames=self.frames, frame_s=self.frame_s)

    def _check(self, options: SetupOptions) -> None:
        self.measured.check(options)

    def _setup(self, options: SetupOptions) -> SeriesSetup:
        whole = self.measured.setup(options)
        return SeriesSetup(
            scaling=whole.scaling, noise=whole.noise, scan=self, whole=whole,
            record=whole.record | {FRAMES: self.frames, FRAME_S: self.frame_s},
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SeriesSetup(Setup):
    """How problems are made of frames. whole: the set-up of all samples as one scan."""

    scan: SeriesScan
    whole: Setup

    def problem(self, which: range, device: torch.device) -> Problem:
        """Items, each with the operator of its own readouts or views (`BlockDiagonal`)."""
        import torch

        from restore.operators.algebra import BlockDiagonal
        from restore.problem import Problem

        slices = self.scan.measured.n_slices
        parts = [self._part(*divmod(item, slices), device) for item in which]
        return Problem(
            torch.cat([part.y for part in parts]),
            BlockDiagonal(tuple(part.linear for part in parts)),
            _joined([part.noise for part in parts]), self.scaling, self.scan.ids(which),
            frames=len(which) // slices if len(which) % slices == which.start % slices == 0 else 1,
        )  # fmt: skip

    def _part(self, frame: int, index: int, device: torch.device) -> Problem:
        """One slice of one frame."""
        if (index, device) not in self._slices:
            found = self.whole.problem(range(index, index + 1), device)
            self._slices[index, device] = found
        first = frame * self.scan.per_frame
        run = slice(first, first + self.scan.per_frame)
        return self.scan.measured.between(self._slices[index, device], run)

    @cached_property
    def _slices(self) -> dict[tuple[int, torch.device], Problem]:
        """All samples of a slice, of which the frames are parts."""
        return {}


def _joined(noises: list[Noise | None]) -> Noise | None:
    """One model for all items: levels of their own side by side."""
    import torch

    from restore.noise import Gaussian

    levels = [n.std for n in noises if isinstance(n, Gaussian) and isinstance(n.std, torch.Tensor)]
    return Gaussian(torch.cat(levels)) if len(levels) == len(noises) else noises[0]


def in_frames(scan: Scan, frames: int | None = None, frame_s: float | None = None) -> Scan:
    """The scan as frames: as many as are asked for, else as its settings say; itself where neither says any, or one is
    asked for, which is then noted.

    frame_s: seconds of a frame, in the place of the settings'. The reference of the frames is the file's data set
    `reference_frames`. Raises ConfigError (see `SeriesScan`), InputError for settings that are no numbers.
    """
    told = scan.settings.get(FRAMES)
    if told is not None and (isinstance(told, bool) or not isinstance(told, int) or told < 1):
        raise InputError(scan.path, f"its settings say {told!r} frames", "expected a whole number")
    count = told if frames is None else frames
    if count is None and frame_s is not None:
        raise ConfigError(f"{scan.path}: --frame-time needs --frames: the scan says of none")
    if count in (None, 1):
        if told is not None and told > 1:
            scan.notes.append(f"its {told} frames are taken for one image: what moves is blurred")
        return scan
    seconds = scan.settings.get(FRAME_S) if frame_s is None else frame_s
    if seconds is not None and not isinstance(seconds, int | float):
        raise InputError(scan.path, f"its settings say a frame of {seconds!r} s", "expected a number")  # fmt: skip
    if frame_s is None and frames not in (None, told) and seconds is not None and told:
        seconds = seconds * told / count
    if seconds is None:
        scan.notes.append(
            "the time between frames is not known: the series says 0 (--frame-time S)"
        )
    return series_of(scan, count, seconds, stored_frames(scan, count) if count == told else None)


def series_of(
    measured: Scan, frames: int, frame_s: float | None, reference: LazyStack | None
) -> SeriesScan:
    """A scan cut into frames. reference: (items, *image_shape). Raises ConfigError."""
    own = {f.name: getattr(measured, f.name) for f in dataclasses.fields(Scan)}
    own |= {"reference": reference, "slice_indices": frames * measured.slice_indices}
    return SeriesScan(**own, measured=measured, frames=frames, frame_s=frame_s)


def write_series(scan: SeriesScan, path: Path, write: Callable[[Any, Path], None]) -> None:
    """Write what was measured by the writer of its kind, and the frames' reference beside it. Raises OutputError."""
    from restore.datasets.hdf5_stack import written_hdf5

    write(scan.measured, path)
    if scan.reference is None:
        return
    slices = scan.measured.n_slices
    sizes = (scan.frames, slices, *scan.image_shape)
    with written_hdf5(path, "r+") as file:
        stored = file.create_dataset(REFERENCE, sizes, np.float32, chunks=(1, *sizes[1:]))
        for t in range(scan.frames):
            stored[t] = scan.reference[t * slices : (t + 1) * slices]


def frames_of(scan: Scan) -> int:
    """How many frames a scan has: 1 without time."""
    return scan.frames if isinstance(scan, SeriesScan) else 1


def of_measured(scan: Scan, change: Callable[[Scan], Scan]) -> Scan:
    """The scan with a change made to what was measured, of a series to all of its samples."""
    if isinstance(scan, SeriesScan):
        return dataclasses.replace(scan, measured=change(scan.measured))
    return change(scan)


REFERENCE = "reference_frames"
"""The data set (frames, slices, rows, columns) in a scan's file that holds the truth of a simulation."""


def stored_frames(scan: Scan, frames: int) -> LazyStack | None:
    """The reference of the frames in the scan's file, (items, *image_shape); None where it has none. Raises
    InputError."""
    from restore.datasets.content import look_at
    from restore.datasets.hdf5_guard import is_hdf5, open_hdf5
    from restore.datasets.hdf5_stack import companion, read_slice

    if not scan.path.is_file() or not is_hdf5(look_at(scan.path)):
        return None
    path, (rows, columns), slices = scan.path, scan.image_shape, scan.n_slices
    with open_hdf5(path) as file:
        found = companion(file, path, REFERENCE, (frames, slices, rows, columns), 4, np.float32)
    if found is None:
        return None

    def load(item: int) -> NDArray[np.float32]:
        frame, index = divmod(item, slices)
        values = read_slice(path, REFERENCE, frame, np.float32)[index]
        if not np.isfinite(values).all():
            raise InputError(path, f"'{REFERENCE}' holds NaN or infinite values in frame {frame}")
        return np.asarray(values)

    return LazyStack((frames * slices, rows, columns), load)
