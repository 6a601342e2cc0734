"""Stacks laid on each other: known motions come back, and what cannot be laid on is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume
from restore.errors import InputError
from restore.operators.volume.slice_profile import SliceProfile
from restore.operators.volume.slice_stacks import Grid, thick_slices
from restore.pipelines.volume.alignment import aligned

Array = NDArray[np.float64]

WITHIN_MM = 0.8  # a fifth of the slices' thickness, at the head's surface; 0.2 seen
STILL = np.eye(3)
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SHAPE = (44, 40, 36)
GRID = Grid(np.array([[1.0, 0, 0, -18], [0, 1, 0, -20], [0, 0, 1, -22], [0, 0, 0, 1]]), SHAPE)
HEAD = torch.from_numpy(head_phantom(SHAPE).data.astype(np.float32))


def moved(turn: tuple[float, float, float], shift: tuple[float, float, float]) -> Array:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    motion[:3, 3] = shift
    return motion


def stack(
    turn: Array, shape: tuple[int, int, int], motion: Array, name: str, of: torch.Tensor = HEAD
) -> Volume:
    """4 mm slices with noise of a moved scanner, in which the header does not know of the motion."""
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 1.0, 4.0]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape)[::-1] - 1) / 2)
    y = thick_slices(GRID, Grid(motion @ affine, shape), SliceProfile("rect", 4.0))(of).numpy()
    noise = np.random.default_rng(0).standard_normal(y.shape) * 0.02 * float(of.max())
    return Volume((y + noise).astype(np.float32), affine, source=Path(name))


AXIAL = stack(STILL, (10, 36, 34), np.eye(4), "axial")


@pytest.mark.parametrize(
    ("turn", "shift"),
    [((0, 0, 0), (1.3, -2.2, 0.8)), ((0.08, -0.05, 0.1), (2.0, -3.0, 1.5))],
)
def test_a_known_motion_comes_back(turn: tuple[float, float, float], shift: tuple[float, float, float]):  # fmt: skip
    motion = moved(turn, shift)
    found = aligned(stack(SAGITTAL, (8, 40, 36), motion, "sagittal"), AXIAL)
    surface = np.array([[14, 0, 0, 1], [0, 14, 0, 1], [0, 0, 14, 1], [-14, 0, 0, 1]]).T
    off = np.linalg.norm((found.motion @ surface - motion @ surface)[:3], axis=0)
    assert off.max() < WITHIN_MM
    assert found.correlation_after > max(0.95, found.correlation_before)
    if not any(turn):
        assert found.turn_deg == 0  # axes stay parallel


def test_what_lies_right_is_not_moved():
    found = aligned(stack(SAGITTAL, (8, 40, 36), np.eye(4), "sagittal"), AXIAL)
    assert np.linalg.norm(found.shift_mm) < WITHIN_MM
    assert found.turn_deg == 0


def test_another_object_is_refused():
    noise = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    other = stack(SAGITTAL, (8, 40, 36), np.eye(4), "noise", of=noise)
    with pytest.raises(InputError, match="could not be laid on axial"):
        aligned(other, AXIAL)


def test_volumes_of_different_places_are_refused():
    far = AXIAL.affine.copy()
    far[2, 3] += 200
    with pytest.raises(InputError, match="shares 0 % of its field of view with axial"):
        aligned(Volume(AXIAL.data, far, source=Path("far")), AXIAL)
