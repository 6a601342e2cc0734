"""K-space in scripts: what contradicts its operator is a note of the result; arrays serve as maps and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from people_kspace import MAPS, MASK, NOISY, SHAPE, STD, TRUTH, psnr

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.mri.multicoil import MultiCoilMRI

MEASURED = NOISY * MASK
AXES = (-2, -1)
CHECKERS = (-1.0) ** (np.arange(SHAPE[0])[:, None] + np.arange(SHAPE[1]))


def solved(y: Any, mask: Any = MASK, **options: Any) -> Any:
    return solve(y, MultiCoilMRI(MAPS, mask), sampler="cgsense", prior=None, **options)


def test_sound_kspace_gives_no_note_but_of_its_noise():
    found = solved(MEASURED, noise=STD)
    assert found.notes == ()
    assert psnr(found.image.numpy(), TRUTH) > 45
    batch = solved(np.stack([MEASURED] * 2), noise=STD)
    np.testing.assert_allclose(batch.image[1].abs(), found.image.abs(), atol=1e-6)


@pytest.mark.parametrize(
    ("y", "mask", "noise", "words"),
    [
        (MEASURED, np.ones(SHAPE[1]), STD, "40.0% of the samples of the mask are zero"),
        (MEASURED, np.roll(MASK, 1), STD, "66.7% of the samples that are not zero lie outside"),
        (np.fft.ifftshift(MEASURED, axes=AXES), np.fft.ifftshift(MASK), STD, "at the corner"),
        (MEASURED * CHECKERS, MASK, STD, "around the edge of the field of view"),
        (MEASURED, MASK, 100 * STD, "the noise is stated as 0.2"),
        (MEASURED, MASK, STD / 100, "the noise is stated as 2e-05"),
        (np.fft.ifftshift(np.fft.fft2(NOISY), axes=AXES), SHAPE[1] * [1], STD, "an image there"),
        (MEASURED * 1e25, MASK, 1e25 * STD, "in single precision"),
    ],
    ids=["zeros in the mask", "another mask", "corner", "rolled", "loud", "quiet", "image", "large"],
)  # fmt: skip
def test_what_contradicts_the_operator_is_said(y, mask, noise, words):
    assert any(words in note for note in solved(y, mask, noise=noise).notes)


def test_maps_and_masks_may_be_arrays_and_nothing_that_is_none():
    kept = MASK.copy()
    operator = MultiCoilMRI(MAPS.astype(np.complex64), kept)
    kept[:] = False
    assert bool(operator.mask.any())
    with pytest.raises(ConfigError, match="maps is a str that is no tensor of numbers"):
        MultiCoilMRI("maps", MASK)
    with pytest.raises(ConfigError, match="mask has other values than 0 and 1"):
        MultiCoilMRI(MAPS, 0.5 * MASK)
