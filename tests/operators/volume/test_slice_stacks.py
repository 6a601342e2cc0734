"""Stacks of thick slices: ellipsoids in closed form whatever the orientation, nibabel's geometry, ends, no overlap."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from nibabel.affines import rescale_affine
from numpy.typing import NDArray

from restore.errors import ConfigError
from restore.operators.base import Compose
from restore.operators.volume.axis_sampling import AxisSampling
from restore.operators.volume.slice_profile import SliceProfile
from restore.operators.volume.slice_stacks import Grid, thick_slices
from tests.slab_ellipsoids import Ellipsoid, rotation

Array = NDArray[np.float64]

PLACE_MM = 1e-9  # float64 affines of 100 mm
SINGLE = 2e-5  # matrices kept in float32, rows added up to one
VOXELISED = 0.01  # 27 points a voxel on ellipsoids of 10 to 16 mm; 1e-3 seen
MIDDLE_MM = 0.05  # of voxelised slabs; 5e-3 seen
RESAMPLED = 0.03  # trilinear between voxels of 1 mm blurs the outer slabs; 8e-3 seen

HEAD = Ellipsoid(np.array([3.0, -2.0, 1.5]), np.array([11.0, 16.0, 13.0]), rotation(0.3, -0.2, 0.5))


def affine(
    spacing_mm: tuple[float, ...], first_mm: tuple[float, ...], turn: Array | None = None
) -> Array:
    """RAS, spacing along x, y and z."""
    result = np.eye(4)
    result[:3, :3] = (np.eye(3) if turn is None else turn) * spacing_mm
    result[:3, 3] = first_mm
    return result


def stack_about(turn: Array, shape: tuple[int, int, int], spacing: tuple[float, ...]) -> Grid:
    """A stack in this direction about the ellipsoid, a little off its middle. spacing: along x, y and z."""
    middle = (np.array(shape)[::-1] - 1) / 2
    first = HEAD.centre_mm + np.array([0.3, -0.4, 0.2]) - turn * spacing @ middle
    return Grid(affine(spacing, tuple(first), turn), shape)


def check_slabs(op_output: Array, stack: Grid, thickness_mm: float, tolerance: float) -> None:
    normal = stack.affine[:3, 2] / np.linalg.norm(stack.affine[:3, 2])
    pixel = float(np.linalg.norm(stack.affine[:3, 0]) * np.linalg.norm(stack.affine[:3, 1]))
    whole = 4 / 3 * np.pi * np.prod(HEAD.semi_axes_mm) / stack.shape[0]
    rows, columns = np.indices(stack.shape[1:])
    for k, image in enumerate(op_output):
        at = normal @ (stack.affine @ [0, 0, k, 1])[:3]
        volume, middle = HEAD.slab(normal, at - thickness_mm / 2, at + thickness_mm / 2)
        found = image.sum() * pixel * thickness_mm
        assert found == pytest.approx(volume, abs=tolerance * whole)
        if volume > 0.5 * whole:
            index = [
                (columns * image).sum() / image.sum(),
                (rows * image).sum() / image.sum(),
                k,
                1,
            ]
            # Across the normal: within a slab a slice does not tell heights apart.
            off = (stack.affine @ index)[:3] - middle
            assert np.linalg.norm(off - normal * (normal @ off)) < MIDDLE_MM


GRID = Grid(affine((1.0, 1.0, 1.0), (-20.0, -22.0, -19.5)), (42, 40, 46))
IMAGE = torch.from_numpy(HEAD.on_grid(GRID.affine, GRID.shape)).float()
QUARTERS = {
    "axial": np.eye(3),
    "from the head down": np.diag([1.0, -1.0, -1.0]),
    "sagittal": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "coronal": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}


@pytest.mark.parametrize("name", QUARTERS)
def test_slabs_of_an_ellipsoid_parallel_to_the_grid(name: str):
    """Slices of 3.2 mm every 4.1 mm, pixels of 1.3 mm: no ratio is whole."""
    stack = stack_about(QUARTERS[name], (8, 26, 27), (1.3, 1.3, 4.1))
    op = thick_slices(GRID, stack, SliceProfile("rect", 3.2))
    assert isinstance(op, AxisSampling)
    check_slabs(op(IMAGE).numpy(), stack, 3.2, VOXELISED)


def test_slabs_of_an_ellipsoid_oblique_to_the_grid():
    stack = stack_about(rotation(0.25, -0.15, 0.4), (8, 26, 27), (1.3, 1.3, 4.1))
    op = thick_slices(GRID, stack, SliceProfile("rect", 3.2))
    assert isinstance(op, Compose)
    assert op.kind == "mri"
    check_slabs(op(IMAGE).numpy(), stack, 3.2, RESAMPLED)


def test_a_small_turn_gives_nearly_what_none_does():
    """The two ways of one operator meet: a turn just above what counts as parallel."""
    straight, turned = (
        stack_about(rotation(0, angle, 0), (8, 26, 27), (1.3, 1.3, 4.1)) for angle in (0, 1.2e-3)
    )
    profile = SliceProfile("gauss", 3.0)
    smooth = torch.from_numpy(
        np.exp(-(np.linalg.norm(np.indices(GRID.shape).T - 20, axis=-1).T ** 2) / 200)
    ).float()
    first, second = (thick_slices(GRID, stack, profile) for stack in (straight, turned))
    assert isinstance(first, AxisSampling)
    assert isinstance(second, Compose)
    y, z = first(smooth), second(smooth)
    seen = z != 0
    # Half a voxel of linear interpolation, and 0.02 voxels of a turn, of an object 10 voxels wide.
    assert float((y - z)[seen].abs().max()) < 0.01


def test_flat_volumes_stay_flat_wherever_a_stack_sees_them():
    for turn in (np.eye(3), rotation(0.3, 0.2, -0.4)):
        stack = stack_about(turn, (12, 40, 40), (1.3, 1.3, 4.1))  # larger than the grid
        y = thick_slices(GRID, stack, SliceProfile("gauss", 4.0))(torch.ones(GRID.shape))
        assert 0 < float((y == 0).float().mean()) < 1  # some of it lies beyond
        assert float(y[y != 0].min()) > 1 - SINGLE
        assert float(y.max()) < 1 + SINGLE


@pytest.mark.parametrize("spacing", [1.0, 5 / 3, 1.25])
def test_a_thin_grid_is_nibabels(spacing: float):
    """5 slices of 5 mm in odd numbers of cells: nibabel keeps the middle voxel's place."""
    turned = affine((0.8, 0.9, 5.0), (-30.0, 12.0, 7.0), rotation(0.1, 0.2, 0.3))
    grid = Grid(turned, (5, 7, 9)).refined(spacing)
    if grid.shape[0] % 2:
        wanted = rescale_affine(turned, (9, 7, 5), (0.8, 0.9, spacing), grid.shape[::-1])
        np.testing.assert_allclose(grid.affine, wanted, atol=PLACE_MM)
    assert grid.spacing_mm == pytest.approx((spacing, 0.9, 0.8))
    corners = [(turned @ [0, 0, k, 1])[:3] for k in (-0.5, 4.5)]
    ends = [(grid.affine @ [0, 0, k, 1])[:3] for k in (-0.5, grid.shape[0] - 0.5)]
    beyond = (grid.shape[0] * spacing - 25.0) / 2
    assert 0 <= beyond < spacing / 2
    normal = turned[:3, 2] / 5
    np.testing.assert_allclose(
        ends, [corners[0] - beyond * normal, corners[1] + beyond * normal], atol=PLACE_MM
    )


