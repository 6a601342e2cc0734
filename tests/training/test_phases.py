"""Smooth random phases: they turn images and change nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.training.augmentation import Augmentation
from restore.training.corpus import BRIGHTNESS, Corpus
from restore.training.phases import real_part, smooth_phase, turned
from restore.training.sources import Source

SINGLE = 1e-5  # float32: a product and a sum of two


def source(modality: str = "MR", channels: int = 1) -> Source:
    rng = np.random.default_rng(0)
    images = tuple(
        (0.6 + 0.4 * rng.random((channels, 24, 24))).astype(np.float16) for _ in range(3)
    )
    return Source(images, 1.0, False, "slices", modality=modality)


def test_a_phase_is_smooth_and_comes_from_its_generator(generator):
    state = torch.random.get_rng_state()
    phase = smooth_phase((40, 56), generator)
    assert phase.shape == (40, 56)
    # Cubic between 4 knots of normal numbers: a step of a pixel is a small part of the whole.
    assert float(phase.diff(dim=1).abs().max()) < 0.2 * float(phase.max() - phase.min())
    assert torch.equal(torch.random.get_rng_state(), state)
    same = smooth_phase((40, 56), torch.Generator().manual_seed(7))
    assert torch.equal(same, smooth_phase((40, 56), torch.Generator().manual_seed(7)))
    assert not torch.equal(same, phase)


def test_turning_keeps_magnitudes_and_adds_up(generator):
    image = torch.rand((1, 16, 16), generator=generator)
    a, b = (smooth_phase((16, 16), generator) for _ in range(2))
    torch.testing.assert_close(
        turned(image, a).norm(dim=0, keepdim=True), image, rtol=SINGLE, atol=SINGLE
    )
    torch.testing.assert_close(
        turned(turned(image, a), b), turned(image, a + b), rtol=SINGLE, atol=SINGLE
    )
    assert torch.equal(real_part(image, a), turned(image, a)[:1])


@pytest.mark.parametrize(("share", "flat"), [(0.0, 1.0), (1.0, 0.0)])
def test_complex_crops_of_real_volumes(share, flat):
    corpus = Corpus([source()], 16, 0, Augmentation(phase=share), channels=2)
    crops = corpus.batch(0, 20)
    assert crops.shape == (20, 2, 16, 16)
    real = (crops[:, 1] == 0).flatten(1).all(1).float().mean()
    assert float(real) == flat
    size = crops.norm(dim=1)
    assert (
        0.2 < float(size.min()) <= float(size.max()) < BRIGHTNESS[1] * 1.2
    )  # cubic zoom overshoots
    assert torch.equal(
        crops, Corpus([source()], 16, 0, Augmentation(phase=share), channels=2).batch(0, 20)
    )


def test_complex_slices_stay_as_they_are_but_for_brightness():
    crops = Corpus([source(channels=2)], 24, 0, channels=2).batch(0, 8)
    assert crops.shape == (8, 2, 24, 24)
    assert float(crops.min()) > 0


def test_a_phase_in_one_channel_is_for_mr_alone_and_part_of_the_fingerprint():
    phased = Corpus([source()], 16, 0, Augmentation(phase=1.0))
    crops = phased.batch(0, 40)
    assert crops.shape == (40, 1, 16, 16)
    within = ((crops > 0).flatten(1).any(1) & (crops < 0).flatten(1).any(1)).float().mean()
    assert float(within) > 0.2  # the sign changes within a crop, which brightness alone does not do
    plain = Corpus([source()], 16, 0)
    assert phased.fingerprint != plain.fingerprint
    for modality in ("CT", ""):
        other = Corpus([source(modality)], 16, 0, Augmentation(phase=1.0))
        assert torch.equal(other.batch(3, 5), plain.batch(3, 5))
