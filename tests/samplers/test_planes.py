"""Planes of a volume by turns: which ones a step takes, and who may ask for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve_problem
from restore.noise import Gaussian
from restore.operators.diagonal import Identity
from restore.priors.base import Denoiser
from restore.problem import Problem
from restore.samplers.toolbox.planes import Planes, plane_and_turn


class Witness(Denoiser):
    """Changes nothing and remembers the planes that it saw."""

    channels, name, complex_mode = 1, "witness", "separate"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x.clone()


def test_all_orientations_of_a_network_meet_all_planes():
    for planes, across in (("through", {-1, -2}), ("all", {-1, -2, -3}), ("slices", {-3})):
        met = {plane_and_turn(planes, i) for i in range(8 * len(across))}
        assert met == {(axis, turn) for axis in across for turn in range(8)}


@pytest.mark.parametrize("planes", ["slices", "through", "all"])
def test_dds_asks_the_network_for_these_planes(planes: Planes):
    y = torch.rand(8, 9, 10, generator=torch.Generator().manual_seed(0))
    problem, witness = Problem(y, Identity((9, 10)), Gaussian(0.1)), Witness()
    solve_problem(problem, prior=witness, sampler="dds", n_steps=3, turns=False, planes=planes)
    by = {-3: (8, 1, 9, 10), -2: (9, 1, 8, 10), -1: (10, 1, 8, 9)}
    seen = [shape for shape in witness.shapes if shape[0] > 2]  # without the trial at the door
    assert seen == [by[plane_and_turn(planes, i)[0]] for i in range(3)]


def test_a_photograph_has_no_other_planes():
    y = torch.rand(3, 9, 10, generator=torch.Generator().manual_seed(0))
    problem = Problem(y, Identity((3, 9, 10)), Gaussian(0.1))
    with pytest.raises(ConfigError, match="no slices in front of rows and columns"):
        solve_problem(problem, prior=Witness(), sampler="dds", n_steps=1, planes="through")
