"""What a NIfTI header says about the place of its voxels.

Used by the NIfTI reader and writer; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from restore.datasets.volume.volume import affine_problem
from restore.errors import InputError

HEADER_BYTES = 540
"""Length of a NIfTI-2 header; one of NIfTI-1 has 348."""

SIZES_ALIKE = 0.01
"""Share by which voxel sizes may differ: some programs round them to two digits behind the point."""

APART_VOXELS = 0.01
"""Far above the rounding of single precision, in which the header holds both, far below what matters."""

NO_INTENSITIES = (
    (range(2, 25), "those of a statistic"),
    (range(1002, 1003), "labels"),
    (range(1003, 1010), "components of vectors or tensors"),
)
"""Intent codes of the format, and what they say that the values are."""

MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres per unknown unit, metre, millimetre and micrometre, by the low bits of xyzt_units."""

SECONDS_PER_UNIT = {8: 1.0, 16: 1e-3, 24: 1e-6}
"""Seconds per second, millisecond and microsecond, by the bits of xyzt_units that tell the unit of time."""

TIME_BITS = 0x38


def affine_of(
    file: Path, header: Any, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return a header's affine in mm and notes on what was assumed.

    shape: (nz, ny, nx); the voxel sizes matter only where no sform stands. Raises InputError.
    """
    notes = []
    sizes = np.array(header["pixdim"][1:4], dtype=np.float64)
    bad = [i for i in range(3) if not (np.isfinite(sizes[i]) and sizes[i] > 0)]
    if int(header["sform_code"]) > 0:
        affine = np.array(header.get_sform(), dtype=np.float64)
        if bad:
            notes.append("voxel sizes in the header are not positive; the sform was used instead")
        else:
            notes += _disagreement(header, shape)
    else:
        if any(shape[2 - i] > 1 for i in bad):
            why = f"its voxel sizes are {sizes.tolist()} and no sform says what they are"
            raise InputError(file, why, "set the voxel sizes in the header")
        fixed = header.copy()
        for i in bad:
            fixed["pixdim"][1 + i] = 1
            notes.append(f"voxel size along {'xyz'[i]} is not given; it has one voxel, 1 was taken")
        if int(header["qform_code"]) > 0:
            affine = _qform(file, fixed, notes)
        else:
            affine = np.array(fixed.get_base_affine(), dtype=np.float64)
            notes.append("no orientation in the header (both codes 0): left and right are a guess")
    problem = affine_problem(affine)
    if problem:
        raise InputError(file, problem, "the header is damaged: export it again")
    affine[:3] *= mm_per_unit(header)
    unit = int(header["xyzt_units"]) & 7
    if unit in (1, 3):
        notes.append("positions were in " + ("metres" if unit == 1 else "micrometres"))
    elif unit not in MM_PER_UNIT:
        notes.append(f"the unit of length has a code without a meaning ({unit}): mm was taken")
    return affine, notes


def _qform(file: Path, header: Any, notes: list[str]) -> NDArray[np.float64]:
    """The affine of a quaternion; its third axis has the sign of pixdim[0], +1 where that is none, as the format says.

    Raises InputError for a quaternion that is no rotation.
    """
    if float(header["pixdim"][0]) not in (1.0, -1.0):
        notes.append(
            "the qform does not say to which side its third axis points (pixdim[0]): +1 was taken"
        )
        header["pixdim"][0] = 1
    try:
        return np.array(header.get_qform(), dtype=np.float64)
    except ValueError as cause:
        parts = [float(header[f"quatern_{letter}"]) for letter in "bcd"]
        why = f"its qform is no rotation: quaternion {parts}, longer than 1"
        raise InputError(file, why, "set a qform or sform in the header") from cause


def meaning_notes(header: Any) -> list[str]:
    """A note where the values of a file are said to be no intensities: its intent code."""
    code = int(header["intent_code"])
    what = next((what for codes, what in NO_INTENSITIES if code in codes), "")
    return [f"its values are {what}, not intensities (intent code {code})"] if what else []


def check_time(file: Path, header: Any) -> None:
    """Refuse a series whose volumes do not follow each other in time: components along a later axis (InputError)."""
    dims = [int(d) for d in header["dim"]]
    intent = int(header["intent_code"])
    if dims[4] == 1 or intent in range(1002, 1010):
        sizes = dims[1 : dims[0] + 1]
        why = f"its volumes are no frames over time (dimensions {sizes}, intent code {intent})"
        raise InputError(file, why, "choose one of them: --volume N")


def frame_seconds(header: Any, notes: list[str]) -> float | None:
    """Seconds between the volumes of a series, None where the header does not tell them, which is noted."""
    step, unit = float(header["pixdim"][4]), int(header["xyzt_units"]) & TIME_BITS
    if not (np.isfinite(step) and step > 0):
        notes.append(f"the header tells no time between volumes (pixdim[4] is {step:g})")
        return None
    if unit not in (0, *SECONDS_PER_UNIT):
        notes.append(f"the header counts its volumes in no unit of time (code {unit})")
        return None
    if unit == 0:
        notes.append(f"the unit of time is not told: {step:g} s between volumes was taken")
    return step * SECONDS_PER_UNIT.get(unit, 1.0)


def mm_per_unit(header: Any) -> float:
    """Millimetres per unit of length of a header."""
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def qform_from_sform(header: Any) -> NDArray[np.float64] | None:
    """The map, in mm, from where the sform puts a voxel to where the qform does.

    None where one of them has no code or is damaged. The two differ for instance after a registration: the qform then
    tells the place in the scanner, the sform that in an atlas.
    """
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return None
    try:
        both = [np.array(m, dtype=np.float64) for m in (header.get_qform(), header.get_sform())]
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        return None  # of a damaged qform, which nothing here uses
    if any(affine_problem(affine) for affine in both):
        return None
    qform, sform = (np.diag([mm_per_unit(header)] * 3 + [1.0]) @ affine for affine in both)
    return np.asarray(qform @ np.linalg.inv(sform))


def _other_sizes(header: Any, shape: tuple[int, int, int]) -> list[str]:
    """A note on voxel sizes that nothing but the sform contradicts; programs that write the one forget the other."""
    sizes = np.array(header["pixdim"][1:4], dtype=np.float64)
    placed = np.linalg.norm(np.array(header.get_sform(), dtype=np.float64)[:3, :3], axis=0)
    unlike = np.abs(sizes - placed) > SIZES_ALIKE * placed
    if not any(unlike[i] and shape[2 - i] > 1 for i in range(3)):
        return []
    told, taken = (" x ".join(f"{v:.4g}" for v in each) for each in (sizes, placed))
    return [f"voxel sizes in the header are {told}, by the sform {taken}: the sform was used"]


def _disagreement(header: Any, shape: tuple[int, int, int]) -> list[str]:
    """A note where qform and sform put a corner voxel in two places, or the sform has other voxels than the header."""
    move = qform_from_sform(header)
    if move is None:
        return _other_sizes(header, shape)
    sform = np.diag([mm_per_unit(header)] * 3 + [1.0]) @ header.get_sform()
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape[::-1]], indexing="ij")).reshape(3, 8)
    places = sform @ np.vstack([corners, np.ones(8)])
    apart = float(np.linalg.norm((move @ places - places)[:3], axis=0).max())
    if apart <= APART_VOXELS * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
        return []
    return [
        f"sform and qform put voxels up to {apart:.3g} mm apart: the sform was used, both are kept"
    ]
