"""The optimiser: orthogonal directions, the right parameters in each group, and plain Adam."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.priors.unet import UNet, UNetConfig
from restore.training.muon import MuonAdam, orthogonalise, split_parameters

BFLOAT = 1e-3  # five iterations of products of a normalised matrix; 1e-6 seen
SINGLE = 1e-4  # float32: some steps of the same products in another order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (6, 3, 3, 3)])
def test_singular_values_land_near_one(shape, dtype, generator):
    out = orthogonalise(torch.randn(shape, generator=generator), dtype=dtype)
    assert (out.shape, out.dtype) == (shape, torch.float32)
    values = torch.linalg.svdvals(out.flatten(1))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_direction_ignores_the_length_and_a_zero_gradient_is_harmless(generator):
    g = torch.randn(5, 7, generator=generator)
    torch.testing.assert_close(orthogonalise(1e4 * g), orthogonalise(g), rtol=BFLOAT, atol=BFLOAT)
    assert torch.equal(orthogonalise(torch.zeros(5, 7)), torch.zeros(5, 7))


def test_parameters_are_split_by_role():
    network = UNet(UNetConfig(widths=(8, 8), blocks=(1, 1), embedding=16))
    kernels, others = (group["params"] for group in split_parameters(network).param_groups)
    names = {id(p): n for n, p in network.named_parameters()}
    assert all(p.ndim == 4 for p in kernels)
    assert len(kernels) + len(others) == len(names)
    assert {"enter.weight", "leave.weight"} <= {names[id(p)] for p in others}


def test_the_other_group_is_adam(generator):
    start = torch.randn(6, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = MuonAdam([], [ours], lr_adam=1e-2)
    reference = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(5):
        gradient = torch.randn(6, generator=generator)
        for p, optimiser in ((ours, mine), (theirs, reference)):
            p.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=SINGLE, atol=SINGLE)


def test_factor_scales_and_missing_gradients_are_left():
    a, b = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimiser = MuonAdam([a, b], [])
    optimiser.factor = 0.0
    a.grad = torch.eye(3)
    optimiser.step()
    assert torch.equal(a, torch.ones(3, 3))
    optimiser.factor = 1.0
    optimiser.step()
    assert not torch.equal(a, torch.ones(3, 3))
    assert torch.equal(b, torch.ones(3, 3))
