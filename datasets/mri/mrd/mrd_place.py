"""Where the slices of an ISMRMRD file lie in the patient: positions and directions of acquisitions as an affine.

May be called by the readers of raw data; touches nothing but its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.mri.fastmri_files.fastmri_header import Header
from restore.errors import InputError

UNIT = 1e-2
"""How far the length of a direction may lie from one, and two directions from a right angle."""

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def check_directions(heads: NDArray[Any], slices: list[int], path: Path) -> None:
    """Raise InputError for slices that are not parallel, as those of a localiser."""
    names = ("read_dir", "phase_dir", "slice_dir")
    first = [heads[np.flatnonzero(heads["idx"]["slice"] == n)[0]] for n in slices]
    frames = [np.concatenate([head[name] for name in names]).astype(float) for head in first]
    kinds: list[int] = []
    for k, frame in enumerate(frames):
        if not any(np.allclose(frame, frames[j], atol=UNIT) for j in kinds):
            kinds.append(k)
    if len(kinds) > 1:
        which = ", ".join(str(slices[k]) for k in kinds[:8])
        raise InputError(
            path,
            f"its {len(slices)} slices lie in {len(kinds)} directions, as those of a localiser",
            f"read one by --select slice=N, such as {which}",
        )


def affine_of(
    heads: NDArray[Any], slices: list[int], shape: tuple[int, int], pitch: tuple[float, float], header: Header,
    notes: list[str], partitions: int = 1,
) -> NDArray[np.float64]:  # fmt: skip
    """Voxel (column, row, slice) -> RAS mm. shape, pitch: (rows, columns) and their distances in mm. partitions: of a
    volume, whose slices are as many.

    Rows run along read_dir, columns along phase_dir; the position is that of the pixel (rows // 2, columns // 2), of a
    volume in slice partitions // 2.
    Without directions that are unit and at right angles the image lies about the origin, which is noted.
    """
    first = np.array([np.flatnonzero(heads["idx"]["slice"] == n)[0] for n in slices])
    names = ("read_dir", "phase_dir", "slice_dir")
    read, phase, through = (heads[name][first[0]].astype(float) for name in names)
    frame = np.stack([phase, read, through], axis=1)
    thickness = header.fov_mm[2] / max(header.recon[2], 1)
    if partitions > 1:
        thickness = header.encoded_fov_mm[2] / partitions
    steps = np.array([pitch[1], pitch[0], thickness])
    affine = np.eye(4)
    if not np.allclose(frame.T @ frame, np.eye(3), atol=UNIT):
        notes.append("the file tells no directions: the image lies about the origin")
        affine[:3, :3] = np.diag(steps)
        affine[:3, 3] = -steps * np.array([shape[1] // 2, shape[0] // 2, partitions // 2])
        return affine
    places = heads["position"][first].astype(float)
    step = through * thickness
    if len(slices) > 1:
        step = (places[-1] - places[0]) / (len(slices) - 1)
        even = np.allclose(
            places, places[0] + np.arange(len(slices))[:, None] * step, atol=0.01 * thickness
        )
        if not even or not np.linalg.norm(step):
            notes.append(
                "slices are not evenly spaced: neighbours are taken to be one thickness apart"
            )
            step = through * thickness
    columns = np.stack([phase * pitch[1], read * pitch[0], step], axis=1)
    corner = places[0] - columns @ np.array([shape[1] // 2, shape[0] // 2, partitions // 2])
    affine[:3, :3], affine[:3, 3] = LPS_TO_RAS[:, None] * columns, LPS_TO_RAS * corner
    return affine
