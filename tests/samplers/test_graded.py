"""Noise whose level varies over the image, and levels in deviations of it."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import prior_for, solve
from restore.noise import Exact, Gaussian
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.priors.wrappers import FromDenoiser
from restore.problem import Problem
from restore.samplers.diffpir import DiffPIR
from restore.samplers.toolbox.graded import Graded

VOLUME = DiffPIR.configured("volume", Identity((4, 6, 8)), {})


def telling() -> FromDenoiser:
    """A denoiser that answers with the level it is asked at."""
    return FromDenoiser(lambda x, sigma: torch.full_like(x, sigma), channels=1)


def problem(std: torch.Tensor | float) -> Problem:
    y = torch.ones(4, 6, 8, dtype=torch.float64)
    return Problem(y, Identity((4, 6, 8)), Gaussian(std), planes=(0, 1, 2))


def test_every_pixel_is_asked_at_its_own_level() -> None:
    std = torch.linspace(0.02, 0.1, 4, dtype=torch.float64)[:, None, None]
    posed = problem(std)
    prior = prior_for(telling(), VOLUME, posed)
    graded = Graded.of(prior, posed)
    assert isinstance(graded, Graded)
    mean = float(std.pow(-2).mean()) ** -0.5
    found = graded(posed.y, mean)
    # Between two rungs of ratio 1.5 the mean of levels by their logarithm lies 2 % above the level at most.
    torch.testing.assert_close(found, std.expand(4, 6, 8), rtol=0.03, atol=0)
    assert isinstance(Graded.of(prior, problem(0.1)), type(prior))
    assert isinstance(Graded.of(prior, problem(std * 0 + 0.1)), type(prior))


def test_levels_vary_in_images_alone_and_need_noise() -> None:
    shape = (4, 6, 8)
    blurred = Problem(
        torch.ones(shape),
        Blur(torch.ones(1, 1), shape),
        Gaussian(torch.linspace(0.1, 1, 8)),
        planes=(0,),
    )
    prior = prior_for(telling(), VOLUME, blurred)
    with pytest.raises(ConfigError, match="noise of several levels"):
        Graded.of(prior, blurred)
    with pytest.raises(ConfigError, match="deviations of the noise"):
        VOLUME.noise_range(Problem(torch.ones(shape), Identity(shape), Exact()))
    with pytest.raises(ConfigError, match="renoise=False"):
        DiffPIR(planes="mean")


def test_two_looks_at_all_planes_in_deviations_of_the_noise() -> None:
    """The answer to two levels in closed form, for a denoiser that shrinks; six calls."""
    asked: list[float] = []

    def shrink(x: torch.Tensor, sigma: float) -> torch.Tensor:
        asked.append(sigma)
        return x / 2

    posed = problem(0.1)
    found = solve(
        posed.y, posed.operator, noise=0.1, prior=FromDenoiser(shrink, channels=1), sampler=VOLUME
    )
    assert found.log[-1]["evaluations"] == 2  # an item of channels, not a volume: one direction
    asked.clear()
    from restore.front_door import solve_problem

    volume = solve_problem(posed, prior=FromDenoiser(shrink, channels=1), sampler=VOLUME)
    assert volume.log[-1]["evaluations"] == VOLUME.cost(posed) == 6
    assert sorted(set(round(s, 6) for s in asked[-6:])) == [0.04, 0.1]
    share = 0.04**2 / VOLUME.lam / (0.04**2 / VOLUME.lam + 0.1**2)
    expected = 0.5 * (share * 1 + (1 - share) * 0.5)
    torch.testing.assert_close(volume.image, torch.full_like(posed.y, expected), rtol=1e-6, atol=0)
