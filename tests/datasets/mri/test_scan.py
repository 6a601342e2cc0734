"""K-space as a scan: one scale and one level for all slices, maps and phase by choice, what it says of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from restore.datasets.mri.pattern.masks import make_mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.front_door import solve_problem
from restore.noise import Exact

SINGLE = 1e-5  # float32: sums in another order, 6e-8 each

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scan() -> MRIScan:
    head = head_phantom((5, 64, 60))
    return simulate_mri(head, coils=3, acceleration=2, center_fraction=0.2, slices=slice(0, 5, 2))


def with_kspace(scan: MRIScan, factors: tuple[float, ...]) -> MRIScan:
    """Slices that are so many times as bright as slice 0."""
    stack = LazyStack(
        (len(factors), *scan.shape[1:]), lambda i: scan.kspace[0] * np.float32(factors[i])
    )
    return dataclasses.replace(
        scan, kspace=stack, slice_indices=tuple(range(len(factors))), maps=None, reference=None
    )


def test_the_brightest_slice_sets_the_scale(scan):
    alone = with_kspace(scan, (1.0,)).setup().scaling.scale
    for factors in ((1.0, 8.0, 1.0), (0.25, 0.25, 8.0), (8.0,)):
        found = with_kspace(scan, factors).setup().scaling
        # One FFT of single precision, scaled by a power of two, a square root and a linear interpolation.
        assert found.scale == pytest.approx(8 * alone, rel=SINGLE)
    assert found.rule == "0.999 quantile of the calibration image"


def test_levels_that_are_not_given_are_the_median_of_the_slices(scan):
    noisy = dataclasses.replace(with_kspace(scan, (1.0, 2.0, 16.0)), noise_std=None)
    one = dataclasses.replace(with_kspace(scan, (1.0,)), noise_std=None)
    level = one.setup().record["noise_std"]
    assert noisy.setup().record["noise_std"] == pytest.approx(2 * level, rel=SINGLE)
    assert noisy.setup(SetupOptions(noise_std=3.0)).noise.std == 3.0
    silent = noisy.setup(SetupOptions(noise_std=0.0))
    assert silent.noise == Exact()
    assert silent.problem(range(1), CPU).noise == Exact()
    assert dataclasses.replace(noisy, noise_std=0.5).setup().record["noise_std"] == 0.5


def test_maps_and_phase_by_choice(scan):
    given = scan.problem(range(1, 3), CPU, SetupOptions(remove_phase=False))
    torch.testing.assert_close(
        given.operator.maps, torch.from_numpy(scan.maps[1:3]), rtol=0, atol=0
    )
    assert given.ids == ("slice 2", "slice 4")
    assert given.y.shape == (2, 3, 64, 60)
    folded = scan.problem(range(1, 3), CPU).operator.maps
    torch.testing.assert_close(folded.abs(), given.operator.maps.abs())
    assert not torch.allclose(folded, given.operator.maps)
    found = scan.setup(SetupOptions(maps="espirit"))
    assert found.record["maps"] == "espirit"
    overlap = (
        found.problem(range(1), CPU).operator.maps
        * scan.problem(range(1), CPU).operator.maps.conj()
    ).sum(1)
    assert overlap.abs()[0, 20:44, 16:44].min() > 0.95
    assert scan.setup().record["maps"] == "file"
    with pytest.raises(ConfigError, match="--maps espirit"):
        with_kspace(scan, (1.0,)).setup(SetupOptions(maps="file"))


@pytest.mark.parametrize(
    "options", [{"maps": "walsh"}, {"noise_std": -1.0}, {"noise_std": float("inf")}]
)
def test_options_out_of_range(options):
    with pytest.raises(ConfigError):
        SetupOptions(**options)


def test_what_it_says_of_itself(scan):
    assert (scan.kind, scan.task, scan.abilities) == ("mri", "", None)
    assert (scan.modality, scan.first_look, str(scan)) == (
        "MR",
        "zerofilled",
        "k-space in simulated",
    )
    assert scan.shape == (3, 3, 64, 60)
    assert scan.image_shape == (64, 60)
    assert scan.values_per_slice == 2 * 64 * 60
    assert scan.units == "arbitrary"
    assert scan.sampling == "random, 30 of 60 samples"
    cut = dataclasses.replace(scan, recon_shape=(50, 40))
    values = torch.full((2, 3, 64, 60), 3 + 4j)
    assert (cut.in_source_units(values) == np.full((2, 3, 50, 40), 5, np.float32)).all()
    assert cut.empty_volume().data.shape == (3, 50, 40)
    np.testing.assert_array_equal(cut.empty_volume().affine, scan.affine)
    np.testing.assert_array_equal(scan.image_of(1), scan.reference[1])
    bare = dataclasses.replace(scan, reference=None)
    full = simulate_mri(head_phantom((5, 64, 60)), coils=3, acceleration=1, noise=0)
    assert bare.image_of(1).shape == (64, 60)
    # The root sum of squares over maps of unit norm is the image itself, in single precision.
    combined = dataclasses.replace(full, reference=None).image_of(2)
    np.testing.assert_allclose(combined, full.reference[2], atol=1e-4 * combined.max())


ALONE = 1e-4  # single precision: 30 steps of CG, sums of a batch in another order; 3e-6 seen


def test_slices_with_masks_of_their_own_are_what_each_is_alone():
    full = simulate_mri(head_phantom((3, 24, 32)), coils=4, acceleration=1)
    masks = np.stack([make_mask("random", (24, 32), 2, 0.15, seed) for seed in range(3)])[:, None]
    kspace = LazyStack(full.shape, lambda i: full.kspace[i] * masks[i])
    setup = dataclasses.replace(full, mask=masks, kspace=kspace).setup(SetupOptions(maps="espirit"))
    together = solve_problem(setup.problem(range(3), CPU), sampler="cgsense").image
    for i in range(3):
        alone = solve_problem(setup.problem(range(i, i + 1), CPU), sampler="cgsense").image[0]
        assert (together[i] - alone).norm() < ALONE * alone.norm()
