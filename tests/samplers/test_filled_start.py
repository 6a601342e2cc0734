"""Chains begin at holes that are filled: a large one does not come out dark."""

from __future__ import annotations

import pytest
import torch

from restore.front_door import solve
from restore.linalg.pyramid import push_pull
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.problem import Problem
from restore.samplers.base import traits_of
from restore.samplers.toolbox.smooth_start import filled

SINGLE = 1e-5  # float32: means of a few hundred values of order one, 6e-8 each


def hole(side: int, width: int) -> torch.Tensor:
    known = torch.ones(side, side)
    known[side // 2 - width // 2 :, side // 2 - width // 2 :][:width, :width] = 0
    return known


@pytest.mark.parametrize("width", [3, 40, 63])
def test_a_flat_picture_is_filled_to_the_digit_however_large_its_hole(width):
    known = hole(64, width)
    truth = torch.full((2, 3, 64, 64), 0.6)
    problem = Problem(truth * known, Inpainting(known, (3, 64, 64)))
    torch.testing.assert_close(filled(problem), truth, rtol=SINGLE, atol=0)


def test_known_pixels_stay_and_slices_of_volumes_are_filled_from_their_neighbours():
    ramp = torch.arange(1.0, 9).reshape(8, 1, 1).expand(8, 12, 12).contiguous()
    known = torch.ones(8, 12, 12)
    known[3] = 0
    problem = Problem(ramp * known, Inpainting(known, (8, 12, 12)), planes=(0, 1, 2))
    found = filled(problem)
    torch.testing.assert_close(found[known == 1], ramp[known == 1], rtol=SINGLE, atol=0)
    assert float((found[3] - ramp[3]).abs().max()) < 1.5  # of 8; zeros would be 4 off


def test_what_selects_no_pixels_starts_as_before():
    problem = Problem(torch.rand(1, 1, 8, 8), Downsample((1, 16, 16), 2))
    assert filled(problem) is problem.degraded


def test_weights_say_what_counts():
    x, weight = torch.tensor([[0.0, 1.0, 1.0, 9.0]]), torch.tensor([[1e-9, 1.0, 1.0, 1e-9]])
    found = push_pull(x.reshape(1, 1, 1, 4), weight.reshape(1, 1, 1, 4))
    torch.testing.assert_close(found.flatten(), torch.ones(4), rtol=SINGLE, atol=0)


def test_a_large_hole_of_a_bright_picture_is_not_left_dark():
    """`dds` as it comes, the bundled prior, a box of 40 pixels: of 0.7 on the rim, 0.24 was left of it before."""
    known = hole(64, 40)
    truth = torch.full((3, 64, 64), 0.7)
    operator = Inpainting(known, (3, 64, 64))
    assert traits_of(operator).task == "inpaint"
    result = solve(truth * known, operator, noise=0.01, sampler="dds", n_steps=10)
    assert float(result.image[:, known == 0].mean()) > 0.6
