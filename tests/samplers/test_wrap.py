"""Periodic operators: a network is shown what lies beyond each border, so that no place of the picture is special."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.bridges.base import Level
from restore.front_door import demand, prior_for
from restore.noise import Gaussian
from restore.operators import Blur, Downsample, Inpainting
from restore.operators.image.kernels import gaussian
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem
from restore.registry import load_sampler
from restore.samplers.base import Planned

DOUBLE = 1e-12  # float64: FFTs and sums of numbers about one, in two steps; 1e-15 seen
SHAPE, BY = (3, 24, 20), (9, -7)
BRIDGES = ("mrs", "rddm", "resshift", "irsde")


def darkens_borders(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
    """A network to which everything beyond its picture is black, as far as two pixels."""
    return (F.avg_pool2d(0.2 * x + 0.8 * y, 5, stride=1, padding=2),)


NETWORK = FromFunction(darkens_borders)


def rolled(x: Tensor) -> Tensor:
    return x.roll(BY, (-2, -1))


class Same:
    """The same noise for every draw, moved as the picture is."""

    def __init__(self, move) -> None:
        self.move = move

    def normal_like(self, x: Tensor, rank: int) -> Tensor:
        g = torch.Generator().manual_seed(5)
        return self.move(torch.randn(x.shape, generator=g, dtype=x.dtype))


def restored(y: Tensor, name: str, move, **settings: Any) -> Tensor:
    """The result of the tuned preset on circular blur."""
    problem = Problem(move(y), Blur(gaussian(1.0).double(), SHAPE), Gaussian(0.05))
    sampler = load_sampler(name).configured(
        "tuned", problem.operator, {"n_steps": 2, "wrap": 8} | settings
    )
    *_, last = sampler.steps(problem, prior_for(NETWORK, sampler, problem), Same(move))
    return last.x0


@pytest.mark.parametrize("name", BRIDGES)
def test_a_moved_periodic_picture_is_restored_as_it_was_where_it_lay(name, generator):
    y = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    still, moved = (restored(y, name, move) for move in (lambda x: x, rolled))
    torch.testing.assert_close(moved, rolled(still), rtol=DOUBLE, atol=DOUBLE)
    still, moved = (restored(y, name, move, wrap=0) for move in (lambda x: x, rolled))
    assert float((moved - rolled(still)).abs().max()) > 0.01


def test_a_picture_smaller_than_the_margin_is_shown_once_more_on_each_side(generator):
    x, y = torch.rand(2, 4, 6, 3, generator=generator, dtype=torch.complex128)
    seen = []

    def mean(x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        seen.append(tuple(x.shape))
        return (x - 2 * y,)

    prior = ConditionalPrior(FromFunction(mean, channels=1), (6, 3), wrap=16)
    torch.testing.assert_close(prior(x, Level(0, 1.0, 0.1), y)[0], x - 2 * y)
    assert seen == [(8, 1, 18, 9)]


@pytest.mark.parametrize("name", BRIDGES)
def test_only_periodic_operators_are_wrapped_and_no_published_setting_is(name):
    kind = load_sampler(name)
    ring, mirrored = (Blur(gaussian(1.0), SHAPE, b) for b in ("circular", "reflect"))
    others = (mirrored, Downsample(SHAPE, 2), Inpainting(torch.ones(24, 20), SHAPE))
    for operator in (ring, *others):
        problem = Problem(torch.zeros(operator.out_shape), operator)
        for preset in kind.presets:
            sampler = kind.configured(preset, operator, {})
            wanted = 16 if operator is ring and preset == "tuned" else 0
            assert demand(sampler, problem).wrap == wanted
    assert kind().wrapped_pixels(Planned("image", "deblur")) == 0
