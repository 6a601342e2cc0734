"""Complete scans measured line by line: which lines, what of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.acquire import Candidates, Particles, Plan, measured_lines, next_measurements
from restore.acquire.measuring import order_of_lines
from restore.datasets.ct.scan import CTScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.operators.image.inpainting import Inpainting
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem

FEW = Particles(count=2, steps=2)


def complete(kind: str) -> MRIScan | CTScan:
    if kind == "mri":
        return simulate_mri(head_phantom((4, 20, 16)), coils=2, acceleration=1)
    return simulate_ct(ct_phantom((4, 20, 16)), views=12)


@pytest.mark.parametrize("kind", ["mri", "ct"])
@pytest.mark.parametrize("policy", ["ads", "random"])
def test_an_order_begins_with_the_start_and_takes_no_line_twice(kind, policy):
    scan, told = complete(kind), []
    plan = Plan(policy, 5, start=3, look=1, particles=FEW)
    order = order_of_lines(scan, plan, on_line=lambda n, of: told.append((n, of)))
    assert order[:3] == ((8, 7, 9) if kind == "mri" else (0, 4, 8))
    assert len(set(order)) == len(order) == 5
    if kind == "mri":
        assert order == order_of_lines(scan, plan), "the same again"
    assert told == ([] if policy == "random" else [(3, 5), (4, 5), (5, 5)])
    assert scan.notes == complete(kind).notes, "what is looked at leaves no note in the scan"


def test_lines_are_those_of_the_complete_scan():
    mri = complete("mri")
    some = measured_lines(mri, (8, 2))
    assert np.flatnonzero(some.mask).tolist() == [2, 8]
    np.testing.assert_array_equal(some.kspace[1][..., [2, 8]], mri.kspace[1][..., [2, 8]])
    assert not some.kspace[1][..., ~some.mask].any()
    ct = complete("ct")
    fewer = measured_lines(ct, (7, 0, 3))
    np.testing.assert_array_equal(fewer.sinogram[2], ct.sinogram[2][[0, 3, 7]])
    np.testing.assert_allclose(np.degrees(fewer.geometry.angles), [0, 45, 105])


def test_orders_that_look_at_nothing():
    mri, ct = complete("mri"), complete("ct")
    assert order_of_lines(mri, Plan("centre-out", 6)) == (8, 7, 9, 6, 10, 5)
    assert order_of_lines(ct, Plan("equispaced", 4)) == (0, 3, 6, 9)
    drawn = order_of_lines(mri, Plan("gaussian1d", 7))
    assert drawn[:4] == (8, 7, 9, 6)
    assert len(set(drawn)) == 7


@pytest.mark.parametrize(
    ("kind", "plan", "words"),
    [
        ("ct", Plan("centre-out", 4), "views have no centre"),
        ("mri", Plan("equispaced", 4), "expected for mri one of: ads, variance, centre-out"),
        ("mri", Plan("ads", 17), "there are 16 lines"),
        ("ct", Plan("ads", 4, start=5), "more than the budget"),
    ],
)
def test_plans_that_cannot_be(kind, plan, words):
    with pytest.raises(ConfigError, match=words):
        order_of_lines(complete(kind), plan)


def test_questions_that_have_no_answer():
    mask = torch.zeros(8)
    mask[3:6] = 1
    operator = MultiCoilMRI.single_coil(mask, (8, 8))
    problem = Problem(operator(torch.ones(8, 8, dtype=torch.complex64)), operator, Gaussian(0.01))
    with pytest.raises(ConfigError, match="expected 1 to 5, the lines not yet measured"):
        next_measurements(problem, budget=6)
    with pytest.raises(ConfigError, match="one of: ads, variance"):
        next_measurements(problem, policy="random")
    points = torch.ones(8, 8)
    points[0, 0] = 0
    with pytest.raises(ConfigError, match="not one of columns"):
        Candidates.of_columns(MultiCoilMRI.single_coil(points, (8, 8)))
    picture = Inpainting(points, (8, 8))
    with pytest.raises(ConfigError, match="does not say what else could be measured"):
        next_measurements(Problem(picture(torch.ones(8, 8)), picture, Gaussian(0.01)))
    with pytest.raises(ConfigError, match="lines 0 to 7"):
        Candidates(operator, -1, frozenset([8]))
    with pytest.raises(ConfigError, match="count axes from the last"):
        Candidates(operator, 1, frozenset())
    with pytest.raises(ConfigError, match="count"):
        Particles(count=1)
