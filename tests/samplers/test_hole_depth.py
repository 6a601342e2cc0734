"""The first noise level follows the depth of the holes: the depth, the rule, and who heeds it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import prior_for, solve
from restore.noise import Gaussian
from restore.operators.diagonal import Identity
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianPrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.registry import load_sampler, sampler_names
from restore.samplers.dds import DDS
from restore.samplers.toolbox.hole_depth import (
    DEEP,
    NOISES,
    SHALLOW,
    depth_of,
    first_level,
    level_at,
)


def masked(known: Tensor, shape: tuple[int, ...], **how) -> Problem:
    return Problem(torch.zeros(shape), Inpainting(known, shape), **how)


def brute(known: Tensor) -> float:
    places = [(known == seen).nonzero().double() for seen in (1, 0)]
    return float(torch.cdist(places[1], places[0]).min(1).values.max())


@pytest.mark.parametrize("shape", [(9, 11), (1, 70), (5, 6, 7)])
def test_the_depth_is_that_of_every_pair_of_pixels(shape):
    known = (torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.1).float()
    planes = (0, 1, 2) if len(shape) == 3 else ()
    # both are roots of the same whole numbers
    assert depth_of(masked(known, shape, planes=planes)) == pytest.approx(brute(known), rel=1e-12)


def test_the_deepest_of_several_masks_counts_and_slices_of_pictures_are_apart():
    known = torch.ones(3, 12, 12)
    known[0, 4:6, 4:6] = known[2, 2:9, 2:9] = 0
    assert depth_of(masked(known, (3, 12, 12))) == 4
    assert depth_of(masked(torch.ones(12, 12), (3, 12, 12))) == 0
    assert depth_of(masked(torch.zeros(12, 12), (3, 12, 12))) == math.inf
    lost = torch.ones(5, 12, 12)
    lost[2] = 0  # a whole slice: its neighbours know
    assert depth_of(masked(lost, (5, 12, 12), planes=(0, 1, 2))) == 1


def test_the_level_rises_with_the_depth_from_single_pixels_to_boxes():
    found = [level_at(depth) for depth in (0, 1, 2, 3, 5, 8, 16, 40, math.inf)]
    assert found == sorted(found)
    assert (found[0], found[-3:]) == (SHALLOW, [DEEP] * 3)
    assert level_at(3) < 0.2 < 0.3 < level_at(6)


@pytest.mark.parametrize(
    ("std", "expected"), [(0.0, SHALLOW), (0.01, SHALLOW), (0.3, NOISES * 0.3)]
)
def test_no_chain_begins_below_the_noise(std, expected):
    known = torch.ones(8, 8)
    known[4, 4] = 0
    y = torch.zeros(8, 8)
    problem = Problem(y, Inpainting(known, (8, 8)), Gaussian(std) if std else None)
    assert first_level(problem, "filled") == pytest.approx(expected)
    assert first_level(problem, "noise") == DEEP  # nothing is filled


def test_what_loses_no_pixels_is_refused_and_a_number_is_left_alone():
    problem = Problem(torch.zeros(8, 8), Identity((8, 8)))
    with pytest.raises(ConfigError, match=r"auto follows the depth of holes.*give a number"):
        DDS(sigma_start="auto").levels_for(problem)
    sampler = DDS()
    assert sampler.for_problem(problem) == sampler
    with pytest.raises(ConfigError, match="give a number"):
        load_sampler("diffpir").configured(
            "volume", Identity((8, 8)), {"sigma_start": "auto"}
        ).levels()


def test_only_the_tuned_presets_of_inpainting_follow_the_holes():
    told = {
        (name, preset)
        for name in sampler_names() if "sigma_start" in load_sampler(name).__dataclass_fields__
        for preset, settings in load_sampler(name).presets.items() if settings.get("sigma_start") == "auto"
    }  # fmt: skip
    assert ("dds", "tuned inpaint") in told
    assert {preset for _, preset in told} == {"tuned inpaint"}


def test_a_run_begins_there_records_it_and_so_does_one_by_hand():
    known = torch.ones(16, 16, dtype=torch.float64)
    known[2:14, 2:14] = 0  # six deep
    operator, prior = (
        Inpainting(known, (16, 16)),
        GaussianPrior(torch.full((16, 16), 0.5).double(), spectrum=0.05),
    )
    y = 0.5 * known
    result = solve(y, operator, noise=0.01, prior=prior, sampler="dds", n_steps=2)
    assert result.log[0]["sigma"] == result.provenance["settings"]["sigma_start"] == level_at(6)
    sampler = DDS.configured("tuned", operator, {"n_steps": 2})
    problem = Problem(y, operator, Gaussian(0.01))
    model = prior_for(prior, sampler, problem)
    *_, last = sampler.steps(problem, model, Draws(0, ["sample 0/0"]))
    torch.testing.assert_close(last.x0, result.image, rtol=0, atol=0)
    plain = solve(y, operator, noise=0.01, prior=prior, sampler="dds", n_steps=2, sigma_start=1.0)
    assert plain.log[0]["sigma"] == 1.0
