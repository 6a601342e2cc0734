"""Thick slices made thin: where the result lies, what its problem is, views fused, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.front_door import solve_problem
from restore.pipelines.volume.blocks import Block
from restore.pipelines.volume.superres import PreparedSuperres, Superres
from tests.slab_ellipsoids import Ellipsoid, rotation

Array = NDArray[np.float64]

CPU = torch.device("cpu")
PLACE_MM = 1e-6
NOISE = 0.01
FITS = 1.15  # misfit of the truth: 1, but voxels are cut by 27 points; 1.03 seen
HEAD = Ellipsoid(np.array([1.0, -1.5, 0.5]), np.array([9.0, 12.0, 11.0]), rotation(0.3, -0.2, 0.5))
TURN = rotation(0.1, -0.2, 0.3)


def thick(
    turn: Array, spacing: float, thickness: float, shape: tuple[int, int, int], name: str = "thick"
) -> Volume:
    """Slices of the ellipsoid that are means of a tenth of a millimetre, by its voxels alone: no operator of ours."""
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 1.0, spacing]
    affine[:3, 3] = HEAD.centre_mm - affine[:3, :3] @ ((np.array(shape)[::-1] - 1) / 2)
    slices = []
    parts = 12
    for k in range(shape[0]):
        fine = affine.copy()
        fine[:3, 2] = turn[:, 2] * thickness / parts
        fine[:3, 3] = affine[:3, 3] + turn[:, 2] * (k * spacing + thickness * (0.5 / parts - 0.5))
        slices.append(HEAD.on_grid(fine, (parts, *shape[1:])).mean(0))
    data = np.array(slices) * 100 + 100 * NOISE * np.random.default_rng(0).standard_normal(shape)
    return Volume(data.astype(np.float32), affine, "MR", source=Path(name))


def prepared(task: Superres, *volumes: Volume) -> PreparedSuperres:
    return task.prepare(volumes)


def truth(found: PreparedSuperres, block: Block) -> torch.Tensor:
    """The ellipsoid on the grid of a block's problem, in units of the measurement."""
    part, _ = found._seen(block)
    share = HEAD.on_grid(part.affine, part.shape)
    return torch.from_numpy(100 * share - found.intensities.offset).float()


@pytest.mark.parametrize(
    ("thickness", "profile", "spacing"), [(4.0, "rect", 1.0), (3.0, "rect", 0.8), (4.0, "gauss:3.5", 4 / 3)]
)  # fmt: skip
def test_the_truth_explains_the_slices(thickness: float, profile: str, spacing: float):
    volume = thick(TURN, 4.0, thickness, (8, 30, 28))
    told = Superres(spacing=spacing, thickness=thickness, profile=profile, noise_level=100 * NOISE)
    found = prepared(told, volume)
    (block,) = found.blocks()
    problem = found.problem(block, CPU)
    misfit = problem.misfit(problem.scaling.to_unit(truth(found, block)))
    if profile == "rect":
        # Cells that do not end where slices do hold what is constant in none of them; 1.2 seen.
        assert misfit < (FITS if spacing == 1.0 else 2 * FITS)
    else:
        assert misfit > 1.5  # slices of another profile are not explained
    assert problem.planes == (2, 1)


def test_the_result_lies_where_the_slices_do():
    volume = thick(TURN, 4.0, 4.0, (8, 30, 28))
    result = prepared(Superres(spacing=1.0, in_plane=2.0), volume).result
    assert result.data.shape == (32, 60, 56)
    first = np.array([-0.25, -0.25, -0.375, 1])  # of the first thin voxel, in the old voxels
    np.testing.assert_allclose(result.affine[:, 3], volume.affine @ first, atol=PLACE_MM)
    np.testing.assert_allclose(result.spacing_mm, (0.5, 0.5, 1.0), atol=PLACE_MM)
    assert result.modality == "MR"


def test_overlapping_slices_see_beyond_the_field_of_view_and_the_result_does_not():
    volume = thick(np.eye(3), 3.0, 6.0, (9, 24, 24))
    found = prepared(Superres(spacing=1.0, thickness=6.0), volume)
    (block,) = found.blocks()
    problem = found.problem(block, CPU)
    assert problem.image_shape == (27 + 2 * 2, 24, 24)  # 1.5 mm more at either end
    seen = problem.operator(torch.ones(problem.image_shape))
    assert bool((seen > 0).all())
    units = found.in_source_units(
        torch.arange(31.0)[None, :, None, None].expand(1, 31, 24, 24), block
    )
    assert units.shape == (1, 27, 24, 24)
    assert float(units[0, 0, 0, 0]) == float(found.intensities.source(np.float32(2.0)))  # the third


