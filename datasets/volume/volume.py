"""A volume with its place in the patient, and the matching of two volumes by position.

May be called by every reader and writer of this folder, by the pipelines and by the command line.
Imports numpy and the errors only: a volume is a value, files are the business of the readers.

Arrays are (z, y, x). The affine takes the voxel index (i = x, j = y, k = z) to millimetres in the
NIfTI sense: x to the right, y to the front, z to the head (RAS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from restore.errors import ConfigError, InputError, ShapeError

MODALITIES = ("", "MR", "CT")
DTYPES = ("float32", "float64", "complex64", "complex128")
POSITION_TOLERANCE_VOXELS = 1e-3
REPAIR_HINT = "--repair zero (repair='zero') sets them to 0"


class GeometryError(InputError):
    """Two volumes, or a volume and its header, that do not lie on the same grid of voxels."""


@runtime_checkable
class SliceHeader(Protocol):
    """A header that knows its slices one by one, and so has to follow a selection of them."""

    def select(self, indices: Sequence[int]) -> SliceHeader:
        """Return the header of these slices, in this order."""


@dataclass(frozen=True)
class Unplaced:
    """The header of a volume whose source told no orientation: its affine holds sizes of voxels alone."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a regular grid, in source units, with the place of the grid in the patient.

    data: (z, y, x), one of float32, float64, complex64, complex128, rescale already applied;
    affine: 4 x 4, voxel index (x, y, z) to RAS millimetres; modality: "", "MR" or "CT"; units: "HU"
    for CT, else what the file says or ""; header: what the writer of the same format needs to keep
    (a nibabel header, a `DicomSeries`), opaque to everybody else; source: the file or folder read;
    notes: what the reader assumed, repaired or left out, in sentences without patient data;
    frames, frame_s: of a series over time how many volumes lie along z, one after the other, and the seconds between
    them, None where unknown; the affine is that of each; padding: lowest and highest
    intensity that means "nothing was measured here", where the file
    names them (`restore.datasets.volume.padding`).

    Raises ShapeError, ConfigError (kind of number, modality), GeometryError (affine).
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    modality: str = ""
    units: str = ""
    header: Any = field(default=None, repr=False)
    source: Path | None = None
    notes: tuple[str, ...] = ()
    padding: tuple[float, float] | None = None
    frames: int = 1
    frame_s: float | None = None

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3 or 0 in data.shape:
            raise ShapeError(f"Volume: data has shape {data.shape}, expected (z, y, x), none empty")
        if data.dtype.name not in DTYPES:
            raise ConfigError(
                f"Volume: data is {data.dtype.name}, expected one of {', '.join(DTYPES)}; convert "
                "it first, so that nothing is rounded unnoticed"
            )
        if self.modality not in MODALITIES:
            raise ConfigError(f"Volume: modality '{self.modality}', expected MR, CT or nothing")
        if self.frames < 1 or data.shape[0] % self.frames:
            raise ShapeError(
                f"Volume: {data.shape[0]} slices are no {self.frames} frames of as many"
            )
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise ShapeError(f"Volume: affine has shape {affine.shape}, expected (4, 4)")
        problem = affine_problem(affine)
        if problem:
            raise GeometryError(self.source or "volume", problem)
        affine.setflags(write=False)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along x, y and z, in mm."""
        dx, dy, dz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(dx), float(dy), float(dz)

    @property
    def n_slices(self) -> int:
        """Number of slices along z."""
        return int(self.data.shape[0])

    def select(self, which: slice | Sequence[int]) -> Volume:
        """Return some of the slices along z, evenly spaced, in their right place.

        which: a slice or indices (negative ones count from the end). The affine's origin and third
        column follow, and a header that knows slices follows too. A descending selection turns the
        volume over. Raises ConfigError for an empty, uneven or repeating selection or an index
        outside the volume.
        """
        if self.frames > 1:
            raise ConfigError("slices are selected from one volume; this is a series over time")
        indices = _slice_indices(which, self.n_slices)
        step = indices[1] - indices[0] if len(indices) > 1 else 1
        affine = self.affine.copy()
        affine[:3, 3] += indices[0] * self.affine[:3, 2]
        affine[:3, 2] *= step
        header = self.header
        if isinstance(header, SliceHeader):
            header = header.select(indices)
        return replace(self, data=self.data[indices], affine=affine, header=header)

    def frame(self, t: int) -> Volume:
        """The volume of frame t of a series over time; itself where there is one."""
        depth = self.n_slices // self.frames
        data = self.data[t * depth : (t + 1) * depth]
        return replace(self, data=data, frames=1, frame_s=None)

    def with_data(self, data: NDArray[Any]) -> Volume:
        """Return other intensities, (z, y, x) of the same shape, in the same place."""
        if np.shape(data) != self.data.shape:
            raise ShapeError(
                f"Volume.with_data: data has shape {np.shape(data)}, expected {self.data.shape}"
            )
        return replace(self, data=data)


def affine_problem(affine: NDArray[np.float64]) -> str:
    """Say what is wrong with a 4 x 4 affine, or nothing: "" for one that places voxels."""
    if not np.isfinite(affine).all():
        return "the affine holds numbers that are not finite"
    if not np.array_equal(affine[3], [0, 0, 0, 1]):
        return f"the last row of the affine is {affine[3].tolist()}, expected [0, 0, 0, 1]"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        return "the affine is singular: it puts different voxels in one place"
    return ""


def align_to(
    volume: Volume, reference: Volume, tolerance: float = POSITION_TOLERANCE_VOXELS
) -> Volume:
    """Return the reference's voxels at the positions of the volume's voxels.

    Positions are compared in the patient, not by index: the two may differ by reversed or exchanged
    axes, and the volume may be a block or an even selection of the reference. Nothing is
    interpolated. tolerance: the largest distance, in voxels of the reference and at any corner of
    the volume, between a voxel of the volume and the voxel taken for it.

    The result has the volume's shape and affine and the reference's intensities, modality, units
    and source. Raises GeometryError with a sentence that says what differs.
    """
    if volume.frames > 1 or reference.frames > 1:
        raise ConfigError("volumes are aligned one by one; this is a series over time")
    to_reference = np.linalg.inv(reference.affine) @ volume.affine
    size = volume.data.shape[::-1]
    axes, steps = _axis_map(to_reference[:3, :3], size)
    start = np.rint(to_reference[:3, 3])
    rounded = np.zeros((3, 3))
    rounded[axes, range(3)] = steps
    deviation = np.column_stack([to_reference[:3, :3] - rounded, to_reference[:3, 3] - start])
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij")).reshape(3, -1)
    gap = np.abs(deviation @ np.vstack([corners, np.ones(8)])).max()
    where = volume.source or "volume"
    if not gap <= tolerance:
        raise GeometryError(where, _difference(volume, reference), "resample one onto the other")
    stops = start[axes] + np.array(steps) * (np.array(size) - 1)
    limits = np.array(reference.data.shape[::-1])[axes]
    low, high = np.minimum(start[axes], stops), np.maximum(start[axes], stops)
    if (low < 0).any() or (high >= limits).any():
        raise GeometryError(
            where,
            f"it reaches outside the reference: along the reference's axes {_letters(axes)} it "
            f"covers voxels {_ranges(low, high)}, the reference has {limits.tolist()}",
            "crop it to the reference",
        )
    picks = [int(start[a]) + s * np.arange(n) for a, s, n in zip(axes, steps, size, strict=True)]
    by_axis = reference.data.transpose(2, 1, 0).transpose(axes)
    taken = np.ascontiguousarray(by_axis[np.ix_(*picks)].transpose(2, 1, 0))
    return Volume(
        taken, volume.affine, reference.modality, reference.units, source=reference.source,
        padding=reference.padding,
    )  # fmt: skip


def _slice_indices(which: slice | Sequence[int], n: int) -> list[int]:
    if isinstance(which, slice):
        indices = list(range(*which.indices(n)))
    else:
        indices = [int(i) + n if i < 0 else int(i) for i in which]
    if not indices:
        raise ConfigError(f"no slice selected: {which} of {n} slices")
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise ConfigError(f"slice {outside[0]} does not exist: the volume has slices 0..{n - 1}")
    if len(set(np.diff(indices).tolist())) > 1 or len(set(indices)) < len(indices):
        raise ConfigError(
            f"slices {indices} are not evenly spaced; a volume needs one distance between slices: "
            "select them in several runs"
        )
    return indices


def _axis_map(linear: NDArray[np.float64], size: Sequence[int]) -> tuple[list[int], list[int]]:
    """Give each axis of the volume an axis of the reference and an integer step along it.

    Axes with one voxel come last and take what is left: their step means nothing.
    """
    axes, steps = [-1, -1, -1], [1, 1, 1]
    free = {0, 1, 2}
    for a in sorted(range(3), key=lambda a: (size[a] == 1, -np.abs(linear[:, a]).max())):
        best = max(free, key=lambda r: abs(linear[r, a]))
        free.remove(best)
        axes[a] = best
        if size[a] > 1:
            steps[a] = round(linear[best, a]) or 1
    return axes, steps


def _difference(volume: Volume, reference: Volume) -> str:
    ours = volume.affine[:3, :3] / np.array(volume.spacing_mm)
    theirs = reference.affine[:3, :3] / np.array(reference.spacing_mm)
    cosines = np.abs(theirs.T @ ours).max(axis=0).clip(max=1)
    angle = float(np.degrees(np.arccos(cosines)).max())
    if angle > 0.01:
        return f"its axes are turned by up to {angle:.3g} degrees against those of the reference"
    axes = np.abs(theirs.T @ ours).argmax(axis=0)
    ratio = np.array(volume.spacing_mm) / np.array(reference.spacing_mm)[axes]
    if np.abs(ratio - np.rint(ratio)).max() > 1e-4 or ratio.min() < 0.5:
        return (
            f"its voxels are {_mm(volume.spacing_mm)} mm and no whole multiple of the reference's "
            f"{_mm(reference.spacing_mm)} mm"
        )
    offset = (np.linalg.inv(reference.affine) @ volume.affine)[:3, 3]
    shift = np.abs(offset - np.rint(offset)).max()
    return f"its grid is shifted by {shift:.3g} of a voxel against that of the reference"


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:.5g}" for s in spacing)


def _letters(axes: Sequence[int]) -> str:
    return ", ".join("xyz"[a] for a in axes)


def _ranges(low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    return ", ".join(f"{int(a)}..{int(b)}" for a, b in zip(low, high, strict=True))
