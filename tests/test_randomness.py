"""Noise of a run: a function of the seed and the item's name, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from restore.randomness import Draws

MOMENT = 0.01  # means and deviations over 80,000 draws are 0.35 % uncertain
CORRELATION = 0.02  # means of 80,000 products are 0.35 % uncertain


def drawn(seed: int, ids: list[str], shape=(4, 5), dtype=torch.float32) -> torch.Tensor:
    draws = Draws(seed, ids)
    like = torch.empty(len(ids), *shape, dtype=dtype)
    return torch.stack([draws.normal_like(like, len(shape)) for _ in range(2)], dim=1)


def test_an_item_gets_its_noise_in_any_company():
    whole = drawn(3, ["a", "b", "c"])
    assert torch.equal(drawn(3, ["b"])[0], whole[1])
    assert torch.equal(drawn(3, ["c", "a"]), whole[[2, 0]])


@pytest.mark.parametrize("seed", [0, 1, -7, 2**70])
def test_any_integer_is_a_seed_of_its_own(seed):
    x = drawn(seed, ["a", "b"])
    assert torch.equal(x, drawn(seed, ["a", "b"]))
    assert not torch.equal(x, drawn(seed + 1, ["a", "b"]))
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(x[:, 0], x[:, 1])


def test_precisions_see_the_same_noise():
    assert torch.equal(drawn(0, ["a"], dtype=torch.float64), drawn(0, ["a"]).double())
    both = drawn(0, ["a"], dtype=torch.complex128)
    assert torch.equal(both, drawn(0, ["a"], dtype=torch.complex64).to(torch.complex128))


def test_moments_and_independence():
    x = drawn(5, ["a", "b"], shape=(200, 200))
    assert x.mean().abs() < MOMENT
    assert (x.std() - 1).abs() < MOMENT
    c = drawn(5, ["a"], shape=(200, 200), dtype=torch.complex64)
    for part in (c.real, c.imag):
        assert (part.std() - 1).abs() < MOMENT
    assert (c.real * c.imag).mean().abs() < CORRELATION
    assert (x[0] * x[1]).mean().abs() < CORRELATION


@pytest.mark.parametrize("r", [-0.9, 0.5, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_neighbouring_slices_correlate_and_each_is_standard(r, dtype):
    like = torch.empty(2, 3, 200, 200, dtype=dtype)
    ids = [str(k) for k in range(6)]
    x = Draws(5, ids).along_slices(r, -3).normal_like(like, 2)
    plain = Draws(5, ids).normal_like(like, 2)
    assert torch.equal(x[:, 0], plain[:, 0])
    for v in (x.real, x.imag) if x.is_complex() else (x,):
        assert ((v.std((-2, -1)) - 1).abs() < MOMENT * 2).all()
        for volume in v:
            for lag in (1, 2):
                product = (volume[lag:] * volume[:-lag]).mean((-2, -1))
                assert ((product - r**lag).abs() < CORRELATION).all()
        assert (v[0] * v[1]).mean((-2, -1)).abs().max() < CORRELATION  # volumes do not mix


def test_slices_without_correlation_are_the_plain_draws():
    draws = Draws(0, ["a", "b"])
    assert draws.along_slices(0, -3) is draws


def test_batches_of_any_rank_are_rows_of_items():
    ids = [str(i) for i in range(6)]
    flat = Draws(0, ids).normal_like(torch.empty(6, 3, 3), 2)
    nested = Draws(0, ids).normal_like(torch.empty(2, 3, 3, 3), 2)
    assert torch.equal(nested.reshape(6, 3, 3), flat)
    single = Draws(0, ["0"]).normal_like(torch.empty(3, 3), 2)
    assert torch.equal(single, flat[0])


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    drawn(0, ["a"])
    assert torch.equal(state, torch.random.get_rng_state())
