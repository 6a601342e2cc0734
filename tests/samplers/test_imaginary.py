"""The imaginary part is asked for at every second level while it carries little, for each item by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.samplers.toolbox.imaginary import SparedImaginary

SIGMA = 0.05


class Shrinking(Denoiser):
    """0.9 x; remembers how many planes it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.seen.append(len(x))
        return 0.9 * x


def images(phase: float, calls: int) -> list[Tensor]:
    """An image of magnitude 1 and one phase (8, 8), with other noise at every call."""
    g = torch.Generator().manual_seed(1)
    flat = torch.polar(torch.ones(8, 8), torch.full((8, 8), phase))
    noise = torch.randn(calls, 8, 8, generator=g, dtype=torch.complex64)
    return list(flat + 0.2 * SIGMA * noise)


def walked(states: list[Tensor], every: int) -> tuple[list[Tensor], list[int], int]:
    prior = Shrinking()
    whole = ImagePrior(prior, (8, 8), True)
    spared = SparedImaginary(whole, every)
    found = [spared(x, SIGMA) for x in states]
    planes = sum(torch.view_as_real(x).numel() if x.is_complex() else x.numel() for x in states)
    assert spared.spared == planes // 64 - sum(prior.seen)
    return found, prior.seen, whole.evaluations


def test_every_second_answer_stands_of_images_that_are_nearly_real():
    states = images(0.05, 6)
    found, seen, evaluations = walked(states, 2)
    assert seen == [2, 2, 1, 2, 1, 2]  # two answers have to agree first
    assert evaluations == 6
    assert all(torch.equal(a.real, 0.9 * x.real) for a, x in zip(found, states, strict=True))
    last = (0, 1, 1, 3, 3, 5)
    assert all(torch.equal(a.imag, 0.9 * states[i].imag) for a, i in zip(found, last, strict=True))


def test_an_image_with_phase_is_asked_for_at_every_level():
    states = images(0.15, 4)
    found, seen, _ = walked(states, 2)
    assert seen == [2, 2, 2, 2]
    assert all(torch.equal(a, 0.9 * x) for a, x in zip(found, states, strict=True))


def test_an_imaginary_part_that_moves_is_asked_for():
    states = [x + 0.04j * (-1) ** k for k, x in enumerate(images(0.0, 4))]
    assert walked(states, 2)[1] == [2, 2, 2, 2]


def test_each_item_is_judged_by_itself():
    plain, turned = images(0.05, 5), images(0.5, 5)
    both = [torch.stack(pair) for pair in zip(plain, turned, strict=True)]
    found, seen, _ = walked(both, 2)
    assert seen == [4, 4, 3, 4, 3]
    alone = walked(plain, 2)[0]
    assert all(torch.equal(a[0], b) for a, b in zip(found, alone, strict=True))


def test_real_images_and_every_level_are_asked_as_ever():
    assert walked(images(0.05, 3), 1)[1] == [2, 2, 2]
    assert walked([x.real for x in images(0.05, 3)], 2)[1] == [1, 1, 1]
