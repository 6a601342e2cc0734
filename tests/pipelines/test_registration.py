"""Shifts are found, applied and told right in two and three dimensions, and refused where they do not convince."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from skimage import data as samples

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.pipelines.evaluate import evaluate_photograph, evaluate_volume
from restore.pipelines.registration import register

BOTH = (True, True)


def moved_pair(by: tuple[float, float], name: str = "camera") -> tuple[np.ndarray, np.ndarray]:
    """A photograph moved by so many (rows, columns), and itself; both cut out of a larger one."""
    whole = getattr(samples, name)() / 255.0
    cut = (slice(100, 228), slice(120, 260))
    return shift(whole, by, order=5)[cut], whole[cut]


@pytest.mark.parametrize("by", [(3.3, -5.7), (0.4, 0.25), (-20.5, 13.0)])
@pytest.mark.parametrize("name", ["camera", "coins"])
def test_a_known_shift_is_found(by, name):
    moved, still = moved_pair(by, name)
    noise = np.random.default_rng(0).normal(0, 0.05, moved.shape)
    for image in (moved, moved + noise, 0.3 * gaussian_filter(moved, 1.5) + 7):
        found = register(image, still, BOTH)
        # A twentieth of a pixel is the search's grid; blurred and noisy images may miss by two.
        np.testing.assert_allclose(found.shift, (-by[0], -by[1]), atol=0.15)
        assert found.correlation_after > max(found.correlation_before, 0.85)
    assert register(moved, still, BOTH).correlation_after > 0.99


def test_what_lies_right_is_left_alone():
    still = moved_pair((0, 0))[1]
    for noise in (0.0, 0.2):
        image = still + np.random.default_rng(1).normal(0, noise, still.shape)
        found = register(image, still, BOTH)
        assert found.shift == (0, 0)
        assert found.image is image
        assert found.correlation_before == found.correlation_after


def test_the_arguments_stay_as_they_are():
    moved, still = moved_pair((2.5, 1.5))
    kept = moved.copy(), still.copy()
    found = register(moved, still, BOTH)
    assert np.array_equal(moved, kept[0])
    assert np.array_equal(still, kept[1])
    assert found.inside == (slice(4, 124), slice(3, 137))  # ceil(2.5) + 1 and ceil(1.5) + 1


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (moved_pair((0, 0), "moon")[1], "shift"),
        (np.random.default_rng(2).normal(size=(128, 140)), "shift"),
        (np.ones((128, 140)), "constant"),
        (moved_pair((0, 50))[0], "shift"),
    ],
    ids=["another picture", "noise", "nothing", "too far"],
)
def test_what_does_not_convince_is_refused(image, why):
    with pytest.raises(ConfigError, match=f"{why}.*--align"):
        register(image, moved_pair((0, 0))[1], BOTH)


def test_too_few_samples():
    with pytest.raises(ConfigError, match="8 along an axis"):
        register(np.ones((7, 20)), np.ones((7, 20)), (True, False))


def brain(by: tuple[float, float, float] = (0, 0, 0), n: int = 24) -> np.ndarray:
    """A (z, y, x) volume of blobs, moved."""
    rng = np.random.default_rng(3)
    whole = gaussian_filter(rng.random((n + 16, n + 24, n + 28)), 2)
    return (1e4 * shift(whole, by, order=5)[8:-8, 8:-8, 8:-8]).astype(np.float32)


AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1]])
"""x runs to the front with 1.5 mm, y to the left with 2 mm, z to the head with 3 mm."""


def test_a_volume_is_moved_in_three_dimensions():
    """(z, y, x) = (1.4, -2.2, 0.6) voxels: x 0.9 mm to the front, y 4.4 mm to the right, z 4.2 mm up."""
    reference = Volume(brain(), AFFINE)
    image = Volume(brain((1.4, -2.2, 0.6)), AFFINE)
    found = evaluate_volume(image, reference, align=True)
    assert found.alignment is not None
    np.testing.assert_allclose(found.alignment.shift_pixels, (-0.6, 2.2, -1.4), atol=0.1)
    np.testing.assert_allclose(found.alignment.shift_mm, (-4.4, -0.9, -4.2), atol=0.3)
    assert found.alignment.distance_mm == pytest.approx(np.linalg.norm((4.4, 0.9, 4.2)), abs=0.3)
    assert found.alignment.correlation_after > 0.99 > found.alignment.correlation_before
    assert found.slices == tuple(range(3, 21))  # ceil(1.4) + 1 slices at each end are not known
    assert found.psnr > evaluate_volume(image, reference).psnr + 10
    # The range is the reference's over all slices, so that it does not depend on the shift.
    assert found.data_range == pytest.approx(float(reference.data.max()))


def test_axes_of_the_reference_may_run_otherwise():
    """The image's axes are the reference's, turned and exchanged; its own are reported."""
    reference = Volume(brain(), AFFINE)
    turn = np.array([[0, 0, 1, 0], [0, -1, 0, 31], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    data = brain((1.4, -2.2, 0.6)).transpose(2, 1, 0)[:, ::-1]
    found = evaluate_volume(Volume(data, AFFINE @ turn), reference, align=True)
    assert found.alignment is not None
    np.testing.assert_allclose(found.alignment.shift_mm, (-4.4, -0.9, -4.2), atol=0.3)
    np.testing.assert_allclose(found.alignment.shift_pixels, (-1.4, -2.2, -0.6), atol=0.1)


def test_scattered_slices_move_in_their_plane_only():
    reference = Volume(brain(n=40), AFFINE)
    image = Volume(brain((0, 1.5, -3), n=40), AFFINE).select(slice(4, 37, 4))
    found = evaluate_volume(image, reference, align=True)
    assert found.alignment is not None
    np.testing.assert_allclose(found.alignment.shift_pixels, (3, -1.5, 0), atol=0.1)
    assert found.slices == tuple(range(4, 37, 4))


def test_ct_is_aligned_in_hounsfield_units():
    hu = dataclasses.replace(Volume(brain() - 900, AFFINE), modality="CT")
    moved = dataclasses.replace(Volume(brain((0, 2, 1)) - 900, AFFINE), modality="CT")
    found = evaluate_volume(moved, hu, align=True)
    assert found.alignment is not None
    np.testing.assert_allclose(found.alignment.shift_pixels, (-1, -2, 0), atol=0.1)


def test_photographs_move_all_channels_alike():
    colour = np.moveaxis(samples.astronaut() / 255.0, -1, 0)
    moved = shift(colour, (0, 1.5, -2), order=5)[:, 50:200, 60:220]
    still = colour[:, 50:200, 60:220]
    found = evaluate_photograph(moved, still, align=True)
    assert found.alignment is not None
    np.testing.assert_allclose(found.alignment.shift_pixels, (2, -1.5), atol=0.1)
    assert found.alignment.shift_mm is None
    assert found.psnr > 30 > evaluate_photograph(moved, still).psnr
    assert evaluate_photograph(moved, still).alignment is None
