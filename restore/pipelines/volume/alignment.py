"""Stacks of one object laid on each other: a rigid motion by which a second volume's place agrees with the first's.

Called by `superres` where several stacks are fused. Our own phase correlation (`pipelines/registration`) finds the
shift, as it needs no further package and is right to a twentieth of a voxel whatever the contrast; a search by Powell's
method then turns. Works on a coarse common grid; touches nothing but its arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.operators.volume.slice_stacks import Grid
from restore.pipelines.registration import register

Array = NDArray[np.float64]

SIDE = 64
"""Voxels along the longest side of the common grid, at most: what a turn of a degree moves there is half a voxel."""

LEAST_SHARE = 0.2
"""Of the smaller volume's part of the grid that both must see."""

LEAST_CORRELATION = 0.6
"""Of the two after the search. Thick slices across each other, of one head, reach 0.9; two heads 0.5."""

DOUBTFUL = 0.8
"""Below this a note says that the two may not be laid on each other rightly."""

LARGEST_TURN_DEG = 20.0
LARGEST_SHIFT_SHARE = 0.25
"""Of the longest side."""

FINER, TURNED = 0.02, 0.25
"""Shares of what a correlation lacks to 1 by which a finer shift, and a turn, must lower it: noise and blur give as
much by chance, and without a turn axes stay parallel."""

SMEARED = 0.5
"""Deviation of what slices at unit distance make of a point: a box of one, then lines between them."""

_KEPT = 0.5  # of what both see before, which the search must not lose: little agrees easily
_FIRST_STEPS_MM = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """motion: 4 x 4, RAS mm, which moves the second volume onto the first. shift_mm: of the first's middle. turn_deg:
    about an axis through it. correlation_before, correlation_after: of the two where both see. gain: by which the
    second's intensities are multiplied to be the first's."""

    motion: Array
    shift_mm: tuple[float, float, float]
    turn_deg: float
    correlation_before: float
    correlation_after: float
    gain: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Blurred:
    """A volume as smooth along all axes as thick slices are along one."""

    grid: Grid
    data: Array

    @classmethod
    def of(cls, volume: Volume, blur_mm: float) -> _Blurred:
        nz, ny, nx = volume.data.shape
        grid = Grid(volume.affine, (nz, ny, nx))
        sigmas = [math.sqrt(max(0.0, blur_mm**2 - (SMEARED * p) ** 2)) / p for p in grid.spacing_mm]
        return cls(grid, gaussian_filter(volume.data.astype(np.float64), sigmas, mode="nearest"))

    def on(self, common: Grid, motion: Array | None = None) -> tuple[Array, NDArray[np.bool_]]:
        """Moved, on a common grid; and where it is seen."""
        own = self.grid if motion is None else Grid(motion @ self.grid.affine, self.grid.shape)
        rows = common.to_index_of(own)
        index = rows[:, :3] @ np.indices(common.shape).reshape(3, -1) + rows[:, 3:]
        high = np.array(own.shape)[:, None] - 0.5
        seen = ((index >= -0.5) & (index <= high)).all(0).reshape(common.shape)
        found = affine_transform(
            self.data, rows[:, :3], rows[:, 3], common.shape, order=1, mode="nearest"
        )
        return found, np.asarray(seen)


def aligned(moving: Volume, still: Volume) -> Alignment:
    """The rigid motion of `moving` onto `still`. Raises InputError where they do not overlap or do not agree."""
    common, blur_mm = _common_grid(moving, still)
    other = _Blurred.of(moving, blur_mm)
    first, seen = _Blurred.of(still, blur_mm).on(common)
    second, there = other.on(common)
    both = seen & there
    share = both.sum() / max(1, min(there.sum(), seen.sum()))
    if share < LEAST_SHARE:
        raise InputError(
            _source(moving), f"shares {100 * share:.0f} % of its field of view with {_name(still)}",
            "give volumes of the same part of the body",
        )  # fmt: skip
    middle = (common.affine @ [*(np.array(common.shape)[::-1] - 1) / 2, 1.0])[:3]
    arm = min(n * p for n, p in zip(common.shape, common.spacing_mm, strict=True)) / 2

    def agreement(moves: Array) -> float:
        moved, where = other.on(common, _rigid(moves, middle, arm))
        meets = seen & where
        return _correlation(first, moved, meets) if meets.sum() > _KEPT * both.sum() else -1.0

    before = _correlation(first, second, both)
    best, after = np.zeros(6), before
    shift = _shift(second * both, first * both, common)
    for start, free, worth in ((shift, 3, FINER), (best, 3, FINER), (None, 6, TURNED)):
        moves, found = _searched(agreement, best if start is None else start, free)
        if 1 - found < (1 - worth) * (1 - after):
            best, after = moves, found
    motion = _rigid(best, middle, arm)
    turn = math.degrees(float(np.linalg.norm(best[3:])) / arm)
    x, y, z = (float(v) for v in best[:3])
    moved, where = other.on(common, motion)
    a, b = first[seen & where], moved[seen & where]
    result = Alignment(motion, (x, y, z), turn, before, after, float(a @ b) / float(b @ b))
    _check(
        result,
        max(n * p for n, p in zip(common.shape, common.spacing_mm, strict=True)),
        moving,
        still,
    )
    return result


