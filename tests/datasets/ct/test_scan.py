"""A sinogram as a scan: noise model and scale for all slices, one projector, what it says of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from restore.datasets.ct.scan import CTScan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.phantom import ct_phantom
from restore.errors import ConfigError, InputError
from restore.noise import Exact, Gaussian, PostLogPoisson

ESTIMATED = 0.2  # an estimate from some hundred bins of air

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scan() -> CTScan:
    return simulate_ct(ct_phantom((5, 40, 32)), views=20, photons=1e4, slices=slice(0, 5, 2))


def test_noise_of_counts_by_photons_or_by_the_noise_of_air(scan):
    assert scan.setup().noise == PostLogPoisson(1e4)
    assert scan.setup().record["noise_std"] == pytest.approx(0.01)
    bare = dataclasses.replace(scan, photons=None)
    assert bare.setup().noise == PostLogPoisson(scan.noise_std**-2)
    unknown = dataclasses.replace(bare, noise_std=None)
    assert unknown.setup().record["noise_std"] == pytest.approx(0.01, rel=ESTIMATED)
    given = scan.setup(SetupOptions(noise_std=0.5))
    assert (given.noise, given.record["noise_std"]) == (Gaussian(0.5), 0.5)
    assert scan.setup(SetupOptions(noise_std=0)).noise == Exact()


@pytest.mark.parametrize(
    ("photons", "words"),
    [
        (1e4, ""),
        (1e6, "noise stays in the result"),
        (1e2, "details are lost"),
        (3e3, ""),
        (3e4, ""),
    ],
)
def test_photons_that_the_air_contradicts_are_said(scan, photons, words):
    """An attribute in other units (per pixel, in thousands) weighs every ray wrong by the same factor."""
    stated = dataclasses.replace(scan, photons=photons, notes=[])
    stated.setup()
    said = [n for n in stated.notes if "ray through air is stated" in n]
    assert len(said) == bool(words)
    assert all(words in n for n in said)
    quiet = dataclasses.replace(scan, notes=[])
    quiet.setup(SetupOptions(noise_std=photons**-0.5))
    assert bool(words) == any(words in n for n in quiet.notes if words)


def test_problems_share_scale_and_projector(scan):
    setup = scan.setup()
    first, second = (setup.problem(range(i, i + 1), CPU) for i in (0, 2))
    assert first.operator is second.operator
    assert first.scaling == second.scaling
    assert first.scaling.scale == pytest.approx(2.5 * scan.mu_water)  # 2500 HU
    assert second.ids == ("slice 4",)
    np.testing.assert_array_equal(second.y.numpy(), scan.sinogram[2:3])


def test_options_of_other_scans_mean_nothing(scan):
    for options in (SetupOptions(maps="espirit"), SetupOptions(remove_phase=False)):
        with pytest.raises(ConfigError, match="means nothing for a CT scan"):
            scan.setup(options)


def test_what_it_says_of_itself(scan):
    assert (scan.kind, scan.task, scan.abilities >= {"backprojects"}) == ("ct", "", True)
    assert (scan.modality, scan.first_look, str(scan)) == ("CT", "fbp", "a sinogram in simulated")
    assert scan.shape == (3, *scan.geometry.sinogram_shape)
    assert (scan.image_shape, scan.values_per_slice) == ((40, 32), 40 * 32)
    assert (scan.units, scan.sampling) == ("HU", "20 views")
    water = torch.full((1, 2, 40, 32), scan.mu_water)
    np.testing.assert_allclose(scan.in_source_units(water), 0, atol=1e-3)  # of 1000 HU in float32
    np.testing.assert_array_equal(scan.image_of(1), scan.reference[1])
    with pytest.raises(InputError, match="without reference images"):
        dataclasses.replace(scan, reference=None).image_of(1)
