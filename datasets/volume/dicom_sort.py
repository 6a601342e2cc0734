"""The slices of a DICOM series put in order by where they lie, or refused with the reason.

May be called by the DICOM reader and writer. Works on headers in memory; touches no files. Nothing
is interpolated, left out or guessed: a series that is not one stack of evenly spaced, parallel
slices is refused.

DICOM positions are in LPS (x to the left, y to the back) and the affine of a `Volume` in RAS, so
both change the sign of x and y. Voxel (i, j) of a slice lies at (DICOM PS3.3, C.7.6.2.1.1)

    position + i * column_spacing * row_direction + j * row_spacing * column_direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from restore.errors import InputError

Vector = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

SPACING_TOLERANCE = 0.05
"""How far a slice may lie from its place in an even stack, as a fraction of the slice distance."""

DUPLICATE_FRACTION = 0.05
"""Slices nearer than this fraction of the usual distance lie in one place."""

TILT_DEGREES = 0.1
"""The largest angle between the stack and the normal of its slices."""

DIRECTION_TOLERANCE = 1e-3
"""How far a direction cosine may be off, between slices and from unit length."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one slice lies: `position` of its first voxel, `row` (the direction in which the column
    index grows) and `column`, all LPS; `spacing_mm` between columns and between rows; `shape`
    (rows, columns); `name` for messages.
    """

    name: str
    position: Vector
    row: Vector
    column: Vector
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice."""
        normal = np.cross(self.row, self.column)
        return np.asarray(normal / np.linalg.norm(normal))


def plane_of(dataset: Dataset, name: str) -> Plane:
    """Read the place of a slice from its header. Raises InputError naming the missing tag."""
    position = np.array(numbers(dataset, "ImagePositionPatient", 3, name))
    cosines = np.array(numbers(dataset, "ImageOrientationPatient", 6, name))
    between_rows, between_columns = numbers(dataset, "PixelSpacing", 2, name)
    rows, columns = (int(numbers(dataset, tag, 1, name)[0]) for tag in ("Rows", "Columns"))
    row, column = cosines[:3], cosines[3:]
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > DIRECTION_TOLERANCE or abs(row @ column) > DIRECTION_TOLERANCE:
        why = f"ImageOrientationPatient {cosines.tolist()} is not two perpendicular directions"
        raise InputError(name, why)
    if min(between_rows, between_columns) <= 0:
        raise InputError(name, f"PixelSpacing is {between_rows}, {between_columns}, not positive")
    if min(rows, columns) < 1:
        raise InputError(name, f"the image has {rows} rows and {columns} columns")
    return Plane(name, position, row, column, (between_columns, between_rows), (rows, columns))


def numbers(dataset: Dataset, keyword: str, count: int, name: str) -> list[float]:
    """Return the finite numbers of a tag. Raises InputError where it is missing or is none."""
    try:
        value = dataset[keyword].value
        found = [float(v) for v in (value if count > 1 else [value])]
    except KeyError:
        raise InputError(name, f"the DICOM tag {keyword} is missing", "export it again") from None
    except (ValueError, TypeError, OverflowError) as cause:
        raise InputError(name, f"the DICOM tag {keyword} is not a number") from cause
    if len(found) != count or not np.isfinite(found).all():
        raise InputError(name, f"the DICOM tag {keyword} is {found}, expected {count} number(s)")
    return found


def optional_number(dataset: Dataset, keyword: str) -> float:
    """A number of a header that is not needed, 0 where there is none."""
    try:
        value = float(dataset.get(keyword) or 0)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return value if np.isfinite(value) else 0.0