def _searched(agreement: Callable[[Array], float], start: Array, free: int) -> tuple[Array, float]:
    """The best of the first `free` moves by Powell's method, the others as they are."""
    found = minimize(
        lambda some: -agreement(np.concatenate([some, start[free:]])), start[:free], method="Powell",
        options={"xtol": 0.02, "ftol": 1e-5, "maxiter": 4, "direc": np.diag(_FIRST_STEPS_MM[:free])},
    )  # fmt: skip
    return np.concatenate([found.x, start[free:]]), -float(found.fun)


def _check(found: Alignment, longest_mm: float, moving: Volume, still: Volume) -> None:
    shift = float(np.linalg.norm(found.shift_mm))
    wild = found.turn_deg > LARGEST_TURN_DEG or shift > LARGEST_SHIFT_SHARE * longest_mm
    if found.correlation_after < LEAST_CORRELATION or wild:
        raise InputError(
            _source(moving),
            f"could not be laid on {_name(still)}: moved by {shift:.3g} mm and {found.turn_deg:.3g} degrees it "
            f"correlates with it by {found.correlation_after:.2f} (before: {found.correlation_before:.2f}; at least "
            f"{LEAST_CORRELATION} is expected)",
            "give views of one object with one contrast, or --register none where the scanner's places are right",
        )  # fmt: skip


def _common_grid(moving: Volume, still: Volume) -> tuple[Grid, float]:
    """Cubes over the first volume's field of view, and the blur that makes thick slices of both alike."""
    nz, ny, nx = still.data.shape
    source = Grid(still.affine, (nz, ny, nx))
    lengths = [n * p for n, p in zip(source.shape, source.spacing_mm, strict=True)]
    thickest = max(*still.spacing_mm, *moving.spacing_mm)
    pitch = max(max(lengths) / SIDE, thickest / 3)
    counts = [max(1, round(length / pitch)) for length in lengths]
    steps = np.array([pitch / p for p in source.spacing_mm])
    first = (np.array(source.shape) - 1) / 2 - (np.array(counts) - 1) / 2 * steps
    affine = source.affine.copy()
    affine[:3, 3] = (source.affine @ [*first[::-1], 1.0])[:3]
    affine[:3, :3] = source.affine[:3, :3] * steps[::-1]
    return Grid(affine, (counts[0], counts[1], counts[2])), SMEARED * thickest


def _shift(second: Array, first: Array, common: Grid) -> Array:
    """The shift in mm, then no turn: where phase correlation finds one."""
    try:
        voxels = register(second, first, (True, True, True)).shift
    except ConfigError:  # none that convinces: the search starts at rest, and the end is checked
        voxels = (0.0, 0.0, 0.0)
    return np.concatenate([common.affine[:3, :3] @ np.array(voxels[::-1]), np.zeros(3)])


def _rigid(moves: Array, middle: Array, arm_mm: float) -> Array:
    """4 x 4 of a shift in mm and a turn, an axis whose length is what it moves at the arm's end, in mm."""
    turn = Rotation.from_rotvec(moves[3:] / arm_mm).as_matrix()
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = middle + moves[:3] - turn @ middle
    return motion


def _correlation(a: Array, b: Array, where: NDArray[np.bool_]) -> float:
    """Pearson's, 0 where one of the two is constant."""
    a, b = a[where], b[where]
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else 0.0


def _source(volume: Volume) -> Path:
    return volume.source or Path("volume")


def _name(volume: Volume) -> str:
    return _source(volume).name
