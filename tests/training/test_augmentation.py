"""Crops are turned, mirrored and deformed within their ranges, show no border, and depend on the generator alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.training.augmentation import Augmentation
from restore.training.corpus import Corpus
from restore.training.sources import Source

SHAPES = 0.15  # a deformed image, resampled twice
CENTRED = 0.02  # a mean over draws of a fixed seed
SINGLE = 1e-4  # float32 coordinates of some ten pixels, times slopes of an image

CROP = 16
STRONG = Augmentation(deformed=1.0, rotation_deg=20, magnification=0.2, shear_deg=8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(count: int, side: int) -> Tensor:
    """Two channels that tell the column and the row, from the middle."""
    place = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    both = torch.stack(torch.meshgrid(place, place, indexing="xy"))
    return both.expand(count, 2, side, side).contiguous()


def maps_of(crops: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The linear map and the shift that each crop of `ramps` shows, by least squares over its pixels."""
    seen = ramps(1, crops.shape[-1]).reshape(2, -1).T.numpy()
    design = np.column_stack([seen, np.ones(len(seen))])
    found = [np.linalg.lstsq(design, c.reshape(2, -1).T.numpy(), rcond=None)[0] for c in crops]
    fitted = np.stack([design @ f for f in found])
    error = np.abs(fitted - crops.reshape(len(crops), 2, -1).transpose(1, 2).numpy()).max()
    # torch's cubic (a = -0.75, where -0.5 would be straight) bends lines by 0.08 of their slope.
    assert error < SHAPES
    return np.stack([f[:2].T for f in found]), np.stack([f[2] for f in found])


def test_the_eight_orientations_are_exact_and_alike():
    x = torch.randn(400, 1, 3, 3, generator=generator(1))[:1].expand(400, 1, 3, 3)
    crops = Augmentation()(x, 3, generator())
    wanted = [torch.rot90(x[0], k, (1, 2)) for k in range(4)]
    wanted += [w.flip(-1) for w in wanted]
    counts = [sum(torch.equal(c, w) for c in crops) for w in wanted]
    assert sum(counts) == 400
    assert min(counts) > 25  # 50 expected, with a deviation of 6.6


def test_deformations_keep_to_their_ranges():
    side = STRONG.side(CROP)
    maps, shifts = maps_of(STRONG(ramps(300, side), CROP, generator(2)))
    assert np.abs(shifts).max() < CENTRED  # about the middle
    scales = 1 / np.sqrt(np.abs(np.linalg.det(maps)))
    shear = math.tan(math.radians(8))
    # Two shears change the area by up to tan^2.
    assert 0.8 * (1 - shear**2) < scales.min() < 0.88
    assert 1.12 < scales.max() < 1.2 * (1 + shear**2)
    # Angle of the image's columns against the nearest axis: turn and shear together.
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 1, 1]))
    off = np.abs((angles + 45) % 90 - 45)
    assert 12 < off.max() < 20 + 2 * 8 + 1


def test_a_share_is_deformed():
    some = Augmentation(deformed=0.3)
    maps, _ = maps_of(some(ramps(500, some.side(CROP)), CROP, generator(3)))
    plain = np.abs(np.abs(maps).max(2) - 1).max(1) < SINGLE
    assert 0.6 < plain.mean() < 0.8


@pytest.mark.parametrize(
    "augmentation",
    [STRONG, Augmentation(1.0), Augmentation(1.0, 45, 0.5, 20), Augmentation(1.0, 0, 0, 0)],
)
def test_no_crop_shows_what_lies_beyond_its_square(augmentation):
    """A bright frame around the square stays out of every crop, however it is turned."""
    side = augmentation.side(CROP)
    x = torch.zeros(400, 1, side, side)
    x[..., [0, -1], :] = x[..., :, [0, -1]] = 1e3
    assert not augmentation(x, CROP, generator(4)).any()


def test_the_generator_alone_decides():
    x = torch.rand(6, 3, STRONG.side(CROP), STRONG.side(CROP), generator=generator(5))
    kept, state = x.clone(), torch.random.get_rng_state()
    first = STRONG(x, CROP, generator(6))
    assert first.shape == (6, 3, CROP, CROP)
    assert torch.equal(first, STRONG(x, CROP, generator(6)))
    assert not torch.equal(first, STRONG(x, CROP, generator(7)))
    assert torch.equal(x, kept)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.gpu
def test_a_gpu_sees_the_same_crops():
    x = torch.rand(6, 3, STRONG.side(CROP), STRONG.side(CROP), generator=generator(5))
    there = STRONG(x.cuda(), CROP, generator(6))
    assert there.is_cuda
    # Positions and 16 weights in single precision.
    torch.testing.assert_close(there.cpu(), STRONG(x, CROP, generator(6)), atol=SINGLE, rtol=0)


def test_refusals():
    with pytest.raises(ConfigError, match="squares of"):
        STRONG(torch.zeros(1, 1, CROP, CROP), CROP, generator())
    for values in (
        {"deformed": 1.1},
        {"rotation_deg": 60},
        {"magnification": -0.1},
        {"shear_deg": 30},
    ):
        with pytest.raises(ConfigError, match=next(iter(values))):
            Augmentation(**values)


def test_a_corpus_draws_deformed_crops_from_its_seed():
    place = np.arange(120, dtype=np.float32)
    image = np.stack(np.meshgrid(place, place)).astype(np.float16)
    source = Source((image,), 1.0, True, "ramps")
    corpus = Corpus([source], CROP, 3, Augmentation(0.5))
    crops = corpus.batch(4, 40)
    assert crops.shape == (40, 2, CROP, CROP)
    maps, _ = maps_of(crops)
    plain = np.abs(np.abs(maps).max(2) - 1).max(1) < SINGLE
    assert 0.2 < plain.mean() < 0.8
    assert torch.equal(crops, Corpus([source], CROP, 3, Augmentation(0.5)).batch(4, 40))
    assert corpus.fingerprint != Corpus([source], CROP, 3).fingerprint
    assert Corpus([source], CROP, 3).fingerprint == Corpus([source], CROP, 5).fingerprint
