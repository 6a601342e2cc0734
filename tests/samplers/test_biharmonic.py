"""Biharmonic inpainting: scikit-image's surface, masks of any form, complex pictures, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.restoration import inpaint_biharmonic

import restore
from restore.errors import ConfigError
from restore.metrics import psnr
from restore.operators import Identity, Inpainting
from restore.registry import load_sampler

SOLVED = 1e-9  # float64: one sparse solution; a plane has no second differences


def photograph(side: int = 64) -> torch.Tensor:
    return torch.from_numpy(samples.astronaut()[:side, 180 : 180 + side] / 255.0).movedim(-1, 0)


def mask(shape: tuple[int, ...] = (64, 64), keep: float = 0.3, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=g) < keep).double()


def filled(y: torch.Tensor, known: torch.Tensor, **more) -> torch.Tensor:
    operator = Inpainting(known, tuple(y.shape[-3:]))
    return restore.solve(operator(y), operator, sampler="biharmonic", **more).image


def test_it_is_scikit_image_and_keeps_what_is_known():
    x, known = photograph(), mask()
    found = filled(x, known)
    expected = inpaint_biharmonic((x * known).numpy(), known.numpy() == 0, channel_axis=0)
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(found * known, x * known)
    assert psnr(found, x, data_range=1.0) > psnr(x * known, x, data_range=1.0) + 15


def test_a_plane_is_continued_exactly():
    rows, columns = torch.meshgrid(*[torch.arange(24, dtype=torch.float64)] * 2, indexing="ij")
    plane = (0.01 * rows + 0.02 * columns)[None]
    known = torch.ones(24, 24)
    known[8:15, 5:20] = 0
    # A sparse system of 105 unknowns in double precision.
    torch.testing.assert_close(filled(plane, known), plane, atol=SOLVED, rtol=0)


def test_every_channel_may_have_a_mask_of_its_own():
    x, known = photograph(32), mask((3, 32, 32))
    known[1] = 1
    found = filled(x, known)
    assert torch.equal(found[1], x[1])
    for c in (0, 2):
        assert torch.equal(found[c], filled(x[c][None], known[c])[0])


def test_batches_and_complex_pictures():
    x = torch.stack([photograph(32), photograph(64)[:, 32:, 32:]])
    known = mask((32, 32))
    together = filled(x, known)
    assert torch.equal(together[1], filled(x[1], known))
    both = torch.complex(x[0], x[1])
    found = filled(both, known)
    assert torch.equal(found.real, together[0])
    assert torch.equal(found.imag, together[1])
    single = filled(x[0].float(), known.float())
    assert single.dtype == torch.float32


def test_nothing_missing_and_nothing_known():
    x = photograph(16)
    assert torch.equal(filled(x, torch.ones(16, 16)), x)
    known = torch.ones(3, 16, 16)
    known[2] = 0
    with pytest.raises(ConfigError, match="nothing is known"):
        filled(x, known)


def test_other_tasks_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"biharmonic serves inpainting.*nlm"):
        restore.solve(torch.zeros(3, 8, 8), Identity((3, 8, 8)), sampler="biharmonic")
    assert load_sampler("biharmonic").prior_kinds == ()
