"""Point spread functions in mm, and the blur of volumes taken out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

from restore.datasets.open import write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.pipelines.volume.blocks import Block
from restore.pipelines.volume.deblur import Deblur

SPACING = (1.0, 2.0, 2.5)


def volume(data: np.ndarray) -> Volume:
    return Volume(data.astype(np.float32), np.diag([*SPACING, 1.0]), "MR")


def smooth(shape: tuple[int, int, int] = (12, 18, 20)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return 500 + 100 * rng.standard_normal(shape)


def width_of(line: np.ndarray, spacing: float) -> float:
    """2.355 deviations of what a kernel does along one axis."""
    at = np.arange(len(line)) - len(line) // 2
    # Voxels are as wide as their spacing: that much a kernel of voxel means is wider.
    return 2.3548 * spacing * float(np.sqrt((line * at**2).sum() / line.sum() - 1 / 12))


def test_a_gaussian_has_its_widths_in_mm_along_every_axis() -> None:
    prepared = Deblur(psf="3,4,6", noise_level=1).prepare((volume(smooth((30, 30, 30))),))
    kernel = prepared.kernel
    assert kernel.sum() == pytest.approx(1, rel=1e-5)
    for axis, (width, spacing) in enumerate(zip((6, 4, 3), SPACING[::-1], strict=True)):
        line = kernel.sum(tuple(a for a in range(3) if a != axis))
        assert width_of(line, spacing) == pytest.approx(width, rel=0.01)  # cut at 3.5 deviations


def test_what_lies_beyond_the_borders_is_part_of_the_answer() -> None:
    """A part of a larger blurred object: the object explains it, and neither mirrors nor repeats."""
    object_ = smooth((30, 30, 30))
    prepared = Deblur(psf="3", noise_level=1).prepare((volume(object_),))
    blurred = scipy.ndimage.convolve(object_, prepared.kernel.astype(float))[8:20, 6:24, 5:25]
    prepared = Deblur(psf="3", noise_level=1).prepare((volume(blurred),))
    (block,) = prepared.blocks()
    problem = prepared.problem(block, torch.device("cpu"))
    d, h, w = (k // 2 for k in prepared.kernel.shape)
    x = torch.from_numpy(object_[8 - d : 20 + d, 6 - h : 24 + h, 5 - w : 25 + w]).float()
    # An FFT in single precision of values of 500: 1e-6 of them seen.
    np.testing.assert_allclose(problem.operator(x), problem.y, rtol=2e-5)
    np.testing.assert_array_equal(
        prepared.in_source_units(x[None], block)[0], object_[8:20, 6:24, 5:25].astype(np.float32)
    )


def test_the_problem_lies_where_the_volume_does() -> None:
    """What was measured comes back, borders taken off."""
    prepared = Deblur(psf="3", noise_level=1).prepare((volume(smooth()),))
    (block,) = prepared.blocks()
    problem = prepared.problem(block, torch.device("cpu"))
    unit = prepared.in_source_units(problem.operator.picture(problem.y)[None], block)
    np.testing.assert_allclose(unit[0], smooth(), rtol=1e-5)  # nothing but shifts of float32
    assert problem.planes == (0,)  # 2.5 mm and 1 mm: no square pixels
    at = Block(range(2, 5), range(0, 7))
    part = prepared.problem(at, torch.device("cpu"))
    assert part.y.shape == (7, 18, 20)
    assert prepared.in_source_units(part.observed[None], at).shape == (1, 7, 18, 20)


def test_a_file_of_the_point_spread_function(tmp_path: Path) -> None:
    path = write(volume(np.full((3, 3, 1), 2.0)), tmp_path / "psf.nii")
    task = Deblur(psf=str(path), noise_level=1)
    assert task.files == {"psf": path}
    assert task.told["psf"] == ""
    prepared = task.prepare((volume(smooth()),))
    np.testing.assert_allclose(prepared.kernel, np.full((3, 3, 1), 1 / 9), rtol=1e-6)
    assert "sums to 18" in prepared.notes[0]
    even = write(volume(np.ones((2, 3, 1))), tmp_path / "even.nii")
    with pytest.raises(InputError, match="odd sides"):
        Deblur(psf=str(even), noise_level=1).prepare((volume(smooth()),))
    wide = Volume(np.ones((3, 3, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match="its voxels are 1 x 1 x 1 mm"):
        Deblur(psf=str(write(wide, tmp_path / "other.nii")), noise_level=1).prepare(
            (volume(smooth()),)
        )


@pytest.mark.parametrize("psf", ["", "0", "-1", "1,2", "1,2,3,4", "nan", "500"])
def test_widths_that_cannot_be(psf: str) -> None:
    with pytest.raises(ConfigError, match="--psf"):
        Deblur(psf=psf, noise_level=1).prepare((volume(smooth()),))


def test_a_blur_wider_than_the_volume_is_refused() -> None:
    with pytest.raises(InputError, match="too large for"):
        Deblur(psf="20", noise_level=1).prepare((volume(smooth()),))