def test_the_first_thin_slice_lies_half_a_slice_before_the_first_thick_one():
    grid = Grid(affine((1.0, 1.0, 6.0), (0.0, 0.0, 100.0)), (10, 4, 4)).refined(1.5, 2.0)
    np.testing.assert_allclose(grid.affine[:3, 3], [-0.25, -0.25, 97.75], atol=PLACE_MM)
    assert grid.shape == (40, 8, 8)


def test_parts_of_a_grid_lie_where_they_did():
    part = GRID.part(-2, 5)
    assert part.shape == (7, 40, 46)
    for k in (-2, 4):
        np.testing.assert_allclose(
            part.affine @ [3, 4, k + 2, 1], GRID.affine @ [3, 4, k, 1], atol=PLACE_MM
        )


def test_a_stack_along_its_own_grid_changes_nothing():
    op = thick_slices(GRID, GRID, SliceProfile("rect", 1.0), "ct")
    assert isinstance(op, AxisSampling)
    assert op.matrices == (None, None, None)
    assert op.kind == "ct"
    assert torch.equal(op(IMAGE), IMAGE)


def test_canonical_orientation_of_nibabel():
    """A sagittal stack is the axial one with its axes exchanged as nibabel's canonical image has them."""
    stack = stack_about(QUARTERS["sagittal"], (9, 20, 21), (1.0, 1.0, 3.0))
    y = thick_slices(GRID, stack, SliceProfile("rect", 3.0))(IMAGE).numpy()
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(y.T, stack.affine))
    same = Grid(canonical.affine, canonical.shape[::-1])
    # Seen along its own axes: the profile lies along x now, so it is the pixels' width.
    z, x = (
        thick_slices(GRID, same, SliceProfile("rect", 1.0))(IMAGE).numpy(),
        canonical.get_fdata().T,
    )
    np.testing.assert_allclose(x, z, atol=SINGLE)


def test_no_overlap_is_refused():
    for turn in (np.eye(3), rotation(0.3, 0.2, -0.4)):
        away = stack_about(turn, (8, 26, 27), (1.3, 1.3, 4.1))
        far = away.affine.copy()
        far[:3, 3] += 500
        with pytest.raises(ConfigError, match="same place"):
            thick_slices(GRID, Grid(far, away.shape), SliceProfile("rect", 4.0))