def test_blocks_meet_the_slices_that_they_hold():
    volume = thick(np.eye(3), 4.0, 4.0, (8, 24, 24))
    found = prepared(Superres(spacing=1.0), volume)
    block = Block(range(8, 16), range(2, 22))
    problem = found.problem(block, CPU)
    assert problem.image_shape == (20, 24, 24)
    seen = problem.operator(torch.ones(20, 24, 24)) > 0
    # Slices 1 to 4 lie in it as a whole; those that it holds in part are not measured.
    inside = [bool(plane.any()) for plane in seen]
    assert sum(inside) == 4
    assert bool((problem.unit_y[~seen] == 0).all())


def test_views_across_each_other_say_more_than_one():
    axial, sagittal = np.eye(3), np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    one, two = thick(axial, 4.0, 4.0, (8, 30, 28)), thick(sagittal, 4.0, 4.0, (7, 32, 30))
    task = Superres(spacing=1.0, noise_level=100 * NOISE)
    errors = []
    for volumes in ((one,), (one, two)):
        found = prepared(task, *volumes)
        (block,) = found.blocks()
        problem = found.problem(block, CPU)
        wanted = truth(found, block)
        result = solve_problem(problem, sampler="tv", tv_axes="all", n_steps=30)
        errors.append(float((result.image - wanted).square().mean()))
        misfit = problem.misfit(problem.scaling.to_unit(wanted))
        assert misfit < FITS
    assert errors[1] < 0.3 * errors[0]  # a tenth seen
    assert problem.planes == (2, 1, 0)
    assert found.record["stacks"][1]["registered"]["turn_deg"] == 0


def test_what_a_user_must_know():
    found = prepared(Superres(spacing=0.5), thick(np.eye(3), 4.0, 4.0, (8, 24, 24)))
    assert any("taken as 4 mm, without a gap" in note for note in found.notes)
    assert any("8 voxels were made of every measured one" in note for note in found.notes)
    assert found.record["stacks"][0]["noise_from"] == "estimated"
    # Of a flat ellipsoid, whose edge is no noise to the median; 1.0 is right.
    assert found.record["stacks"][0]["noise_std"] == pytest.approx(1.0, rel=0.3)


def refused(volume: Volume, **told: object) -> str:
    with pytest.raises((ConfigError, InputError)) as caught:
        Superres(**told).prepare((volume,))  # type: ignore[arg-type]
    return str(caught.value)


def test_refusals():
    volume = thick(np.eye(3), 4.0, 4.0, (8, 24, 24))
    assert "coarser than the slices" in refused(volume, spacing=5.0)
    assert "lie so far apart already" in refused(volume, spacing=4.0)
    assert "at most 64 are made" in refused(volume, spacing=0.01)
    assert "more than four lie over each other" in refused(volume, spacing=1.0, thickness=20.0)
    assert "did you mean 'rect'" in refused(volume, spacing=1.0, profile="rekt")
    sheared = volume.affine.copy()
    sheared[0, 2] = 0.5
    tilted = Volume(volume.data, sheared, source=Path("tilted"))
    assert "7.13 degrees off a right angle" in refused(tilted, spacing=1.0)
    single = Volume(volume.data[:1], volume.affine, source=Path("single"))
    assert "one slice holds nothing" in refused(single, spacing=1.0)
    small = Volume(volume.data[:, :6, :6], volume.affine, source=Path("small"))
    assert "give --noise-level" in refused(small, spacing=1.0)


def test_views_of_other_units_are_refused():
    volume = thick(np.eye(3), 4.0, 4.0, (8, 24, 24))
    other = Volume(volume.data, volume.affine, "CT", "HU", source=Path("other"))
    with pytest.raises(InputError, match=r"CT, HU, and thick is MR"):
        Superres(spacing=1.0).prepare((volume, other))


def test_a_view_of_other_intensities_is_multiplied():
    sagittal = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    one, two = thick(np.eye(3), 4.0, 4.0, (8, 30, 28)), thick(sagittal, 4.0, 4.0, (7, 32, 30))
    brighter = Volume(1.5 * two.data, two.affine, "MR", source=Path("brighter"))
    found = prepared(Superres(spacing=1.0, noise_level=1.0), one, brighter)
    assert found.record["stacks"][1]["gain"] == pytest.approx(1 / 1.5, rel=0.02)  # of noisy views
    assert any("brighter: intensities multiplied by 0.6" in note for note in found.notes)
    assert found.stacks[1].noise_std == pytest.approx(1 / 1.5, rel=0.02)
    with pytest.raises(InputError, match="holds the same volume as thick"):
        prepared(Superres(spacing=1.0), one, Volume(one.data, one.affine, "MR"))


def test_wide_gaps_are_noted():
    notes = prepared(Superres(spacing=1.0, gap="3"), thick(np.eye(3), 4.0, 1.0, (8, 24, 24))).notes
    assert any("nothing was measured of 75 % of the object" in note for note in notes)


def test_pixels_that_are_far_from_squares_are_noted():
    notes = prepared(Superres(spacing=2.0), thick(np.eye(3), 4.0, 4.0, (8, 24, 24))).notes
    assert any("pixels of 2 x 1 mm" in note for note in notes)
