"""A denoiser shared among helpers answers as the one inside."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from restore.precision import autocast
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.kept import loaded, models_spread
from restore.priors.spread import Planes, SpreadDenoiser


class Shrinking(Denoiser):
    name, turnable, foreign, channels = "shrinking", True, False, 0

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x / (1 + sigma**2)


class Near:
    """A helper in this process; lost after so many answers."""

    def __init__(self, answers: int = 99) -> None:
        self.answers, self.words, self.sizes = answers, list[str](), list[int]()

    def ask(self, planes: Planes, sigma: float, precision: str) -> Callable[[], Planes | None]:
        self.words.append(precision)
        self.sizes.append(len(planes))
        self.answers -= 1
        lost = self.answers < 0
        return lambda: None if lost else Shrinking()(torch.from_numpy(planes), sigma).numpy()


def test_shares_make_the_whole(generator: torch.Generator) -> None:
    x = torch.randn(7, 1, 4, 5, generator=generator)
    near, far = Near(), Near(answers=0)
    spread = SpreadDenoiser(Shrinking(), [near, far])
    assert torch.equal(spread(x, 0.5), Shrinking()(x, 0.5))
    assert near.sizes == far.sizes == [2]
    assert spread.helpers == [near]  # the lost one is left out from then on
    assert "1 of 2 helpers" in spread.remarks()[0]
    assert torch.equal(spread(x, 0.5), Shrinking()(x, 0.5))
    assert near.sizes == [2, 3]
    assert (spread.name, spread.turnable, spread.foreign) == ("shrinking", True, False)
    assert copy.deepcopy(spread).helpers == [near]


def test_helpers_compute_in_the_numbers_of_the_run(generator: torch.Generator) -> None:
    near = Near()
    prior = ImagePrior(SpreadDenoiser(Shrinking(), [near]), (4, 4), True, torch.bfloat16)
    prior(torch.randn(3, 4, 4, generator=generator, dtype=torch.complex64), 0.5)
    with autocast(torch.float32, "cpu"):
        SpreadDenoiser(Shrinking(), [near])(torch.ones(2, 1, 4, 4), 0.5)
    assert near.words == ["bfloat16", "float32"]


def test_what_cannot_be_shared_stays_here() -> None:
    near = Near()
    spread = SpreadDenoiser(Shrinking(), [near])
    spread(torch.ones(1, 1, 4, 4), 0.5)
    spread(torch.ones(2, 1, 4, 4), torch.tensor([0.5, 0.2]).reshape(2, 1, 1, 1))
    x = torch.ones(2, 1, 4, 4, requires_grad=True)
    spread(x, 0.5).sum().backward()
    np.testing.assert_allclose(x.grad, 0.8)
    assert near.sizes == []


def test_models_that_are_named_pass_through() -> None:
    def shared(name: str, model: object) -> Denoiser:
        assert isinstance(model, Denoiser)
        return SpreadDenoiser(model, [Near()])

    with models_spread(shared):
        assert isinstance(loaded("medical"), SpreadDenoiser)
    assert not isinstance(loaded("medical"), SpreadDenoiser)