def sort_planes(
    planes: Sequence[Plane], path: str | Path, thickness_mm: float, resample: bool = False
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the order of the slices along their normal and the affine (RAS) of the stack.

    path: for messages; thickness_mm: the slice distance of a "stack" of one. resample: uneven
    and sheared stacks pass, as they will be interpolated. Raises InputError for mixed
    sizes or directions, duplicates, gaps, uneven distances and sheared (tilted) stacks.
    """
    first = planes[0]
    _refuse_mixed(planes, path)
    along = np.array([plane.position @ first.normal for plane in planes])
    order = [int(i) for i in np.argsort(along, kind="stable")]
    positions = np.array([planes[i].position for i in order])
    if len(planes) == 1:
        step = first.normal * thickness_mm
    else:
        _refuse_duplicates([planes[i].name for i in order], along[order], path)
        step = (positions[-1] - positions[0]) / (len(planes) - 1)
        if not resample:
            _refuse_gaps([planes[i].name for i in order], along[order], path)
            _refuse_tilt(step, first.normal, path)
            _refuse_scatter(positions, step, path)
    affine = np.eye(4)
    affine[:3, 0] = first.row * first.spacing_mm[0]
    affine[:3, 1] = first.column * first.spacing_mm[1]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return order, LPS_TO_RAS @ affine


def spacing_note(planes: Sequence[Plane], step_mm: float, told_mm: float) -> list[str]:
    """A note where the header tells another distance of the slices than their places do; told_mm 0 tells nothing."""
    if len(planes) < 2 or not told_mm or abs(abs(told_mm) - step_mm) <= SPACING_TOLERANCE * step_mm:
        return []
    return [
        f"SpacingBetweenSlices is {told_mm:g} mm, the slices lie {step_mm:.4g} mm apart: their places were taken"
    ]


def _refuse_mixed(planes: Sequence[Plane], path: str | Path) -> None:
    first = planes[0]
    for plane in planes:
        if plane.shape != first.shape:
            why = f"slices of different size: {first.shape} in {first.name}, {plane.shape} in "
            raise InputError(path, why + plane.name, "keep one kind of image in the folder")
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-4):
            why = f"slices of different pixel spacing ({first.name}, {plane.name})"
            raise InputError(path, why, "keep one kind of image in the folder")
        turn = max(np.abs(plane.row - first.row).max(), np.abs(plane.column - first.column).max())
        if turn > DIRECTION_TOLERANCE:
            why = f"slices in different directions ({first.name}, {plane.name}): mixed orientation"
            raise InputError(path, why, "is it a localizer? give each direction its own folder")


def _refuse_duplicates(names: Sequence[str], along: Vector, path: str | Path) -> None:
    """Refuse slices that lie in one place; along: sorted positions on the normal, mm."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if usual <= 0 or gaps.min() < DUPLICATE_FRACTION * usual:
        k = int(gaps.argmin())
        n = int((gaps < DUPLICATE_FRACTION * max(usual, 1e-6)).sum())
        why = f"duplicate slices: {n} lie where another one lies, as {names[k]} and {names[k + 1]}"
        raise InputError(path, why, "several echoes or time points? give each its own folder")


def _refuse_gaps(names: Sequence[str], along: Vector, path: str | Path) -> None:
    """Refuse missing slices; along: sorted positions on the normal, mm."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    wide = int(gaps.argmax())
    ratio = float(gaps[wide]) / usual
    lost = round(ratio) - 1
    if lost >= 1 and abs(ratio - round(ratio)) < 0.2:
        why = (
            f"missing slice: {lost} between {names[wide]} and {names[wide + 1]}, which are "
            f"{gaps[wide]:.4g} mm apart instead of {usual:.4g} mm"
        )
        todo = "export the series again, give the parts their own folders, or --resample to interpolate"
        raise InputError(path, why, todo)


def _refuse_tilt(step: Vector, normal: Vector, path: str | Path) -> None:
    cosine = float(np.clip(step @ normal / np.linalg.norm(step), -1, 1))
    sideways = float(np.linalg.norm(step - normal * (step @ normal)) / np.linalg.norm(step))
    tilt = float(np.degrees(np.arctan2(sideways, cosine)))
    if tilt > TILT_DEGREES:
        why = f"the stack is sheared by {tilt:.3g} degrees (gantry tilt)"
        raise InputError(path, why, "--resample makes a straight volume of it, by interpolation")


def _refuse_scatter(positions: Vector, step: Vector, path: str | Path) -> None:
    even = positions[0] + np.arange(len(positions))[:, None] * step
    distance = float(np.linalg.norm(step))
    off = np.linalg.norm(positions - even, axis=1)
    if off.max() > SPACING_TOLERANCE * distance:
        gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        why = (
            f"uneven slice spacing: {gaps.min():.4g} to {gaps.max():.4g} mm, slice "
            f"{int(off.argmax())} is {off.max():.3g} mm from its place in an even stack"
        )
        raise InputError(path, why, "--resample interpolates it to even spacing")
