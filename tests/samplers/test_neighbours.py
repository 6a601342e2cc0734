"""Correlated noise of neighbouring slices: what it does to a run, where it is off, where it is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.diagonal import Identity
from restore.priors.analytic import GaussianPrior
from restore.registry import load_sampler
from restore.samplers.base import Planned, Sampler
from restore.samplers.dds import DDS

SHAPE = (8, 8)
NAMES = ["dds", "diffusionmbir"]


def sampler(name: str, r: float) -> Sampler:
    return load_sampler(name)(n_steps=2, tv_weight=0.01, z_noise=r)


def solved(name: str, r: float, samples: int = 1):
    y = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prior = GaussianPrior(torch.full(SHAPE, 0.5, dtype=torch.float64), spectrum=0.1)
    chosen = sampler(name, r)
    return solve(y, Identity(SHAPE), noise=0.1, prior=prior, sampler=chosen, samples=samples)


@pytest.mark.parametrize("name", NAMES)
def test_slices_are_coupled_by_their_noise(name):
    plain, mixed = solved(name, 0.0), solved(name, -0.9)
    assert not torch.equal(plain.image[1:], mixed.image[1:])
    assert torch.equal(mixed.image, solved(name, -0.9).image)
    assert load_sampler(name)(tv_weight=0.0, z_noise=-0.9).couples_slices
    assert not load_sampler(name)(tv_weight=0.0).couples_slices


@pytest.mark.parametrize("name", NAMES)
def test_several_samples_have_independent_slices_and_say_so(name):
    several = solved(name, -0.9, samples=2)
    assert torch.equal(several.image, solved(name, 0.0, samples=2).image)
    assert several.provenance["settings"]["z_noise"] == 0
    assert sum("z_noise is 0 instead of -0.9" in note for note in several.notes) == 1
    assert not any("z_noise" in note for note in solved(name, -0.9).notes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tv", "notes"), [(0.0, 1), (0.01, 0)])
def test_opposed_noise_that_nothing_averages_is_noted(name, tv, notes):
    _, said = load_sampler(name)(tv_weight=tv, z_noise=-0.9).for_samples(1)
    assert sum("tv_weight 0" in note for note in said) == notes


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_the_preset_for_volumes_is_the_tuned_one_with_slices_joined(kind):
    tuned, volume = (DDS.configured(name, Planned(kind), {}) for name in ("tuned", "volume"))
    joined = dataclasses.replace(tuned, tv_weight=volume.tv_weight, z_noise=volume.z_noise)
    assert joined == volume
    assert volume.tv_weight > 0 > volume.z_noise
    assert not tuned.couples_slices
    other = load_sampler("diffusionmbir").configured("tuned", Planned(kind), {})
    assert other.z_noise == volume.z_noise


def test_a_single_image_has_no_neighbours():
    chosen = load_sampler("dds")(n_steps=2, z_noise=-0.9)
    with pytest.raises(ConfigError, match=r"z_noise correlates .* no slice dimension; give"):
        solve(torch.ones(SHAPE), Identity(SHAPE), noise=0.1, sampler=chosen)
