"""Adaptation to a measurement: rows held out are not used, the fit stops by them, the seed repeats it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.low_rank import adapted
from restore.priors.unet import UNetConfig
from restore.problem import Problem
from restore.training.adaptation import Adaptation, cost_of_a_pass, fit_adapter
from restore.training.held_out import hold_out

SIDE = 24
QUICK = Adaptation(levels=3, slices=1, steps=2, rate=3e-3, rank=2, held_out=0.1)
CT = ParallelBeamCT(ParallelBeam.covering(shape=(SIDE, SIDE), views=12))
COLUMNS = torch.arange(SIDE) % 2 == 0
POINTS = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.5


def mri(mask: torch.Tensor) -> MultiCoilMRI:
    maps = torch.full((1, 3, SIDE, SIDE), 3**-0.5, dtype=torch.complex64)
    return MultiCoilMRI(maps, mask)


def model() -> EDMDenoiser:
    """A network with random weights: far from any image, so that there is something to fit."""
    made = build_unet_denoiser(UNetConfig(widths=(8, 12), blocks=(1, 1), embedding=8), name="tiny")
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return made


def problem(operator) -> Problem:
    x = torch.zeros(1, SIDE, SIDE)
    x[:, 6:18, 8:20] = 1
    y = operator(x.to(torch.complex64) if operator.is_complex else x)
    noise = 0.01 * float(y.abs().max())
    return Problem(y, operator, Gaussian(noise), ids=("slice 3",))


@pytest.mark.parametrize(
    ("operator", "rows"),
    [(CT, 12), (mri(COLUMNS), 12), (mri(COLUMNS[:, None]), 12), (mri(POINTS), int(POINTS.sum()))],
    ids=["views", "columns", "rows", "points"],
)
def test_whole_rows_are_set_aside_and_the_rest_does_not_know_them(operator, rows):
    whole = problem(operator)
    split = hold_out(whole, 0.1, seed=0)
    measured = whole.operator.project(torch.ones_like(whole.y)) != 0
    lost = measured & ((split.kept == 0).expand_as(whole.y))
    assert 1 <= split.rows <= 1 + rows // 10
    assert int(lost.sum()) == split.rows * int(measured.sum()) // rows
    spoiled = torch.where(lost, whole.y + 7, whole.y)
    other = hold_out(dataclasses.replace(whole, y=spoiled), 0.1, seed=0)
    assert torch.equal(other.problem.y, split.problem.y)
    assert torch.equal(other.problem.data.rhs, split.problem.data.rhs)
    x = torch.rand(whole.image_shape, generator=torch.Generator().manual_seed(5))
    assert other.misfits(x)[0] == split.misfits(x)[0]
    assert other.misfits(x)[1] != split.misfits(x)[1]
    assert not torch.equal(hold_out(whole, 0.1, seed=1).kept, split.kept)


def test_the_centre_of_kspace_stays():
    for seed in range(20):
        kept = hold_out(problem(mri(COLUMNS)), 0.3, seed=seed).kept
        assert bool((kept[SIDE // 2 - 1 : SIDE // 2 + 2] == 1).all())


def test_too_few_rows_are_refused():
    few = ParallelBeamCT(ParallelBeam.covering(shape=(SIDE, SIDE), views=9))
    with pytest.raises(ConfigError, match=r"9 lines or views .* leave out --adapt"):
        hold_out(problem(few), 0.1, seed=0)


@pytest.mark.parametrize("operator", [CT, mri(COLUMNS)], ids=["ct", "mri"])
def test_a_fit_lowers_the_residual_and_leaves_the_prior(operator):
    prior, measured = model(), problem(operator)
    before = {k: v.clone() for k, v in prior.network.state_dict().items()}
    found = fit_adapter(prior, [measured], QUICK, seed=1)
    held, kept = found.record["held_out_residuals"], found.record["kept_step"]
    assert kept > 0
    assert held[kept] == min(held) < held[0]
    for k, v in prior.network.state_dict().items():
        assert torch.equal(v, before[k])
    assert all(p.grad is None for p in prior.network.parameters())
    x = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(adapted(prior, found.adapter)(x, 0.1), prior(x, 0.1))


def test_held_out_rows_choose_but_do_not_teach_and_the_seed_repeats_the_fit():
    """Other values there: the same residuals of the rows in use at every step that both fits have made."""
    whole, prior = problem(CT), model()
    lost = (hold_out(whole, QUICK.held_out, seed=1).kept == 0).expand_as(whole.y)
    spoiled = dataclasses.replace(whole, y=torch.where(lost, whole.y + 0.5, whole.y))
    one, other = (fit_adapter(prior, [p], QUICK, seed=1).record for p in (whole, spoiled))
    count = min(len(one["residuals"]), len(other["residuals"]))
    assert count > 1
    assert one["residuals"][:count] == other["residuals"][:count]
    assert one["held_out_residuals"][0] != other["held_out_residuals"][0]


def test_a_fit_that_makes_things_worse_stops_and_changes_nothing():
    prior = model()
    wild = dataclasses.replace(QUICK, rate=30.0, steps=9)
    found = fit_adapter(prior, [problem(CT)], wild)
    assert found.record["kept_step"] == 0
    assert len(found.record["residuals"]) == 3  # two steps without a fall
    assert all(not up.any() for up, _ in found.adapter.factors.values())


def test_cost_is_that_of_a_call():
    small, seconds = cost_of_a_pass(model(), problem(CT), 2)
    twice, _ = cost_of_a_pass(model(), problem(mri(COLUMNS)), 2)  # re and im
    assert (
        small > 8 * SIDE * SIDE * 4 / 4
    )  # at least the first block's activations, at half the side
    assert 1.2 * small < twice < 3 * small
    assert seconds > 0
