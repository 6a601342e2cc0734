"""Which planes of a volume a prior is shown, and that it is shown them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.operators.diagonal import Identity
from restore.pipelines.volume.planes import planes_of
from restore.priors.image_prior import ImagePrior
from restore.priors.wrappers import FromDenoiser
from restore.problem import Problem


def volume(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Volume:
    return Volume(np.zeros(shape, np.float32), np.diag([*spacing, 1.0]))


@pytest.mark.parametrize(
    ("spacing", "shape", "planes", "told"),
    [
        ((1, 1, 1), (20, 20, 20), (0, 1, 2), ""),
        ((1, 1, 1.5), (20, 20, 20), (0, 1, 2), ""),
        ((0.5, 0.5, 2), (20, 20, 20), (0,), "pixels of 2 x 0.5 mm"),
        ((1, 3, 1), (20, 20, 20), (0, 1), "planes of columns have pixels of 1 x 3 mm"),
        ((1, 1, 1), (8, 20, 20), (0,), "are 8 x 20 voxels"),
    ],
)
def test_planes_with_stretched_or_few_pixels_are_left_out(
    spacing, shape, planes, told: str
) -> None:
    found, notes = planes_of(volume(spacing, shape))
    assert found == planes
    assert [told in note for note in notes] == ([True] if told else [])


def test_a_prior_is_shown_the_planes_by_turns_and_its_answer_lies_as_the_volume_does() -> None:
    shown: list[tuple[int, ...]] = []

    def along_columns(x: torch.Tensor, sigma: float) -> torch.Tensor:
        shown.append(tuple(x.shape))
        return x.cumsum(-1)

    prior = ImagePrior(FromDenoiser(along_columns, channels=1), (5, 6), False, planes=(0, 1, 2))
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    answers = [prior(x, 0.1, turn=k) for k in range(4)]
    assert shown == [(4, 1, 5, 6), (5, 1, 4, 6), (6, 1, 4, 5), (4, 1, 5, 6)]
    for answer, axis in zip(answers, (2, 2, 1, 2), strict=True):
        assert torch.equal(answer, x.cumsum(axis))


def test_planes_are_those_of_volumes() -> None:
    y = torch.ones(3, 8, 8)
    assert Problem(y, Identity((3, 8, 8)), planes=(1,)).has_volumes
    for shape, planes in (((8, 8), (1,)), ((3, 8, 8), (3,))):
        with pytest.raises(ConfigError, match="planes across the axes"):
            Problem(y, Identity(shape), planes=planes)
